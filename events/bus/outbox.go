package bus

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
)

// OutboxOptions are the bounds and seams of an outbox.
type OutboxOptions struct {
	FS           FS               // nil is the disk
	MaxBytes     int64            // of all segments; 0 is 256 MiB
	SegmentBytes int64            // a segment is closed beyond this; 0 is 8 MiB
	Clock        func() time.Time // nil is time.Now
}

// ErrCorrupt means that stored bytes are not what was written: the error names
// the place. Nothing is repaired silently.
var ErrCorrupt = errors.New("corrupt")

// An OutboxEntry is an event as it is published.
type OutboxEntry struct {
	ID      events.ID
	Subject string
	Body    []byte // canonical
}

// An Outbox keeps events on disk until their signed receipts, so that neither a
// crash here nor a loss in the broker loses one. It has no goroutines; all methods
// may be called from many at once. The file format is documented at record.
type Outbox struct {
	dir  string
	o    OutboxOptions
	lock io.Closer

	mu       sync.Mutex
	segments []*segment // oldest first; the last one is written
	live     map[events.ID]*kept
	order    []*kept // by Put; holds dropped ones until the next trim
	total    int64
	failed   error // of a write or sync: no more are tried

	syncMu sync.Mutex // before mu; held while syncing
}

type segment struct {
	number  uint64
	file    File
	size    int64
	synced  int64
	removed bool
	live    int64 // bytes of records of live events
}

// kept is a live event: where its record stands.
type kept struct {
	id      events.ID
	segment *segment
	offset  int64
	length  int64
	at      time.Time
	gone    bool
}

