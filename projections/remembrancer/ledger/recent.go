package ledger

import "vaultmesh.cloud/vaultmesh/events"

// generation is how many keys one generation of recent holds; two are kept.
const generation = 32 << 10

// recent answers most questions to the duplicate index from memory. It holds the
// newest keys, and for all ids of the form UUIDv7 that it has forgotten the
// largest (the floor): such an id beyond the floor that is not held was never
// accepted. UUIDv7 ids grow with time, so new ones lie beyond the floor. Other
// ids only cost a read of the store.
type recent struct {
	young, old map[string]place
	top        events.ID // largest UUIDv7 in young
	oldTop     events.ID // largest UUIDv7 in old
	floor      events.ID // largest UUIDv7 forgotten, or in the store at the start
}

// A place is where an accepted entry stands.
type place struct {
	index uint64
	leaf  Hash
}

func newRecent(floor events.ID) *recent {
	return &recent{young: map[string]place{}, old: map[string]place{}, floor: floor}
}

// grows reports whether an id has the form of a UUIDv7 (RFC 9562 section 5.7).
// One that only looks so is harmless: order is all that counts.
func grows(id events.ID) bool { return len(id) == 36 && id[14] == '7' }

// find returns the place of a key. sure is false when only the store knows.
func (r *recent) find(key []byte, id events.ID) (p place, found, sure bool) {
	if p, ok := r.young[string(key)]; ok {
		return p, true, true
	}
	if p, ok := r.old[string(key)]; ok {
		return p, true, true
	}
	return place{}, false, grows(id) && id > r.floor
}

func (r *recent) add(key []byte, id events.ID, p place) {
	if len(r.young) >= generation {
		r.floor = max(r.floor, r.oldTop)
		spare := r.old
		clear(spare)
		r.old, r.oldTop = r.young, r.top
		r.young, r.top = spare, ""
	}
	r.young[string(key)] = p
	if grows(id) {
		r.top = max(r.top, id)
	}
}
