package ledger

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/canon"
)

// quarantineFormat names the form of a quarantine entry. It is part of fold-v1:
// the bytes are leaves.
const quarantineFormat = "vaultmesh.cloud/quarantine/v1"

// A Quarantine is the entry that stands for a message which is not an event.
type Quarantine struct {
	Format  string        `json:"quarantine"`
	Reason  events.Reason `json:"reason"`
	SHA256  string        `json:"sha256"`  // of the raw message, which stands in the blob store
	Size    int           `json:"size"`    // bytes of the raw message
	Subject string        `json:"subject"` // where it was published, up to 256 bytes
}

// An Entry is one leaf of the log with what the indexes say of it.
type Entry struct {
	Index      uint64
	Bytes      []byte       // the leaf's preimage; not to be changed
	Event      events.Event // zero for a quarantine entry
	Quarantine *Quarantine  // nil for an event
	Verdict    string       // why the event does not fit its schema, or ""
}

// Valid reports whether a handler may act on the entry.
func (e *Entry) Valid() bool { return e.Quarantine == nil && e.Verdict == "" }

// Entry returns the entry at index, or ErrNotFound.
func (l *Ledger) Entry(index uint64) (Entry, error) {
	var out Entry
	err := ErrNotFound
	if index < l.Head().Size {
		err = l.Entries(index, index+1, func(e Entry) error {
			out = e
			return nil
		})
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read entry %d: %w", index, err)
	}
	return out, nil
}

// Entries calls fn for the entries [from, to) in order, to being cut to the
// log's size. It stops at the first error of fn and returns it.
func (l *Ledger) Entries(from, to uint64, fn func(Entry) error) error {
	to = min(to, l.Head().Size)
	if from >= to {
		return nil
	}
	verdicts, err := l.verdicts(from, to)
	if err != nil {
		return err
	}
	return l.reader().entries(from, to, func(index uint64, b []byte) error {
		e, err := parseEntry(index, append([]byte(nil), b...))
		if err != nil {
			return err
		}
		e.Verdict = verdicts[index]
		return fn(e)
	})
}

// entries calls fn with the bytes of each entry of [from, to). The bytes are
// valid only during the call.
func (r *reader) entries(from, to uint64, fn func(index uint64, b []byte) error) (err error) {
	it, err := r.db.NewIter(&pebble.IterOptions{LowerBound: []byte{'e'}, UpperBound: []byte{'f'}})
	if err != nil {
		return fmt.Errorf("read entries: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	next := from
	for ok := it.SeekLT(entryKey(nil, from+1)); next < to; ok = it.Next() {
		if !ok {
			return errors.Join(fmt.Errorf("%w: entry %d is missing", ErrCorrupt, next), it.Error())
		}
		key := it.Key()
		if len(key) != 10 {
			return fmt.Errorf("%w: a key of entries is malformed", ErrCorrupt)
		}
		index := binary.BigEndian.Uint64(key[1:])*bundleWidth + uint64(key[9])
		if index > next {
			return fmt.Errorf("%w: entry %d is missing", ErrCorrupt, next)
		}
		rest, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read entry %d: %w", next, err)
		}
		for ; len(rest) > 0 && next < to; index++ {
			var b []byte
			if b, rest, err = cutEntry(rest); err != nil {
				return fmt.Errorf("entry %d: %w", index, err)
			}
			if index < next {
				continue
			}
			if err := fn(index, b); err != nil {
				return err
			}
			next++
		}
	}
	return nil
}

// parseEntry reads the bytes of a leaf.
func parseEntry(index uint64, b []byte) (Entry, error) {
	e := Entry{Index: index, Bytes: b}
	ev, _, err := events.Parse(b)
	if err == nil {
		e.Event = ev
		return e, nil
	}
	var q Quarantine
	if json.Unmarshal(b, &q) != nil || q.Format != quarantineFormat {
		return e, fmt.Errorf("%w: entry %d is no event (%w) and no quarantine entry", ErrCorrupt, index, err)
	}
	e.Quarantine = &q
	return e, nil
}

// encode returns the leaf's bytes.
func (q Quarantine) encode() ([]byte, error) {
	q.Format = quarantineFormat
	b, err := canon.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("encode a quarantine entry: %w", err)
	}
	return b, nil
}

