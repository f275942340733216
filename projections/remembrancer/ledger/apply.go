package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"vaultmesh.cloud/vaultmesh/events"
)

// scratch is memory that Apply uses again.
type scratch struct {
	key     []byte
	entries []byte
	rows    [8]row
	types   map[events.Type][]uint64 // indexes of this batch by type
}

// A row collects the hashes that one commit adds to a row of tiles.
type row struct {
	from   uint64
	hashes []byte
}

// Apply appends a prepared batch: it decides which messages are leaves, in
// order, and commits entries, tiles, indexes and the position in one synced
// write. After an error nothing of the batch is in the ledger; if the store
// failed, the ledger has stopped.
func (l *Ledger) Apply(ctx context.Context, b *Batch) (Head, error) {
	l.applying.Lock()
	defer l.applying.Unlock()
	head := l.Head()
	if err := l.Stopped(); err != nil {
		return head, err
	}
	if len(b.msgs) == 0 {
		return head, nil
	}
	if err := continues(head, b); err != nil {
		return head, err
	}
	batch := l.db.NewBatchWithSize(len(b.msgs) * 700)
	defer batch.Close() //nolint:errcheck // a committed batch closes without error, an abandoned one has nothing to lose
	a := applier{l: l, batch: batch, edge: l.edge.clone(), head: head, s: &l.scratch}
	if err := a.run(ctx, b); err != nil {
		// What the batch remembered was not committed.
		l.recent = newRecent(head.Largest)
		return head, fmt.Errorf("fold messages %d to %d: %w", b.msgs[0].Sequence, b.msgs[len(b.msgs)-1].Sequence, err)
	}
	sync := pebble.Sync
	if l.opts.NoSync {
		sync = pebble.NoSync
	}
	if err := batch.Commit(sync); err != nil {
		// A failed sync leaves unknown what is on disk; it is never retried.
		l.stop(fmt.Errorf("%w: %w", ErrStopped, err))
		return head, fmt.Errorf("commit %d leaves: %w", a.edge.size-head.Size, err)
	}
	l.edge = a.edge
	l.publish(a.head, a.repeats)
	return a.head, nil
}

func (l *Ledger) publish(head Head, repeats []Repeat) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = head
	for _, r := range repeats {
		if len(l.repeats) < maxRepeats {
			l.repeats[r.Index] = r
		}
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// continues checks that the batch follows the position, without a gap.
func continues(head Head, b *Batch) error {
	p := head.Position
	want := p.Sequence + 1
	if b.Epoch != max(p.Epoch, 1) {
		return fmt.Errorf("%w: it is epoch %d, the ledger is in epoch %d", ErrRegressed, b.Epoch, p.Epoch)
	}
	if p.Epoch != 0 && !head.Created.Equal(b.Created) {
		return fmt.Errorf("%w: the stream was created %s, the one folded so far %s", ErrRegressed, b.Created, head.Created)
	}
	for i := range b.msgs {
		if got := b.msgs[i].Sequence; got != want {
			return fmt.Errorf("%w: message %d came, want %d", ErrRegressed, got, want)
		}
		want++
	}
	return nil
}

// An applier is the serial part of one Apply.
type applier struct {
	l       *Ledger
	batch   *pebble.Batch
	edge    edge
	head    Head
	s       *scratch
	repeats []Repeat
	err     error // the first error of a write to the batch
}

func (a *applier) run(ctx context.Context, b *Batch) error {
	s := a.s
	if s.types == nil {
		s.types = map[events.Type][]uint64{}
	}
	clear(s.types)
	s.entries = s.entries[:0]
	for i := range s.rows {
		s.rows[i].hashes = s.rows[i].hashes[:0]
	}
	from := a.edge.size
	for i := range b.items {
		if err := a.item(ctx, &b.items[i], &b.msgs[i]); err != nil {
			return err
		}
		if a.edge.size%bundleWidth == 0 {
			from = a.flush(from)
		}
	}
	a.flush(from)
	for t, indexes := range s.types {
		a.set(typeKey(nil, t, indexes[0]), packIndexes(indexes))
	}
	last := &b.msgs[len(b.msgs)-1]
	sum := sha256.Sum256(last.Data)
	a.head.Size, a.head.Root = a.edge.size, a.edge.root()
	a.head.Position = events.Position{Epoch: b.Epoch, Sequence: last.Sequence}
	a.head.Digest, a.head.Created = hex.EncodeToString(sum[:]), b.Created
	state, err := json.Marshal(a.head)
	if err != nil {
		return fmt.Errorf("encode the state: %w", err)
	}
	a.set(stateKey, state)
	return a.err
}

func (a *applier) set(key, value []byte) {
	if err := a.batch.Set(key, value, nil); err != nil && a.err == nil {
		a.err = err
	}
}

// item decides what one message becomes.
func (a *applier) item(ctx context.Context, it *item, m *Message) error {
	s := a.s
	if it.refusal == nil {
		s.key = idKey(s.key[:0], it.event.ID, it.event.Source)
		at, found, err := a.known(s.key, it.event.ID)
		if err != nil {
			return err
		}
		if !found {
			a.accept(it)
			return nil
		}
		if at.leaf == it.leaf {
			a.head.Repeats++
			a.repeats = append(a.repeats, Repeat{at.index, it.event.ID, it.event.Source.Producer()})
			return nil
		}
		it.refusal = &events.Refusal{Reason: events.Conflict, Detail: fmt.Sprintf("%s is entry %d with other bytes", it.event.String(), at.index)}
	}
	q, err := it.quarantine(ctx, a.l.opts.Blobs, m)
	if err != nil {
		return err
	}
	s.key = repeatKey(s.key[:0], it.leaf)
	if _, found, err := a.known(s.key, neverSure); err != nil || found {
		if found {
			a.head.Repeats++
		}
		return err
	}
	a.l.opts.Logger.Warn("message quarantined", "sequence", m.Sequence, "index", a.edge.size, "reason", string(q.Reason), "sha256", q.SHA256)
	a.remember(s.key, it)
	a.set(indexKey(nil, 'q', a.edge.size), []byte(q.Reason))
	a.head.Quarantined++
	a.head.Substantive++
	a.append(it)
	return nil
}

// neverSure is no UUIDv7: the key is looked up in the store.
const neverSure events.ID = ""

// known returns where the entry of a key stands.
func (a *applier) known(key []byte, id events.ID) (place, bool, error) {
	p, found, sure := a.l.recent.find(key, id)
	if found || sure {
		return p, found, nil
	}
	v, closer, err := a.l.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return place{}, false, nil
	}
	if err != nil {
		return place{}, false, fmt.Errorf("read the duplicate index: %w", err)
	}
	p.index = binary.BigEndian.Uint64(v)
	if err := closer.Close(); err != nil {
		return place{}, false, fmt.Errorf("read the duplicate index: %w", err)
	}
	p.leaf, err = a.l.Leaf(p.index)
	return p, true, err
}

