package seal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/canon"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// Interval is how often a head is published while there is something new.
const Interval = 200 * time.Millisecond

// ErrFork means that a head was published, or signed by this node, that is not a
// prefix of the ledger. Nothing more may be signed until a person has looked:
// run the audit.
var ErrFork = errors.New("the ledger contradicts a published head")

// Log is the ledger, as far as sealing reads it.
type Log interface {
	Head() ledger.Head
	// Root returns the root of the first size leaves.
	Root(size uint64) (ledger.Hash, error)
	Entries(from, to uint64, fn func(ledger.Entry) error) error
	// TakeRepeats returns the events whose producers sent them again, once.
	TakeRepeats() []ledger.Repeat
	Changed() <-chan struct{}
}

// Heads is the stream HEADS.
type Heads interface {
	// Last returns the newest head from the stream's leader and its sequence; 0
	// when there is none.
	Last(ctx context.Context) (remembrancer.Head, uint64, error)
	// CompareAndSet publishes a head if the last sequence is still last. When it
	// returns nil the head is durable. It fails with bus.ErrWrongLast if another
	// came first, and with bus.ErrAmbiguous if nobody knows.
	CompareAndSet(ctx context.Context, last uint64, h remembrancer.Head) error
}

// State is what this signer has ever signed, on its own disk.
type State interface {
	Load() (Signed, error)
	// Store returns once s is durable.
	Store(s Signed) error
}

// Signed is the largest tree head that this node may have signed.
type Signed struct {
	Size uint64      `json:"size"`
	Root ledger.Hash `json:"root"`
}

// Receipts is the stream RECEIPTS.
type Receipts interface {
	// Publish hands a signed note to a producer. It may be lost: the producer
	// then sends its event again and gets another.
	Publish(ctx context.Context, p events.Producer, note []byte) error
}

// Options are the parts of a sealer.
type Options struct {
	Origin   string
	Log      Log
	Heads    Heads
	State    State
	Receipts Receipts
	Signer   note.Signer // the log key
	PGP      func(data []byte, at time.Time) ([]byte, error)
	Clock    func() time.Time
	Logger   *slog.Logger
	Interval time.Duration // 0 is Interval
}

// A Sealer publishes the heads of one log. Run is its only user.
type Sealer struct {
	o        Options
	released uint64 // receipts have gone out for the leaves below
	started  bool
}

// New returns a sealer that has not done anything yet.
func New(o Options) *Sealer {
	if o.Interval == 0 {
		o.Interval = Interval
	}
	return &Sealer{o: o}
}

// Run seals until ctx ends. It returns ErrFork when it must never sign again;
// other faults are logged and tried again.
func (s *Sealer) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		changed := s.o.Log.Changed()
		err := s.Seal(ctx)
		switch {
		case errors.Is(err, ErrFork):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			s.o.Logger.Warn("head not published, trying again", "error", err)
			timer.Reset(5 * s.o.Interval)
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		timer.Reset(s.o.Interval)
	}
}

// Seal publishes one head if there is something new, and releases receipts. The
// order of its steps is what makes a fork impossible:
//
//  1. Read the last head from the stream's leader: another sealer may have
//     published (fault: two sealers).
//  2. Prove that it, and whatever this node has signed before, is a prefix of
//     our tree (faults: a rolled-back store, a stream that lost its tail).
//  3. Make (size, root) durable in the signer's state (fault: a crash after
//     signing, followed by another history).
//  4. Sign.
//  5. Compare-and-set on HEADS: this, not any election, is the fence. On an
//     ambiguous answer read again and compare (fault: a lost answer).
//  6. Only then release receipts (fault: a receipt for a head that nobody sees).
func (s *Sealer) Seal(ctx context.Context) error {
	last, sequence, err := s.o.Heads.Last(ctx) // 1
	if err != nil {
		return fmt.Errorf("read the last head: %w", err)
	}
	tree := s.o.Log.Head()
	if err := s.prefix(tree, last); err != nil { // 2
		return err
	}
	if !s.started {
		s.released, s.started = last.Size, true
	}
	if tree.Size == 0 {
		return nil
	}
	if tree.Size <= last.Size {
		return s.release(ctx, last)
	}
	head, err := s.sign(tree) // 3, 4
	if err != nil {
		return err
	}
	err = s.o.Heads.CompareAndSet(ctx, sequence, head) // 5
	if errors.Is(err, bus.ErrAmbiguous) || errors.Is(err, bus.ErrWrongLast) {
		now, _, readErr := s.o.Heads.Last(ctx)
		if readErr != nil || now.Size != head.Size || now.Root != head.Root {
			return errors.Join(fmt.Errorf("publish the head of size %d: %w", head.Size, err), readErr)
		}
		head, err = now, nil
	}
	if err != nil {
		return fmt.Errorf("publish the head of size %d: %w", head.Size, err)
	}
	return s.release(ctx, head) // 6
}