// OpenOutbox opens the outbox in dir, or makes it. A record that a crash cut off
// was never promised and is dropped; any other damage is ErrCorrupt.
func OpenOutbox(dir string, o OutboxOptions) (*Outbox, error) {
	if o.FS == nil {
		o.FS = Disk()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	o.MaxBytes, o.SegmentBytes = cmp.Or(o.MaxBytes, 256<<20), cmp.Or(o.SegmentBytes, 8<<20)
	b := &Outbox{dir: dir, o: o, live: map[events.ID]*kept{}}
	if err := b.open(); err != nil {
		_ = b.Close()
		return nil, fmt.Errorf("open the outbox in %s: %w", dir, err)
	}
	return b, nil
}

func (b *Outbox) open() error {
	if err := b.o.FS.MkdirAll(b.dir); err != nil {
		return err
	}
	var err error
	if b.lock, err = b.o.FS.Lock(filepath.Join(b.dir, "lock")); err != nil {
		return err
	}
	names, err := b.o.FS.ReadDir(b.dir)
	if err != nil {
		return err
	}
	var numbers []uint64
	for _, name := range names {
		stem, ok := strings.CutSuffix(name, segmentSuffix)
		if n, err := strconv.ParseUint(stem, 16, 64); ok && err == nil {
			numbers = append(numbers, n)
		}
	}
	for i, n := range numbers { // sorted, as the names have a fixed width
		if i > 0 && n != numbers[i-1]+1 {
			return fmt.Errorf("%w: segment %d is missing", ErrCorrupt, numbers[i-1]+1)
		}
		if err := b.load(n, i == len(numbers)-1); err != nil {
			return err
		}
	}
	if len(b.segments) == 0 {
		return b.newSegment(1)
	}
	return nil
}

const segmentSuffix = ".outbox"

func (b *Outbox) path(number uint64) string {
	return filepath.Join(b.dir, fmt.Sprintf("%016x%s", number, segmentSuffix))
}

// newSegment makes a file and its name durable. The caller holds mu or is open.
func (b *Outbox) newSegment(number uint64) error {
	f, err := b.o.FS.Open(b.path(number), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	if err := b.o.FS.SyncDir(b.dir); err != nil {
		return errors.Join(err, f.Close())
	}
	b.segments = append(b.segments, &segment{number: number, file: f})
	return nil
}

// load reads one segment.
func (b *Outbox) load(number uint64, last bool) error {
	f, err := b.o.FS.Open(b.path(number), os.O_RDWR)
	if err != nil {
		return err
	}
	s := &segment{number: number, file: f}
	b.segments = append(b.segments, s)
	size, err := f.Size()
	if err != nil {
		return err
	}
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); err != nil && !(errors.Is(err, io.EOF) && int64(n) == size) {
		return err
	}
	for s.size < size {
		r, length, err := parseRecord(data[s.size:])
		if err != nil {
			if !last || promised(data[s.size:], s.size) {
				return fmt.Errorf("%w: segment %s at byte %d: %w", ErrCorrupt, b.path(number), s.size, err)
			}
			// A crash cut the tail off before it was synced, and so before
			// anybody was told that it is kept.
			if err := f.Truncate(s.size); err != nil {
				return err
			}
			break
		}
		b.apply(s, s.size, int64(length), r)
		s.size += int64(length)
	}
	// What was read may still be in the cache only.
	if err := f.Sync(); err != nil {
		return err
	}
	s.synced = s.size
	b.total += s.size
	return nil
}

// apply takes a record into the index.
func (b *Outbox) apply(s *segment, offset, length int64, r record) {
	old := b.live[r.id]
	if r.kind == recordDone {
		b.retire(old)
		return
	}
	if old != nil { // moved by compaction
		old.segment.live -= old.length
		old.segment, old.offset, old.length = s, offset, length
		s.live += length
		return
	}
	k := &kept{id: r.id, segment: s, offset: offset, length: length, at: r.at}
	b.live[r.id], b.order = k, append(b.order, k)
	s.live += length
}

func (b *Outbox) retire(k *kept) {
	if k == nil {
		return
	}
	k.gone = true
	k.segment.live -= k.length
	delete(b.live, k.id)
}

// Put keeps events. When it returns nil, they are on disk. Events that are already
// kept are left as they are. ErrFull means that nothing was written.
func (b *Outbox) Put(list ...OutboxEntry) error {
	b.mu.Lock()
	s, end, err := b.put(list)
	b.mu.Unlock()
	if err == nil {
		err = b.sync(s, end)
	}
	if err != nil {
		return fmt.Errorf("keep %d events in the outbox: %w", len(list), err)
	}
	return nil
}

func (b *Outbox) put(list []OutboxEntry) (*segment, int64, error) {
	if b.failed != nil {
		return nil, 0, b.failed
	}
	s, err := b.current()
	if err != nil {
		return nil, 0, err
	}
	now := b.o.Clock()
	var records []record
	for _, e := range list {
		if b.live[e.ID] == nil {
			records = append(records, record{kind: recordPut, id: e.ID, at: now, subject: e.Subject, body: e.Body})
		}
	}
	buf, ends := encodeRecords(records, s.synced)
	if b.total+int64(len(buf)) > b.o.MaxBytes {
		if err := b.compact(); err != nil {
			return nil, 0, err
		}
		if b.total+int64(len(buf)) > b.o.MaxBytes {
			return nil, 0, fmt.Errorf("%w: %d bytes wait for receipts", ErrFull, b.total)
		}
		s = b.segments[len(b.segments)-1]
		buf, ends = encodeRecords(records, s.synced)
	}
	offset := s.size
	if err := b.write(s, buf); err != nil {
		return nil, 0, err
	}
	start := 0
	for i, r := range records {
		b.apply(s, offset+int64(start), int64(ends[i]-start), r)
		start = ends[i]
	}
	return s, s.size, nil
}

func encodeRecords(list []record, synced int64) (buf []byte, ends []int) {
	for _, r := range list {
		buf = r.append(buf, synced)
		ends = append(ends, len(buf))
	}
	return buf, ends
}

// write appends to a segment, or leaves it as it was.
func (b *Outbox) write(s *segment, buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	if _, err := s.file.WriteAt(buf, s.size); err != nil {
		if cut := s.file.Truncate(s.size); cut != nil {
			b.failed = fmt.Errorf("a write failed and could not be undone: %w", errors.Join(err, cut))
			return b.failed
		}
		if isFull(err) {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
		return err
	}
	s.size += int64(len(buf))
	b.total += int64(len(buf))
	return nil
}

// sync makes a segment durable up to end. Calls that wait meanwhile share the next
// sync.
func (b *Outbox) sync(s *segment, end int64) error {
	b.syncMu.Lock()
	defer b.syncMu.Unlock()
	b.mu.Lock()
	size, done, failed := s.size, s.synced >= end || s.removed, b.failed
	b.mu.Unlock()
	if failed != nil {
		return failed
	}
	if done {
		return nil
	}
	err := s.file.Sync()
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.removed {
		return nil // all of it that is live was synced elsewhere
	}
	if err != nil {
		// The kernel may have dropped the pages: a later sync that succeeds would
		// prove nothing.
		b.failed = fmt.Errorf("a sync failed, nothing more is written: %w", err)
		return b.failed
	}
	s.synced = size
	return nil
}

// Ack takes events out that have their receipts. A crash may undo it, which only
// sends them again.
func (b *Outbox) Ack(ids ...events.ID) error { return b.done(ids) }

// Drop takes an event out that was refused for good.
func (b *Outbox) Drop(id events.ID) error { return b.done([]events.ID{id}) }

func (b *Outbox) done(ids []events.ID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil {
		return b.failed
	}
	s, err := b.current()
	if err != nil {
		return fmt.Errorf("mark events of the outbox as done: %w", err)
	}
	var buf []byte
	for _, id := range ids {
		if k := b.live[id]; k != nil {
			buf = record{kind: recordDone, id: id}.append(buf, s.synced)
			b.retire(k)
		}
	}
	// Out of the index in any case: without the record they are sent again after
	// the next start, which does no harm.
	if err := b.write(s, buf); err != nil {
		return fmt.Errorf("mark events of the outbox as done: %w", err)
	}
	return b.trim()
}

// current returns the segment to write, a new one if the last is full.
func (b *Outbox) current() (*segment, error) {
	s := b.segments[len(b.segments)-1]
	if s.size < b.o.SegmentBytes {
		return s, nil
	}
	// A later segment must not be durable before an earlier one.
	if err := s.file.Sync(); err != nil {
		b.failed = fmt.Errorf("a sync failed, nothing more is written: %w", err)
		return nil, b.failed
	}
	s.synced = s.size
	if err := b.newSegment(s.number + 1); err != nil {
		return nil, err
	}
	return b.segments[len(b.segments)-1], nil
}

func (b *Outbox) read(k *kept) (record, error) {
	data := make([]byte, k.length)
	if _, err := k.segment.file.ReadAt(data, k.offset); err != nil && !errors.Is(err, io.EOF) {
		return record{}, fmt.Errorf("read event %s from the outbox: %w", k.id, err)
	}
	r, _, err := parseRecord(data)
	if err != nil {
		return record{}, fmt.Errorf("%w: event %s in segment %s at byte %d: %w", ErrCorrupt, k.id, b.path(k.segment.number), k.offset, err)
	}
	return r, nil
}

// Waiting returns the events that were kept up to the given time, oldest first.
func (b *Outbox) Waiting(until time.Time) iter.Seq2[OutboxEntry, error] {
	return func(yield func(OutboxEntry, error) bool) {
		b.mu.Lock()
		list := make([]*kept, 0, len(b.live))
		for _, k := range b.order {
			if !k.gone && !k.at.After(until) {
				list = append(list, k)
			}
		}
		b.mu.Unlock()
		for _, k := range list {
			b.mu.Lock()
			if k.gone || b.lock == nil {
				b.mu.Unlock()
				continue
			}
			r, err := b.read(k)
			b.mu.Unlock()
			if !yield(OutboxEntry{ID: r.id, Subject: r.subject, Body: r.body}, err) || err != nil {
				return
			}
		}
	}
}

// Len returns how many events wait for their receipts.
func (b *Outbox) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.live)
}

// Close closes the files and frees the directory. Waiting events stay.
func (b *Outbox) Close() error {
	b.syncMu.Lock()
	defer b.syncMu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		b.failed = fmt.Errorf("the outbox is %w", ErrClosed)
	}
	var err error
	for _, s := range b.segments {
		err = errors.Join(err, s.file.Close())
	}
	b.segments = nil
	if b.lock != nil {
		err = errors.Join(err, b.lock.Close())
		b.lock = nil
	}
	return err
}
