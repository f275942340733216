package reads

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// Bounds of one page.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
	// maxPage is how many bytes of events a page holds at most, one event more
	// or less; scanBudget how many entries are looked at for it.
	maxPage    = 4 << 20
	scanBudget = 20_000
)

// An Entry is one leaf: an event, or a quarantine entry for a message that is
// not one.
type Entry struct {
	Index      uint64             `json:"index"`
	LeafHash   string             `json:"leaf_hash"`            // hex, RFC 6962
	Event      json.RawMessage    `json:"event,omitempty"`      // its canonical bytes, the leaf's preimage
	Verdict    string             `json:"verdict,omitempty"`    // why it does not fit its schema
	Quarantine *ledger.Quarantine `json:"quarantine,omitempty"` // instead of an event
}

func newEntry(e ledger.Entry) Entry {
	leaf := proof.LeafHash(e.Bytes)
	out := Entry{Index: e.Index, LeafHash: hex.EncodeToString(leaf[:]), Verdict: e.Verdict, Quarantine: e.Quarantine}
	if e.Quarantine == nil {
		out.Event = e.Bytes
	}
	return out
}

// Entry returns the entry at index.
func (r *Reader) Entry(_ context.Context, index uint64) (Entry, error) {
	e, err := r.entry(index)
	if err != nil {
		return Entry{}, err
	}
	return newEntry(e), nil
}

func (r *Reader) entry(index uint64) (ledger.Entry, error) {
	e, err := r.o.Ledger.Entry(index)
	if errors.Is(err, ledger.ErrNotFound) {
		return e, fmt.Errorf("%w: entry %d, the log has %d", ErrNotFound, index, r.o.Ledger.Head().Size)
	}
	return e, err
}

// Event returns the event with this id. The source may be empty while only one
// source used the id.
func (r *Reader) Event(_ context.Context, id events.ID, source events.Source) (Entry, error) {
	e, err := r.find(id, source)
	if err != nil {
		return Entry{}, err
	}
	return newEntry(e), nil
}

func (r *Reader) find(id events.ID, source events.Source) (ledger.Entry, error) {
	if source != "" {
		index, err := r.o.Ledger.Lookup(source, id)
		if errors.Is(err, ledger.ErrNotFound) {
			return ledger.Entry{}, fmt.Errorf("%w: event %q from %q", ErrNotFound, clip(string(id)), clip(string(source)))
		}
		if err != nil {
			return ledger.Entry{}, err
		}
		return r.entry(index)
	}
	found, err := r.o.Ledger.ByID(id)
	switch {
	case err != nil:
		return ledger.Entry{}, err
	case len(found) == 0:
		return ledger.Entry{}, fmt.Errorf("%w: event %q", ErrNotFound, clip(string(id)))
	case len(found) > 1:
		var sources []events.Source
		for _, index := range found[:min(len(found), 8)] {
			e, err := r.entry(index)
			if err != nil {
				return e, err
			}
			sources = append(sources, e.Event.Source)
		}
		return ledger.Entry{}, fmt.Errorf("%w: %d sources used the id %q: add source, one of %q", ErrBadRequest, len(found), clip(string(id)), sources)
	}
	return r.entry(found[0])
}

// A Query selects entries. Its zero value is the oldest page of all.
type Query struct {
	Type   events.Type // exactly; empty is any, quarantine entries too
	Digest string      // about the artifact with this hex SHA-256
	From   uint64      // the smallest index
	Limit  int         // 0 is DefaultLimit, the most is MaxLimit
}

// A Page holds entries in the order of the log.
type Page struct {
	Events []Entry `json:"events"`
	Next   uint64  `json:"next,omitzero"` // From of the next page; absent at the end
}

// Events returns a page of entries.
func (r *Reader) Events(_ context.Context, q Query) (Page, error) {
	limit, err := checkLimit(q.Limit)
	if err != nil {
		return Page{}, err
	}
	page := Page{Events: []Entry{}}
	size := 0
	// add reports whether the page has room for another.
	add := func(e ledger.Entry) bool {
		page.Events = append(page.Events, newEntry(e))
		size += len(e.Bytes)
		return len(page.Events) < limit && size < maxPage
	}
	if q.Type == "" && q.Digest == "" {
		next, err := r.scan(q.From, add)
		page.Next = next
		return page, err
	}
	found, err := r.index(q, limit+1)
	if err != nil {
		return Page{}, err
	}
	for i, index := range found {
		e, err := r.entry(index)
		if err != nil {
			return Page{}, err
		}
		if !add(e) {
			if i+1 < len(found) {
				page.Next = found[i+1]
			}
			break
		}
	}
	return page, nil
}

// scan calls fn with the entries from an index on until it returns false, and
// returns the index after the last, 0 at the end of the log.
func (r *Reader) scan(from uint64, fn func(ledger.Entry) bool) (next uint64, err error) {
	head := r.o.Ledger.Head()
	errStop := errors.New("enough")
	err = r.o.Ledger.Entries(from, head.Size, func(e ledger.Entry) error {
		next = e.Index + 1
		if !fn(e) {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	if next >= head.Size {
		next = 0
	}
	return next, err
}

// index returns the indexes that a query with a type or digest selects.
func (r *Reader) index(q Query, limit int) ([]uint64, error) {
	if q.Digest == "" {
		return r.o.Ledger.ByType(q.Type, q.From, limit)
	}
	found, err := r.byDigest(q.Digest)
	if err != nil {
		return nil, err
	}
	at, _ := slices.BinarySearch(found, q.From)
	found = found[at:]
	if q.Type == "" {
		return found[:min(limit, len(found))], nil
	}
	var out []uint64
	for _, index := range found {
		e, err := r.entry(index)
		if err != nil {
			return nil, err
		}
		if e.Event.Type == q.Type {
			if out = append(out, index); len(out) == limit {
				break
			}
		}
	}
	return out, nil
}

func (r *Reader) byDigest(digest string) ([]uint64, error) {
	var sum [32]byte
	if !events.IsSHA256(digest) {
		return nil, fmt.Errorf("%w: digest %q must be 64 lower-case hex digits of a SHA-256", ErrBadRequest, clip(digest))
	}
	if _, err := hex.Decode(sum[:], []byte(digest)); err != nil {
		return nil, fmt.Errorf("%w: digest: %w", ErrBadRequest, err)
	}
	return r.o.Ledger.ByDigest(sum)
}

// An Artifact is what the log knows of a file.
type Artifact struct {
	SHA256 string  `json:"sha256"`
	Events []Entry `json:"events"` // oldest first
}

// Artifact returns the events about the file with this hex SHA-256.
func (r *Reader) Artifact(_ context.Context, sha256 string) (Artifact, error) {
	found, err := r.byDigest(sha256)
	if err != nil {
		return Artifact{}, err
	}
	if len(found) == 0 {
		return Artifact{}, fmt.Errorf("%w: no event is about the digest %s", ErrNotFound, sha256)
	}
	out := Artifact{SHA256: sha256}
	size := 0
	for _, index := range found[:min(len(found), MaxLimit)] {
		e, err := r.entry(index)
		if err != nil {
			return Artifact{}, err
		}
		if size += len(e.Bytes); size > maxPage {
			break
		}
		out.Events = append(out.Events, newEntry(e))
	}
	return out, nil
}

func checkLimit(limit int) (int, error) {
	if limit < 0 || limit > MaxLimit {
		return 0, fmt.Errorf("%w: limit %d must be 1 to %d", ErrBadRequest, limit, MaxLimit)
	}
	if limit == 0 {
		limit = DefaultLimit
	}
	return limit, nil
}
