package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"vaultmesh.cloud/vaultmesh/events"
)

// Errors that a caller decides on.
var (
	// ErrNotFound means that the ledger has no such entry yet.
	ErrNotFound = errors.New("not in the ledger")
	// ErrCorrupt means that stored bytes contradict each other: stop sealing,
	// run the audit, rebuild from the stream.
	ErrCorrupt = errors.New("the ledger's store is corrupt")
	// ErrStopped means that an earlier write failed. The ledger stays readable;
	// open it anew to write.
	ErrStopped = errors.New("the ledger stopped writing after a failure")
	// ErrRegressed means that the stream does not continue what was folded:
	// it lost its tail or was made anew. Sealing must stop.
	ErrRegressed = errors.New("the stream does not continue the ledger")
)

// A Head is the state of the ledger after a commit.
type Head struct {
	Version     int             `json:"version"`
	Size        uint64          `json:"size"` // leaves
	Root        Hash            `json:"root"`
	Substantive uint64          `json:"substantive"` // leaves that are not housekeeping
	Position    events.Position `json:"position"`    // of the last folded message
	Digest      string          `json:"digest"`      // hex SHA-256 of that message's body
	Created     time.Time       `json:"created"`     // when the stream of the epoch was created
	Deploys     uint64          `json:"deploys"`     // deployments recorded
	Evidenced   uint64          `json:"evidenced"`   // of these, with the digest of their evidence
	Quarantined uint64          `json:"quarantined"` // quarantine leaves
	Repeats     uint64          `json:"repeats"`     // exact repeats skipped
	Largest     events.ID       `json:"largest_uuidv7,omitzero"`
}

// Blobs keeps the raw bytes of quarantined messages.
type Blobs interface {
	// Put returns the hex SHA-256 of data once data is durable.
	Put(ctx context.Context, data []byte) (string, error)
}

// Options configure a ledger.
type Options struct {
	FS       vfs.FS           // nil is the disk
	Registry *events.Registry // gives schema verdicts
	Blobs    Blobs
	Logger   *slog.Logger // nil discards
	NoSync   bool         // for rebuilding into a directory that is synced at the end
	ReadOnly bool
}

// A Ledger is the log in one directory. Its methods may be called from many
// goroutines; Apply from one at a time.
type Ledger struct {
	db   *pebble.DB
	opts Options

	applying sync.Mutex // held by Apply and Close; owns what follows
	edge     edge
	scratch  scratch
	recent   *recent
	closed   bool

	mu      sync.Mutex // guards what follows
	head    Head
	changed chan struct{} // closed when head changes
	stopped error         // why writing stopped
	repeats map[uint64]Repeat
}

// A Repeat is an exact repeat of an accepted event: its producer may have missed
// the receipt.
type Repeat struct {
	Index    uint64
	ID       events.ID
	Producer events.Producer
}

// maxRepeats bounds the repeats kept for new receipts; a producer that is not
// served sends again.
const maxRepeats = 16 << 10

// Open opens or creates the ledger in dir and checks that its root follows from
// its tiles.
func Open(dir string, opts Options) (*Ledger, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	cache := pebble.NewCache(32 << 20)
	defer cache.Unref()
	o := &pebble.Options{
		FS: opts.FS, Cache: cache, ReadOnly: opts.ReadOnly,
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       16 << 20,
		Logger:             pebbleLogger{opts.Logger},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open the ledger in %s: %w", dir, err)
	}
	l := &Ledger{db: db, opts: opts, changed: make(chan struct{}), repeats: map[uint64]Repeat{}}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the ledger in %s: %w", dir, err), db.Close())
	}
	return l, nil
}

func (l *Ledger) load() error {
	l.head = Head{Version: schemaVersion, Root: emptyRoot}
	value, closer, err := l.db.Get(stateKey)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case err != nil:
		return fmt.Errorf("read its state: %w", err)
	default:
		err := errors.Join(json.Unmarshal(value, &l.head), closer.Close())
		if err != nil {
			return fmt.Errorf("%w: its state: %w", ErrCorrupt, err)
		}
	}
	if l.head.Version != schemaVersion {
		return fmt.Errorf("its layout is version %d, this program reads %d: run `ledger rebuild`", l.head.Version, schemaVersion)
	}
	r := l.reader()
	if l.edge, err = loadEdge(r, l.head.Size); err != nil {
		return err
	}
	l.recent = newRecent(l.head.Largest)
	if got := l.edge.root(); got != l.head.Root {
		return fmt.Errorf("%w: %d leaves have root %s, the state says %s", ErrCorrupt, l.head.Size, got, l.head.Root)
	}
	return nil
}

// Close flushes and closes the store; reads must have ended.
func (l *Ledger) Close() error {
	l.applying.Lock()
	defer l.applying.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.stop(ErrStopped)
	if err := l.db.Close(); err != nil {
		return fmt.Errorf("close the ledger: %w", err)
	}
	return nil
}

// Head returns the state after the last commit.
func (l *Ledger) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Stopped returns why the ledger does not write any more, or nil.
func (l *Ledger) Stopped() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped
}

func (l *Ledger) stop(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped == nil {
		l.stopped = why
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// Wait returns the head once it holds more than index leaves, so that the entry
// at index can be read; or the error of ctx, or why the ledger stopped.
func (l *Ledger) Wait(ctx context.Context, index uint64) (Head, error) {
	for {
		l.mu.Lock()
		head, changed, stopped := l.head, l.changed, l.stopped
		l.mu.Unlock()
		if head.Size > index {
			return head, nil
		}
		if stopped != nil {
			return head, stopped
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return head, fmt.Errorf("wait for leaf %d, the log has %d: %w", index, head.Size, ctx.Err())
		}
	}
}

// WaitPosition returns once every message up to the sequence in the current
// epoch is folded.
func (l *Ledger) WaitPosition(ctx context.Context, sequence uint64) (Head, error) {
	for {
		l.mu.Lock()
		head, changed, stopped := l.head, l.changed, l.stopped
		l.mu.Unlock()
		if head.Position.Sequence >= sequence {
			return head, nil
		}
		if stopped != nil {
			return head, stopped
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return head, fmt.Errorf("wait for message %d to be folded, the ledger is at %d: %w", sequence, head.Position.Sequence, ctx.Err())
		}
	}
}

// Changed returns a channel that is closed at the next commit.
func (l *Ledger) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// TakeRepeats returns the exact repeats since the last call: whoever sent them
// waits for a receipt.
func (l *Ledger) TakeRepeats() []Repeat {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Repeat, 0, len(l.repeats))
	for _, r := range l.repeats {
		out = append(out, r)
	}
	clear(l.repeats)
	return out
}

// pebbleLogger passes Pebble's own messages on; they hold no event data.
type pebbleLogger struct{ *slog.Logger }

func (p pebbleLogger) Infof(format string, args ...any)  { p.Debug(fmt.Sprintf(format, args...)) }
func (p pebbleLogger) Errorf(format string, args ...any) { p.Error(fmt.Sprintf(format, args...)) }
func (p pebbleLogger) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
