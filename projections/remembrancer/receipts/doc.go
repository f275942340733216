// Package receipts folds the streams HEADS and SEALS into a store that answers
// which published checkpoint covers a leaf, and with which tokens.
//
// # Keys
//
// Integers are big-endian.
//
//	h <size:8>             → Head, JSON
//	s <size:8> <seq:8>     → Seal of the checkpoint of that size, JSON
//	x <size:8>             → nothing; the checkpoint has a time-stamp token
//	p <stream>             → last folded sequence:8
//
// The store is written without syncing: it is rebuilt from the streams, which
// are.
package receipts
