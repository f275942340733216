package receipts

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
)

// Options configure a store.
type Options struct {
	FS vfs.FS // nil is the disk
	// Verify refuses a head that the log key did not sign: the stream is
	// outside input.
	Verify func(remembrancer.Head) error
	Logger *slog.Logger // nil discards
}

// A Store holds the published checkpoints of one log.
type Store struct {
	db   *pebble.DB
	opts Options

	mu      sync.Mutex // guards what follows
	latest  remembrancer.Head
	found   bool
	stamped uint64        // size of the newest stamped checkpoint
	changed chan struct{} // closed at the next change
}

// Open opens or creates the store in dir.
func Open(dir string, opts Options) (*Store, error) {
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	cache := pebble.NewCache(4 << 20)
	defer cache.Unref()
	db, err := pebble.Open(dir, &pebble.Options{FS: opts.FS, Cache: cache, MemTableSize: 4 << 20, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{opts.Logger}})
	if err != nil {
		return nil, fmt.Errorf("open the store of checkpoints in %s: %w", dir, err)
	}
	s := &Store{db: db, opts: opts, changed: make(chan struct{})}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store of checkpoints in %s: %w", dir, err), db.Close())
	}
	return s, nil
}

func (s *Store) load() error {
	err := s.last('h', func(key, value []byte) error {
		s.found = true
		return json.Unmarshal(value, &s.latest)
	})
	if err != nil {
		return err
	}
	return s.last('x', func(key, _ []byte) error {
		s.stamped = binary.BigEndian.Uint64(key[1:])
		return nil
	})
}

// last calls fn with the last key of a kind, if there is one.
func (s *Store) last(kind byte, fn func(key, value []byte) error) (err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.Last() {
		return it.Error()
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	return fn(it.Key(), v)
}

// Close closes the store; reads must have ended.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close the store of checkpoints: %w", err)
	}
	return nil
}

// Position returns the last folded sequence of a stream.
func (s *Store) Position(stream string) (uint64, error) {
	v, closer, err := s.db.Get(append([]byte{'p'}, stream...))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the position in %s: %w", stream, err)
	}
	return binary.BigEndian.Uint64(v), closer.Close()
}

// A Message is one message of HEADS or SEALS.
type Message struct {
	Sequence uint64
	Data     []byte
}

// Apply folds messages of a stream. A message that is not what its stream
// promises is logged and passed over: others read the same stream, and one bad
// message must not stop receipts.
func (s *Store) Apply(stream string, msgs []Message) error {
	if len(msgs) == 0 {
		return nil
	}
	batch := s.db.NewBatch()
	defer batch.Close() //nolint:errcheck // a committed batch closes without error, an abandoned one has nothing to lose
	next := struct {
		head    *remembrancer.Head
		stamped uint64
	}{}
	for _, m := range msgs {
		var err error
		switch stream {
		case events.HeadsStream:
			var h remembrancer.Head
			if h, err = s.head(m.Data); err == nil {
				err = batch.Set(sizeKey('h', h.Size), m.Data, nil)
				next.head = &h
			}
		case events.SealsStream:
			var seal remembrancer.Seal
			if seal, err = remembrancer.ParseSeal(m.Data); err == nil {
				err = batch.Set(binary.BigEndian.AppendUint64(sizeKey('s', seal.Size), m.Sequence), m.Data, nil)
				if seal.Kind == remembrancer.SealToken {
					next.stamped = max(next.stamped, seal.Size)
					err = errors.Join(err, batch.Set(sizeKey('x', seal.Size), nil, nil))
				}
			}
		default:
			return fmt.Errorf("fold checkpoints: %s is not a stream of them", stream)
		}
		if err != nil {
			s.opts.Logger.Error("message passed over", "stream", stream, "sequence", m.Sequence, "error", err)
		}
	}
	last := msgs[len(msgs)-1].Sequence
	if err := batch.Set(append([]byte{'p'}, stream...), binary.BigEndian.AppendUint64(nil, last), nil); err != nil {
		return fmt.Errorf("fold %s: %w", stream, err)
	}
	if err := batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("fold %s: %w", stream, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if next.head != nil && (!s.found || next.head.Size >= s.latest.Size) {
		s.latest, s.found = *next.head, true
	}
	s.stamped = max(s.stamped, next.stamped)
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *Store) head(data []byte) (remembrancer.Head, error) {
	h, err := remembrancer.ParseHead(data)
	if err == nil && s.opts.Verify != nil {
		err = s.opts.Verify(h)
	}
	return h, err
}

func sizeKey(kind byte, size uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, size)
}

// Latest returns the newest published checkpoint.
func (s *Store) Latest() (remembrancer.Head, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest, s.found
}

// Stamped returns the size of the newest checkpoint that has a token, 0 if none.
func (s *Store) Stamped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stamped
}

// Changed returns a channel that is closed when a head or seal has come.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// At returns the checkpoint of exactly this size.
func (s *Store) At(size uint64) (remembrancer.Head, bool, error) {
	v, closer, err := s.db.Get(sizeKey('h', size))
	if errors.Is(err, pebble.ErrNotFound) {
		return remembrancer.Head{}, false, nil
	}
	var h remembrancer.Head
	if err == nil {
		err = errors.Join(json.Unmarshal(v, &h), closer.Close())
	}
	if err != nil {
		return h, false, fmt.Errorf("read the checkpoint of size %d: %w", size, err)
	}
	return h, true, nil
}

// Covering returns the smallest published checkpoint that holds the leaf at
// index; with stamped, the smallest that also has a token.
func (s *Store) Covering(index uint64, stamped bool) (h remembrancer.Head, ok bool, err error) {
	kind := byte('h')
	if stamped {
		kind = 'x'
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: sizeKey(kind, index+1), UpperBound: []byte{kind + 1}})
	if err != nil {
		return h, false, fmt.Errorf("find a checkpoint over leaf %d: %w", index, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for found := it.First(); found; found = it.Next() {
		// A seal can come before its head.
		if h, ok, err = s.At(binary.BigEndian.Uint64(it.Key()[1:])); ok || err != nil {
			return h, ok, err
		}
	}
	return h, false, it.Error()
}

// Seals returns the tokens and cosignatures of the checkpoint of this size, in
// the order they came.
func (s *Store) Seals(size uint64) (out []remembrancer.Seal, err error) {
	err = s.scan(sizeKey('s', size), sizeKey('s', size+1), func(v []byte) error {
		var seal remembrancer.Seal
		if err := json.Unmarshal(v, &seal); err != nil {
			return err
		}
		out = append(out, seal)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the seals of size %d: %w", size, err)
	}
	return out, nil
}

// Heads calls fn for every published checkpoint, smallest first.
func (s *Store) Heads(fn func(remembrancer.Head) error) error {
	err := s.scan([]byte{'h'}, []byte{'i'}, func(v []byte) error {
		var h remembrancer.Head
		if err := json.Unmarshal(v, &h); err != nil {
			return err
		}
		return fn(h)
	})
	if err != nil {
		return fmt.Errorf("read the published checkpoints: %w", err)
	}
	return nil
}

func (s *Store) scan(from, to []byte, fn func(value []byte) error) (err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := fn(v); err != nil {
			return err
		}
	}
	return it.Error()
}

// quiet passes Pebble's own messages on.
type quiet struct{ *slog.Logger }

func (q quiet) Infof(format string, args ...any)  { q.Debug(fmt.Sprintf(format, args...)) }
func (q quiet) Errorf(format string, args ...any) { q.Error(fmt.Sprintf(format, args...)) }
func (q quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
