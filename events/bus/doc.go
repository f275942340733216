// Package bus is how services speak on VaultMesh: it publishes events with group
// commit, an outbox and receipts, follows streams without losing a message, reads
// and compare-and-sets single subjects, and stores blobs by digest.
//
// The broker is transport, the ledger is the record. So nothing here relies on
// what the broker remembers about a client: a repeat of an event is skipped by the
// fold's (source, id) index and not by message ids, and a follower's position is
// its own and not an acknowledgement.
package bus
