// Package seal signs the ledger's tree heads and publishes them, at most one
// branch of history ever, and then releases the producers' receipts.
package seal
