package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// A Stream is the events of one epoch on the bus.
type Stream interface {
	// Follow calls fn with consecutive messages, the first of which has the
	// given sequence, until ctx ends or fn fails. The data of a message is not
	// used again after it was handed over.
	Follow(ctx context.Context, from uint64, fn func(context.Context, []Message) error) error
	// Message returns one stored message; the error wraps ErrNotFound if the
	// stream has no such sequence.
	Message(ctx context.Context, sequence uint64) (Message, error)
}

// Fold follows a stream from the ledger's own position until ctx ends: the
// broker's memory of what was acknowledged is never asked. While one batch is
// committed, the next is prepared. It returns ErrRegressed if the stream does
// not continue the ledger, and what Apply returns.
func (l *Ledger) Fold(ctx context.Context, epoch uint32, created time.Time, s Stream) error {
	if err := l.CheckTail(ctx, created, s); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	prepared := make(chan *Batch)
	applied := make(chan struct{})
	go func() {
		defer close(applied)
		if err := l.applyAll(ctx, prepared); err != nil {
			cancel(err)
		}
		// What was prepared after a failure is dropped; it is still in the stream.
		for range prepared {
		}
	}()
	err := s.Follow(ctx, l.Head().Position.Sequence+1, func(ctx context.Context, msgs []Message) error {
		select {
		case prepared <- l.Prepare(epoch, created, msgs):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	close(prepared)
	<-applied
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// Bounds of one commit. A sync costs about as much as folding a hundred events, so
// that a busy stream is committed at most every pace; after a pause the first
// message is committed at once.
const (
	pace       = 4 * time.Millisecond
	maxMessage = 4096
)

// applyAll applies what comes, joining batches that come within one pace.
func (l *Ledger) applyAll(ctx context.Context, prepared <-chan *Batch) error {
	due := time.NewTimer(0) // fires when the next commit may begin
	defer due.Stop()
	for b := range prepared {
		for open := true; open && len(b.msgs) < maxMessage; {
			var next *Batch
			select {
			case <-due.C:
				open = false
			case next, open = <-prepared:
			}
			if next != nil {
				b.msgs, b.items = append(b.msgs, next.msgs...), append(b.items, next.items...)
			}
		}
		due.Reset(pace)
		if _, err := l.Apply(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// CheckTail compares the last folded message with what the stream holds in its
// place. A broker that lost its tail reuses sequences, so that only the stored
// bytes tell.
func (l *Ledger) CheckTail(ctx context.Context, created time.Time, s Stream) error {
	head := l.Head()
	if head.Position.Sequence == 0 {
		return nil
	}
	if !head.Created.Equal(created) {
		return fmt.Errorf("%w: the stream was created %s, the one folded so far %s", ErrRegressed, created.Format(time.RFC3339Nano), head.Created.Format(time.RFC3339Nano))
	}
	m, err := s.Message(ctx, head.Position.Sequence)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: message %d was folded, and the stream has lost it", ErrRegressed, head.Position.Sequence)
	}
	if err != nil {
		return fmt.Errorf("compare the stream with the ledger: %w", err)
	}
	sum := sha256.Sum256(m.Data)
	if got := hex.EncodeToString(sum[:]); got != head.Digest {
		return fmt.Errorf("%w: message %d has other bytes than were folded", ErrRegressed, head.Position.Sequence)
	}
	return nil
}