// prefix checks that nothing signed contradicts the tree.
func (s *Sealer) prefix(tree ledger.Head, last remembrancer.Head) error {
	if last.Size > 0 {
		root, err := proof.ParseHash(last.Root)
		if err != nil {
			return fmt.Errorf("%w: the last head's root: %w", ErrFork, err)
		}
		if err := s.holds(tree, last.Size, ledger.Hash(root), "published"); err != nil {
			return err
		}
	}
	signed, err := s.o.State.Load()
	if err != nil {
		return fmt.Errorf("read the signer's state: %w", err)
	}
	if signed.Size > 0 {
		return s.holds(tree, signed.Size, signed.Root, "signed by this node")
	}
	return nil
}

func (s *Sealer) holds(tree ledger.Head, size uint64, root ledger.Hash, how string) error {
	if size > tree.Size {
		// Below what is known: the fold is behind. Never sign here.
		return fmt.Errorf("a head of size %d was %s, the ledger has %d leaves: waiting for the fold", size, how, tree.Size)
	}
	got, err := s.o.Log.Root(size)
	if err != nil {
		return fmt.Errorf("compare with the head %s: %w", how, err)
	}
	if got != root {
		return fmt.Errorf("%w: at size %d the ledger has root %s, the head %s has %s", ErrFork, size, got, how, root)
	}
	return nil
}

func (s *Sealer) sign(tree ledger.Head) (remembrancer.Head, error) {
	var h remembrancer.Head
	if err := s.o.State.Store(Signed{tree.Size, tree.Root}); err != nil { // 3
		return h, fmt.Errorf("store the signer's state: %w", err)
	}
	checkpoint, err := proof.SignCheckpoint(s.o.Origin, tree.Size, proof.Hash(tree.Root), s.o.Signer) // 4
	if err != nil {
		return h, err
	}
	at := s.o.Clock()
	asc, err := s.o.PGP(checkpoint, at)
	if err != nil {
		return h, fmt.Errorf("sign the checkpoint of size %d: %w", tree.Size, err)
	}
	return remembrancer.NewHead(s.o.Origin, tree.Size, proof.Hash(tree.Root).String(), tree.Substantive, string(checkpoint), string(asc), at), nil
}

// window is how many leaves one round of receipts covers, which bounds memory
// when a sealer catches up.
const window = 8 << 10

// release publishes receipts for the leaves that the head is the first to cover,
// and for events that were sent again.
func (s *Sealer) release(ctx context.Context, h remembrancer.Head) error {
	r := receipts{}
	for _, repeat := range s.o.Log.TakeRepeats() {
		// One above is not lost: its first release is still to come.
		if repeat.Index < s.released {
			if err := s.o.Log.Entries(repeat.Index, repeat.Index+1, r.add); err != nil {
				return fmt.Errorf("release receipts: %w", err)
			}
		}
	}
	for {
		to := min(s.released+window, h.Size)
		if err := s.o.Log.Entries(s.released, to, r.add); err != nil {
			return fmt.Errorf("release receipts: %w", err)
		}
		if err := s.deliver(ctx, h, r); err != nil {
			return err
		}
		s.released = max(s.released, to)
		if s.released >= h.Size {
			return nil
		}
		clear(r)
	}
}

// receipts are the items that each producer is owed.
type receipts map[events.Producer][]proof.ReceiptItem

func (r receipts) add(e ledger.Entry) error {
	if e.Quarantine == nil {
		p := e.Event.Source.Producer()
		r[p] = append(r[p], proof.ReceiptItem{Index: e.Index, Leaf: proof.LeafHash(e.Bytes), EventID: string(e.Event.ID)})
	}
	return nil
}

func (s *Sealer) deliver(ctx context.Context, h remembrancer.Head, r receipts) error {
	root, err := proof.ParseHash(h.Root)
	if err != nil {
		return fmt.Errorf("release receipts: %w", err)
	}
	for p, items := range r {
		slices.SortFunc(items, func(a, b proof.ReceiptItem) int { return cmp.Compare(a.Index, b.Index) })
		batch := proof.ReceiptBatch{Origin: s.o.Origin, Producer: string(p), Size: h.Size, Root: root, Items: items}
		for _, part := range proof.SplitReceipts(batch, events.MaxReceipt) {
			signed, err := proof.SignReceipts(part, s.o.Signer)
			if err != nil {
				return fmt.Errorf("release receipts: %w", err)
			}
			if err := s.o.Receipts.Publish(ctx, p, signed); err != nil {
				s.o.Logger.Warn("receipts not delivered; the producer will ask again", "producer", string(p), "size", h.Size, "error", err)
			}
		}
	}
	return nil
}

// canonical encodes a head for the stream.
func canonical(h remembrancer.Head) ([]byte, error) {
	b, err := canon.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode the head of size %d: %w", h.Size, err)
	}
	return b, nil
}
