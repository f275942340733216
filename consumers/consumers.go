package consumers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
)

// An Item is one entry of the feed.
type Item struct {
	Index       uint64    // of the leaf in the log
	Time        time.Time // when the broker stored it
	Event       events.Event
	Canonical   []byte // the event's bytes in the log
	Valid       bool   // the schema verdict
	Quarantined bool   // not an event: Event is empty
}

// Feed is the ledger's accepted events, by leaf index.
type Feed interface {
	// Next returns entries from an index on, in order without gaps, at least one
	// and at most max. It waits until there is one or the context ends.
	Next(ctx context.Context, from uint64, max int) ([]Item, error)
}

// PositionStore keeps how far each consumer has come.
type PositionStore interface {
	// Load returns the index of the first item that the consumer has not
	// finished, 0 if it never ran.
	Load(ctx context.Context, consumer string) (uint64, error)
	// Store replaces it. When it returns, the position survives a crash.
	Store(ctx context.Context, consumer string, next uint64) error
}

// DeadLetters takes what a consumer gave up on.
type DeadLetters interface {
	// Bury keeps the letter. When it returns nil, the consumer goes on without
	// the item. The same letter may come again after a crash.
	Bury(ctx context.Context, letter DeadLetter) error
}

// A Consumer is a handler and what it wants to see. Without domains and types it
// sees every event.
type Consumer struct {
	Name    string // a bounded name: its position and dead letters are found by it
	Domains []events.Domain
	Types   []events.Type
	// Handle acts on a valid event. An error is retried; one that wraps
	// ErrPermanent is not. It must end soon after its context.
	Handle func(ctx context.Context, item Item) error
}

// Wants reports whether the consumer is handed the item: only valid events, of its
// domains or types.
func (c *Consumer) Wants(item Item) bool {
	if item.Quarantined || !item.Valid {
		return false
	}
	if len(c.Domains) == 0 && len(c.Types) == 0 {
		return true
	}
	return slices.Contains(c.Domains, item.Event.Type.Domain()) || slices.Contains(c.Types, item.Event.Type)
}

// ErrPermanent marks errors for which trying again is useless: the item goes to the
// dead letters at once.
var ErrPermanent = errors.New("permanent failure")

// RetryPolicy says how often and how fast a failed item is tried again.
type RetryPolicy struct {
	Attempts int           // in all, then the item is given up; 0 is 8
	First    time.Duration // before the second attempt, then doubled; 0 is 200 ms
	Max      time.Duration // the longest; 0 is 30 s
}

// Options are what Run works with. Feed, Positions and Dead are needed.
type Options struct {
	Feed      Feed
	Positions PositionStore
	Dead      DeadLetters
	Retry     RetryPolicy
	Batch     int                                              // items taken from the feed at once; 0 is 256
	Now       func() time.Time                                 // nil is time.Now
	Wait      func(ctx context.Context, d time.Duration) error // nil waits on a timer
	Random    func() float64                                   // in [0,1), for jitter; nil is math/rand
	Logger    *slog.Logger                                     // nil discards
}

// Run hands the feed's valid events to the consumer, one after the other in order,
// from its stored position on, until the context ends, and returns the context's
// error. Other errors are those of the position store and the feed.
func Run(ctx context.Context, c Consumer, o Options) error {
	if c.Name == "" || c.Handle == nil || o.Feed == nil || o.Positions == nil || o.Dead == nil {
		return errors.New("run a consumer: a name, a handler, a feed, a position store and dead letters are needed")
	}
	if err := newRunner(c, o).run(ctx); err != nil {
		return fmt.Errorf("run consumer %s: %w", c.Name, err)
	}
	return nil
}

type runner struct {
	Consumer
	Options
}

