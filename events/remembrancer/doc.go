// Package remembrancer holds the facts of layer 2: deployments, artifacts,
// decisions, incidents, the ledger's own housekeeping, and federation.
package remembrancer
