package timestamp

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
)

// Interval is the shortest time between two tokens.
const Interval = time.Second

// A Stamp is a verified token.
type Stamp struct {
	Token   []byte // DER of the whole TimeStampResp
	GenTime time.Time
	TSA     string // who stamped: the URL, or the name in the certificate
}

// Authority stamps digests.
type Authority interface {
	// Stamp returns a token over the digest, verified in full against roots that
	// the operator trusts. It ends when ctx does.
	Stamp(ctx context.Context, digest [sha256.Size]byte) (Stamp, error)
}

// Checkpoints are the published heads and what is known of their tokens.
type Checkpoints interface {
	Latest() (remembrancer.Head, bool)
	// At returns the head of exactly this size.
	At(size uint64) (remembrancer.Head, bool, error)
	// Stamped returns the size of the newest stamped checkpoint, 0 if none.
	Stamped() uint64
	Seals(size uint64) ([]remembrancer.Seal, error)
	Changed() <-chan struct{}
}

// Seals is the stream SEALS.
type Seals interface {
	// Publish returns once the seal is durable.
	Publish(ctx context.Context, s remembrancer.Seal) error
}

// Blobs keeps raw tokens.
type Blobs interface {
	Put(ctx context.Context, data []byte) (string, error)
}

// Log takes the events that record tokens.
type Log interface {
	// Record publishes the payload as the node's event. The id and time make
	// the event the same whenever it is recorded again.
	Record(ctx context.Context, p events.Payload, id events.ID, at time.Time) error
	// Recorded reports whether the log holds the node's event with this id.
	Recorded(id events.ID) (bool, error)
}

// Options are the parts of a Stamper.
type Options struct {
	Authority   Authority
	Checkpoints Checkpoints
	Seals       Seals
	Blobs       Blobs
	Log         Log
	Logger      *slog.Logger
	Rand        *rand.Rand    // jitter
	Interval    time.Duration // 0 is Interval
	Retry       time.Duration // the longest pause between tries; 0 is a minute
}

// A Stamper stamps the checkpoints of one log. Run is its only user.
type Stamper struct {
	o Options
}

// New returns a stamper that has not done anything yet.
func New(o Options) *Stamper {
	if o.Interval == 0 {
		o.Interval = Interval
	}
	if o.Retry == 0 {
		o.Retry = time.Minute
	}
	return &Stamper{o}
}

// Run stamps until ctx ends. An authority that is down delays tokens and nothing
// else: it is asked again for ever, with growing pauses.
func (s *Stamper) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := s.o.Interval
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		changed := s.o.Checkpoints.Changed()
		err := s.Stamp(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			pause = min(2*pause, s.o.Retry)
			wait := pause/2 + time.Duration(s.o.Rand.Int64N(int64(pause/2)+1))
			s.o.Logger.Warn("checkpoint not stamped, trying again", "error", err, "in", wait)
			timer.Reset(wait)
			continue
		}
		pause = s.o.Interval
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		timer.Reset(s.o.Interval)
	}
}

// Stamp stamps the newest checkpoint if it holds more than housekeeping that is
// not stamped yet. The order of its steps:
//
//  1. Record the newest token if a crash came between 4 and 5 the last time.
//  2. Get a token over the exact bytes of the checkpoint, and verify it.
//  3. Keep the raw token as a blob: the event that names it must not outlive it.
//  4. Publish it on SEALS, where it becomes part of receipts.
//  5. Record its digest as an event: later leaves are later than the token.
func (s *Stamper) Stamp(ctx context.Context) error {
	stamped := s.o.Checkpoints.Stamped()
	before := uint64(0)
	if stamped > 0 {
		if err := s.recover(ctx, stamped); err != nil { // 1
			return err
		}
		h, ok, err := s.o.Checkpoints.At(stamped)
		if err != nil {
			return err
		}
		if ok {
			before = h.Substantive
		}
	}
	h, ok := s.o.Checkpoints.Latest()
	if !ok || h.Size <= stamped || h.Substantive <= before {
		return nil
	}
	stamp, err := s.o.Authority.Stamp(ctx, sha256.Sum256([]byte(h.Checkpoint))) // 2
	if err != nil {
		return fmt.Errorf("stamp the checkpoint of size %d: %w", h.Size, err)
	}
	sum, err := s.o.Blobs.Put(ctx, stamp.Token) // 3
	if err != nil {
		return fmt.Errorf("keep the token of size %d: %w", h.Size, err)
	}
	seal := remembrancer.NewTokenSeal(h, base64.StdEncoding.EncodeToString(stamp.Token), sum, stamp.TSA, stamp.GenTime)
	if err := s.o.Seals.Publish(ctx, seal); err != nil { // 4
		return fmt.Errorf("publish the token of size %d: %w", h.Size, err)
	}
	return s.record(ctx, seal) // 5
}

func (s *Stamper) recover(ctx context.Context, size uint64) error {
	seals, err := s.o.Checkpoints.Seals(size)
	if err != nil {
		return err
	}
	for _, seal := range seals {
		if seal.Kind != remembrancer.SealToken {
			continue
		}
		if err := s.record(ctx, seal); err != nil {
			return err
		}
	}
	return nil
}

// record publishes the event of a token unless the log has it. The event follows
// from the seal alone, so that repeating it changes nothing.
func (s *Stamper) record(ctx context.Context, seal remembrancer.Seal) error {
	id := events.DerivedID(events.SourceOf(events.NodeProducer), events.ID(seal.TokenSHA256), "timestamp", 1)
	done, err := s.o.Log.Recorded(id)
	if err != nil || done {
		return err
	}
	p, at, err := remembrancer.StampedBy(seal)
	if err != nil {
		return err
	}
	if err := s.o.Log.Record(ctx, p, id, at); err != nil {
		return fmt.Errorf("record the token of size %d: %w", seal.Size, err)
	}
	return nil
}

// Several asks one authority after the other until one answers.
type Several []Authority

// ErrNoAuthority means that there is nobody to ask.
var ErrNoAuthority = errors.New("no time-stamping authority is configured")

// Stamp implements Authority.
func (several Several) Stamp(ctx context.Context, digest [sha256.Size]byte) (Stamp, error) {
	errs := []error{}
	for _, a := range several {
		stamp, err := a.Stamp(ctx, digest)
		if err == nil {
			return stamp, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return Stamp{}, ErrNoAuthority
	}
	return Stamp{}, errors.Join(errs...)
}