// verdicts returns the schema verdicts of [from, to) that are not favourable.
func (l *Ledger) verdicts(from, to uint64) (out map[uint64]string, err error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: indexKey(nil, 'v', from), UpperBound: indexKey(nil, 'v', to)})
	if err != nil {
		return nil, fmt.Errorf("read schema verdicts: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, fmt.Errorf("read schema verdicts: %w", err)
		}
		if out == nil {
			out = map[uint64]string{}
		}
		out[binary.BigEndian.Uint64(it.Key()[1:])] = string(v)
	}
	return out, it.Error()
}

// ByID returns the indexes of the events with this id, one for each source that
// used it.
func (l *Ledger) ByID(id events.ID) ([]uint64, error) {
	return l.find(idPrefix(nil, id), 0, 0, func(_, value []byte) uint64 { return binary.BigEndian.Uint64(value) })
}

// Lookup returns the index of the event with this source and id, or ErrNotFound.
func (l *Ledger) Lookup(source events.Source, id events.ID) (uint64, error) {
	v, closer, err := l.db.Get(idKey(nil, id, source))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, fmt.Errorf("event %s from %s: %w", id, source, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("look up event %s: %w", id, err)
	}
	index := binary.BigEndian.Uint64(v)
	return index, closer.Close()
}

// ByDigest returns the indexes of the entries about the artifact with this
// SHA-256, oldest first.
func (l *Ledger) ByDigest(sum [32]byte) ([]uint64, error) {
	return l.find(digestKey(nil, sum[:], 0)[:33], 0, 0, tailIndex)
}

// ByType returns the indexes of the events of a type that are at least from,
// oldest first, at most limit of them (0 is all).
func (l *Ledger) ByType(t events.Type, from uint64, limit int) (out []uint64, err error) {
	prefix := typePrefix(nil, t)
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, fmt.Errorf("read the index of types: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	// The segment that holds from can begin before it.
	ok := it.SeekLT(typeKey(nil, t, from+1))
	if !ok {
		ok = it.First()
	}
	for ; ok && (limit == 0 || len(out) < limit); ok = it.Next() {
		steps, err := it.ValueAndErr()
		if err != nil {
			return nil, fmt.Errorf("read the index of types: %w", err)
		}
		index := tailIndex(it.Key(), nil)
		for {
			if index >= from && (limit == 0 || len(out) < limit) {
				out = append(out, index)
			}
			if len(steps) == 0 {
				break
			}
			step, n := binary.Uvarint(steps)
			if n <= 0 {
				return nil, fmt.Errorf("%w: the index of types", ErrCorrupt)
			}
			index, steps = index+step, steps[n:]
		}
	}
	return out, it.Error()
}

// packIndexes returns the steps from each index to the next.
func packIndexes(indexes []uint64) []byte {
	b := make([]byte, 0, len(indexes))
	for i := 1; i < len(indexes); i++ {
		b = binary.AppendUvarint(b, indexes[i]-indexes[i-1])
	}
	return b
}

// Quarantines returns the indexes of quarantine entries that are at least from,
// at most limit of them (0 is all).
func (l *Ledger) Quarantines(from uint64, limit int) ([]uint64, error) {
	return l.find([]byte{'q'}, from, limit, tailIndex)
}

func tailIndex(key, _ []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

func (l *Ledger) find(prefix []byte, from uint64, limit int, index func(key, value []byte) uint64) (out []uint64, err error) {
	lower := prefix
	if from > 0 {
		lower = binary.BigEndian.AppendUint64(append([]byte(nil), prefix...), from)
	}
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: after(prefix)})
	if err != nil {
		return nil, fmt.Errorf("read an index: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok && (limit == 0 || len(out) < limit); ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, fmt.Errorf("read an index: %w", err)
		}
		out = append(out, index(it.Key(), v))
	}
	return out, it.Error()
}
