// Package ledger folds the stream of events into an append-only RFC 6962 Merkle
// log on Pebble and serves it as C2SP tlog-tiles.
//
// # Keys
//
// All integers are big-endian; a key that ends in an offset holds a segment,
// the consecutive items that one commit added to a tile or bundle, so every byte
// is written once and a partial tile is the concatenation of its segments.
//
//	s                                  → state, JSON (see [Head])
//	e <bundle:8> <offset:1>            → entries, each uint16 length and bytes (tlog-tiles entry bundle)
//	h <level:1> <tile:8> <offset:1>    → hashes, 32 bytes each (tlog-tiles)
//	i <id> 00 <source>                 → index:8, of the first accepted event of that (source, id)
//	t <type> 00 <index:8>              → indexes of that type in one commit, as uvarint
//	                                     steps from the first, which stands in the key
//	d <sha256:32> <index:8>            → nothing; entries about an artifact
//	v <index:8>                        → why an event does not fit its schema; valid ones have no key
//	q <index:8>                        → reason code of a quarantine entry
//	r <leaf:32>                        → index:8, of a quarantine entry
//
// The layout's version stands in the state; a store of another version is
// refused, and rebuilt from the stream.
package ledger
