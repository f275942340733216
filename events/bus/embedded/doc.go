// Package embedded runs a NATS server with JetStream inside this process, locked
// to its store directory, and issues credentials for it.
package embedded
