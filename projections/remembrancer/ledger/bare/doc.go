// Package bare is the least that a ledger on this bus and this store could do:
// atomic batches published, fetched, hashed and written in synced batches with a
// random-key index. It checks nothing. The real pipeline is measured against it,
// in the same run on the same machine.
package bare
