// Package record turns checked intentions into facts: deployments, decisions,
// incidents, signatures, time stamps, and events that others made. Each is one
// published event whose leaf is waited for, so that a caller learns where it
// stands in the log, or why it does not.
//
// A repeat of an intention is recognised by the event it made, without a store
// of its own: an idempotency key gives the event its id, and the ledger knows
// ids for ever.
package record
