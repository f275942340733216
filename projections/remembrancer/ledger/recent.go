package ledger

import "vaultmesh.cloud/vaultmesh/events"

// generation is how many keys one generation of recent holds; two are kept.
const generation = 32 << 10

// anyID is beyond every id: with it as floor, only the store knows.
const anyID events.ID = "\x7f"

// recent answers most questions to the duplicate index from memory. It holds the
// newest keys, and for all that it has forgotten the largest id among them: an id
// beyond that floor which is not held was never accepted. Ids that grow with time,
// as UUIDv7 do, stay beyond the floor; others only cost a read of the store.
type recent struct {
	young, old map[string]place
	top        events.ID // largest id in young
	oldTop     events.ID // largest id in old
	floor      events.ID // largest id forgotten, or in the store at the start
}

// A place is where an accepted entry stands.
type place struct {
	index uint64
	leaf  Hash
}

func newRecent(floor events.ID) *recent {
	return &recent{young: map[string]place{}, old: map[string]place{}, floor: floor}
}

// find returns the place of a key. sure is false when only the store knows.
func (r *recent) find(key []byte, id events.ID) (p place, found, sure bool) {
	if p, ok := r.young[string(key)]; ok {
		return p, true, true
	}
	if p, ok := r.old[string(key)]; ok {
		return p, true, true
	}
	return place{}, false, id > r.floor
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
	r.top = max(r.top, id)
}
