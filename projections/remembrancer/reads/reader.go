package reads

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
)

// MaxWait bounds every wait that a question may ask for.
const MaxWait = time.Minute

// Heads are the published checkpoints of the log, as receipts.Store holds them.
type Heads interface {
	// Latest returns the newest; false before the first.
	Latest() (remembrancer.Head, bool)
	// Covering returns the smallest that holds the leaf at index; with stamped,
	// the smallest of those that have an RFC 3161 token.
	Covering(index uint64, stamped bool) (remembrancer.Head, bool, error)
	// At returns the one of exactly this size.
	At(size uint64) (remembrancer.Head, bool, error)
	// Seals returns the tokens and cosignatures of the one of this size, in the
	// order they came.
	Seals(size uint64) ([]remembrancer.Seal, error)
	// Changed returns a channel that is closed when a head or seal has come.
	Changed() <-chan struct{}
}

// Options are the parts of a Reader.
type Options struct {
	Ledger   *ledger.Ledger
	Heads    Heads
	Registry *events.Registry
	MinWait  time.Duration // how long a read waits for min_index; 0 is 10 s
}

// A Reader answers questions about one log. Its methods may be called from many
// goroutines.
type Reader struct {
	o Options
}

// New returns a reader.
func New(o Options) *Reader {
	if o.MinWait == 0 {
		o.MinWait = 10 * time.Second
	}
	return &Reader{o}
}

// Await returns once the log holds the leaf at index, which a write returned:
// then every read of this node shows it. ErrNotYet if that takes too long.
func (r *Reader) Await(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, r.o.MinWait)
	defer cancel()
	if _, err := r.o.Ledger.Wait(ctx, index); err != nil {
		return notYet(err)
	}
	return nil
}

// notYet marks an error of waiting as ErrNotYet, unless the ledger has stopped.
func notYet(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrNotYet, err)
	}
	return err
}

// Sealed returns how many leaves the newest published checkpoint holds.
func (r *Reader) Sealed() uint64 {
	h, _ := r.o.Heads.Latest()
	return h.Size
}

// Checkpoint is a published head with what came for it afterwards.
type Checkpoint struct {
	remembrancer.Head
	Seals []remembrancer.Seal `json:"seals"` // tokens and cosignatures, oldest first
}

// Latest returns the newest checkpoint whose leaves this node holds, without its
// seals: what tlog clients read. The sealer may be another node; then the fold
// is waited for.
func (r *Reader) Latest(ctx context.Context) (remembrancer.Head, error) {
	h, ok := r.o.Heads.Latest()
	if !ok {
		return h, fmt.Errorf("%w: no checkpoint is published: the log is empty", ErrNotFound)
	}
	if h.Size == 0 {
		return h, nil
	}
	return h, r.Await(ctx, h.Size-1)
}

// Checkpoint returns the checkpoint of a size, or the newest when size is 0.
func (r *Reader) Checkpoint(ctx context.Context, size uint64) (Checkpoint, error) {
	h, err := r.Latest(ctx)
	if err != nil {
		return Checkpoint{}, err
	}
	if size != 0 {
		var ok bool
		if h, ok, err = r.o.Heads.At(size); err != nil {
			return Checkpoint{}, err
		}
		if !ok {
			return Checkpoint{}, fmt.Errorf("%w: no checkpoint of size %d was published", ErrNotFound, size)
		}
	}
	seals, err := r.o.Heads.Seals(h.Size)
	if err != nil {
		return Checkpoint{}, err
	}
	if seals == nil {
		seals = []remembrancer.Seal{}
	}
	return Checkpoint{h, seals}, nil
}

// EncodeJSON is json.Marshal without its escaping of <, > and &, so that a
// canonical event inside stays byte for byte what the log hashed.
func EncodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode an answer: %w", err)
	}
	return b.Bytes(), nil
}
