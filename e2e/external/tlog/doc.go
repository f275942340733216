// Package tlog shows VaultMesh's log to transparency-log clients that others
// wrote: torchwood's library and tessera's fsck. It is a module of its own, since
// they need dependencies, and a toolchain, that the product does not.
package tlog
