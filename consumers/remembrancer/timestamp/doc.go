// Package timestamp has published checkpoints stamped by time-stamping
// authorities (RFC 3161) and records each token in the log, so that later
// entries are provably later.
package timestamp