func newRunner(c Consumer, o Options) *runner {
	r := &runner{c, o}
	r.Retry.Attempts = cmp.Or(o.Retry.Attempts, 8)
	r.Retry.First = cmp.Or(o.Retry.First, 200*time.Millisecond)
	r.Retry.Max = cmp.Or(o.Retry.Max, 30*time.Second)
	r.Batch = cmp.Or(o.Batch, 256)
	r.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler)).With("consumer", c.Name)
	if r.Now == nil {
		r.Now = time.Now
	}
	if r.Wait == nil {
		r.Wait = wait
	}
	if r.Random == nil {
		r.Random = rand.Float64
	}
	return r
}

func (r *runner) run(ctx context.Context) error {
	next, err := r.Positions.Load(ctx, r.Name)
	if err != nil {
		return fmt.Errorf("load its position: %w", err)
	}
	for {
		items, err := r.Feed.Next(ctx, next, r.Batch)
		if err != nil {
			return cmp.Or(ctx.Err(), err)
		}
		if len(items) == 0 || items[0].Index != next {
			return fmt.Errorf("the feed did not answer with index %d", next)
		}
		stored := next
		for _, item := range items {
			if item.Index != next {
				return fmt.Errorf("the feed skips from index %d to %d", next, item.Index)
			}
			if r.Wants(item) {
				if err := r.handle(ctx, item); err != nil {
					return err
				}
				// After the effect and before the next one: a crash in between
				// repeats this item only.
				if err := r.Positions.Store(ctx, r.Name, item.Index+1); err != nil {
					return cmp.Or(ctx.Err(), fmt.Errorf("store its position: %w", err))
				}
				stored = item.Index + 1
			}
			next = item.Index + 1
		}
		if stored == next {
			continue
		}
		if err := r.Positions.Store(ctx, r.Name, next); err != nil {
			return cmp.Or(ctx.Err(), fmt.Errorf("store its position: %w", err))
		}
	}
}

// handle tries an item until it is done or buried. Its error ends the consumer.
func (r *runner) handle(ctx context.Context, item Item) error {
	for attempt := 1; ; attempt++ {
		err := r.try(ctx, item)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err() // stopping is no failure of the item
		}
		permanent := errors.Is(err, ErrPermanent)
		if !permanent && attempt < r.Retry.Attempts {
			r.Logger.Warn("an event failed, trying again", "event", item.Event.String(), "index", item.Index, "attempt", attempt, "err", err)
			if err := r.Wait(ctx, r.backoff(attempt)); err != nil {
				return err
			}
			continue
		}
		r.Logger.Error("gave an event up", "event", item.Event.String(), "index", item.Index, "attempt", attempt, "err", err)
		return r.bury(ctx, DeadLetter{
			Version: letterVersion, Consumer: r.Name, Index: item.Index, Reason: err.Error(), Permanent: permanent,
			Attempts: attempt, At: r.Now().UTC(), Event: item.Canonical,
		})
	}
}

// bury repeats until it succeeds: without the letter the item would be lost.
func (r *runner) bury(ctx context.Context, letter DeadLetter) error {
	for attempt := 1; ; attempt++ {
		err := r.Dead.Bury(ctx, letter)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.Logger.Error("cannot bury an event, trying again", "index", letter.Index, "err", err)
		if err := r.Wait(ctx, r.backoff(attempt)); err != nil {
			return err
		}
	}
}

// try calls the handler and makes a panic an error: an event that breaks one
// handler must not end the process.
func (r *runner) try(ctx context.Context, item Item) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.Logger.Error("a handler panicked", "index", item.Index, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("the handler panicked: %v", p)
		}
	}()
	return r.Handle(ctx, item)
}

// backoff returns the wait after the n-th attempt, half of it random.
func (r *runner) backoff(n int) time.Duration {
	d := r.Retry.Max
	if shift := n - 1; shift < 32 {
		if grown := r.Retry.First << shift; grown > 0 {
			d = min(d, grown)
		}
	}
	return d/2 + time.Duration(r.Random()*float64(d/2))
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
