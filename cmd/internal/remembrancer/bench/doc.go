// Package bench measures the ledger's path on this machine: what `vaultmesh up`
// runs, against the least that could be run.
package bench