func (a *applier) accept(it *item) {
	index := a.edge.size
	a.remember(a.s.key, it)
	a.s.types[it.event.Type] = append(a.s.types[it.event.Type], index)
	for _, d := range it.digests {
		a.set(digestKey(nil, d[:], index), nil)
	}
	if it.verdict != "" {
		a.set(indexKey(nil, 'v', index), []byte(it.verdict))
	}
	if !events.Housekeeping(it.event.Type) {
		a.head.Substantive++
	}
	if it.deploy {
		a.head.Deploys++
	}
	if it.evidenced {
		a.head.Evidenced++
	}
	if id := it.event.ID; grows(id) {
		a.head.Largest = max(a.head.Largest, id)
	}
	a.append(it)
}

// remember puts the entry to come into the duplicate index.
func (a *applier) remember(key []byte, it *item) {
	a.l.recent.add(key, it.event.ID, place{a.edge.size, it.leaf})
	a.set(key, binary.BigEndian.AppendUint64(nil, a.edge.size))
}

func (a *applier) append(it *item) {
	a.s.entries = binary.BigEndian.AppendUint16(a.s.entries, uint16(len(it.bytes)))
	a.s.entries = append(a.s.entries, it.bytes...)
	a.edge.add(it.leaf, func(level uint8, n uint64, h Hash) {
		r := &a.s.rows[level]
		if len(r.hashes) == 0 {
			r.from = n
		}
		r.hashes = append(r.hashes, h[:]...)
		if n%bundleWidth == bundleWidth-1 {
			a.flushRow(level)
		}
	})
}

// flush writes the entries [from, size), which lie in one bundle, and returns
// where the next segment begins.
func (a *applier) flush(from uint64) uint64 {
	if len(a.s.entries) > 0 {
		a.set(entryKey(nil, from), a.s.entries)
		a.s.entries = a.s.entries[:0]
	}
	for level := range a.s.rows {
		a.flushRow(uint8(level))
	}
	return a.edge.size
}

func (a *applier) flushRow(level uint8) {
	if r := &a.s.rows[level]; len(r.hashes) > 0 {
		a.set(hashKey(nil, level, r.from), r.hashes)
		r.hashes = r.hashes[:0]
	}
}
