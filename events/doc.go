// Package events holds what every part of VaultMesh says to the others: the
// CloudEvents envelope, the registry of payload types, and the catalogue of
// subjects and streams.
package events
