package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// FollowOptions say what is read and in what portions.
type FollowOptions struct {
	Stream  string
	From    uint64    // the first sequence; 0 is 1
	Created time.Time // of the stream that From belongs to; zero does not check
	Filter  string    // only messages on this subject pattern; implies Gaps
	Gaps    bool      // accept missing sequences, in streams that delete by age or size

	BatchMessages int // the most in one call; 0 is 2,000
	BatchBytes    int // of bodies in one call, a single message may be larger; 0 is 4 MiB
}

const (
	followHeartbeat = 3 * time.Second
	followExpires   = 30 * time.Second
)

// Follow calls fn with the messages of a stream, in order, from a sequence on, as
// they come: each batch is what was waiting, up to the limits, and the next is
// fetched while fn runs. The position is the caller's; the broker keeps none. It
// reconnects by itself and returns only fn's error, the context's, ErrNoStream,
// ErrNotAllowed, a *GapError, or a *RegressedError: at the start and after every
// loss of the connection, the stream's creation time and last sequence are compared.
// The slice belongs to fn until it returns; the messages in it stay valid. At most
// three batches are in memory.
func (c *Conn) Follow(ctx context.Context, o FollowOptions, fn func(ctx context.Context, batch []Message) error) error {
	if err := c.follow(ctx, o, 0, fn); err != nil {
		return fmt.Errorf("follow %s: %w", o.Stream, err)
	}
	return nil
}

// Replay calls fn with the messages from one sequence to another, both included, as
// Follow does. A stream that ends before is a *RegressedError.
func (c *Conn) Replay(ctx context.Context, stream string, from, to uint64, fn func(ctx context.Context, batch []Message) error) error {
	if to == 0 || from > to {
		return nil
	}
	if err := c.follow(ctx, FollowOptions{Stream: stream, From: from}, to, fn); err != nil {
		return fmt.Errorf("replay %s from %d to %d: %w", stream, from, to, err)
	}
	return nil
}

// A follower is one call of Follow. The subscription's goroutine fills the buffer,
// the caller's takes it.
type follower struct {
	c    *Conn
	o    FollowOptions
	to   uint64 // 0 is no end
	next uint64 // sequence that take hands out next

	sub      *nats.Subscription
	consumer string
	inbox    string
	wake     chan struct{} // holds a token when the buffer or the state changed

	mu         sync.Mutex
	generation int // of the consumer
	buffer     []Message
	asked      int    // messages that were asked for and have not come
	upTo       uint64 // the last sequence in the buffer or handed out
	fresh      bool   // nothing came from this consumer yet
	heard      bool   // something came since the last check
	lost       bool   // the consumer is gone or unsure: make another
	failed     error  // ends the call
}

func (c *Conn) follow(ctx context.Context, o FollowOptions, to uint64, fn func(context.Context, []Message) error) error {
	o.BatchMessages, o.BatchBytes = cmp.Or(o.BatchMessages, 2000), cmp.Or(o.BatchBytes, 4<<20)
	o.Gaps = o.Gaps || o.Filter != ""
	f := &follower{c: c, o: o, to: to, next: max(o.From, 1), wake: make(chan struct{}, 1)}
	defer f.drop()
	restored, stop := c.onRestored()
	defer stop()
	defer c.watch(f.concerns, func(e *NotAllowedError) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.failed = e
		f.poke()
	})()
	check := time.NewTicker(2*followHeartbeat + followHeartbeat/2)
	defer check.Stop()
	f.lost = true
	for attempt := 0; ; {
		if err := f.failure(); err != nil {
			return err
		}
		if f.isLost() {
			if err := f.attach(ctx); err != nil {
				if !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
					return cmp.Or(ctx.Err(), err)
				}
				c.log.Warn("follow a stream: trying again", "stream", o.Stream, "err", err)
				if err := pause(ctx, attempt); err != nil {
					return err
				}
				attempt++
				continue
			}
			attempt = 0
		}
		batch, err := f.take()
		if err != nil {
			return err
		}
		if len(batch) > 0 {
			if err := f.hand(ctx, batch, fn); err != nil {
				return err
			}
			if to > 0 && f.next > to {
				return nil
			}
			continue
		}
		if f.isLost() {
			continue
		}
		select {
		case <-f.wake:
		case <-restored:
			f.lose()
		case <-check.C:
			f.mu.Lock()
			if !f.heard {
				f.lost = true
			}
			f.heard = false
			f.mu.Unlock()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hand calls fn with a batch, cut to the limits.
func (f *follower) hand(ctx context.Context, batch []Message, fn func(context.Context, []Message) error) error {
	for len(batch) > 0 {
		n, size := 0, 0
		for n < len(batch) && n < f.o.BatchMessages && (n == 0 || size+len(batch[n].Data) <= f.o.BatchBytes) {
			size += len(batch[n].Data)
			n++
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(ctx, batch[:n:n]); err != nil {
			return err
		}
		f.next = batch[n-1].Sequence + 1
		batch = batch[n:]
	}
	return nil
}

// attach checks the stream and makes a consumer at the next sequence.
func (f *follower) attach(ctx context.Context) error {
	f.drop()
	info, err := f.c.StreamInfo(ctx, f.o.Stream)
	if err != nil {
		return err
	}
	regressed := &RegressedError{Stream: f.o.Stream, Position: f.next - 1, Last: info.Last, Was: f.o.Created, Created: info.Created}
	switch {
	case !f.o.Created.IsZero() && !f.o.Created.Equal(info.Created), info.Last+1 < f.next:
		return regressed
	case f.to > info.Last:
		regressed.Position = f.to
		return regressed
	case !f.o.Gaps && info.First > f.next:
		return &GapError{Stream: f.o.Stream, Expected: f.next, Found: info.First}
	}
	f.o.Created = info.Created
	cfg := jetstream.ConsumerConfig{
		Name: nuid.Next(), DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: f.next,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, FilterSubject: f.o.Filter,
		// Nobody deletes it: readers may not. It ends by itself.
		InactiveThreshold: 2 * followHeartbeat,
	}
	err = f.c.guard(ctx, f.createSubject(cfg.Name), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, f.c.timeout)
		defer cancel()
		_, err := f.c.js.CreateConsumer(ctx, f.o.Stream, cfg)
		return err
	})
	if err != nil {
		return adminError(err)
	}
	f.consumer, f.inbox = cfg.Name, f.c.nc.NewInbox()
	f.mu.Lock()
	f.generation++
	generation := f.generation
	f.buffer, f.asked, f.upTo, f.lost, f.heard, f.fresh = nil, 0, f.next-1, false, true, true
	f.mu.Unlock()
	f.sub, err = f.c.nc.Subscribe(f.inbox, func(m *nats.Msg) { f.receive(generation, m) })
	if err != nil {
		f.lose()
		return brokerError(err)
	}
	return f.sub.SetPendingLimits(-1, -1) // bounded by what is asked for
}

func (f *follower) createSubject(consumer string) string {
	s := f.c.api + "CONSUMER.CREATE." + f.o.Stream + "." + consumer
	if f.o.Filter != "" {
		s += "." + f.o.Filter
	}
	return s
}

func (f *follower) nextSubject() string {
	return f.c.api + "CONSUMER.MSG.NEXT." + f.o.Stream + "." + f.consumer
}

func (f *follower) concerns(subject string) bool {
	return strings.HasPrefix(subject, f.c.api+"CONSUMER.MSG.NEXT."+f.o.Stream+".")
}

func (f *follower) drop() {
	if f.sub != nil {
		_ = f.sub.Unsubscribe()
		f.sub = nil
	}
}

// take asks for more where there is room, and returns what is waiting.
func (f *follower) take() ([]Message, error) {
	f.mu.Lock()
	batch := f.buffer
	f.buffer = nil
	failed, lost, asked, upTo := f.failed, f.lost, f.asked, f.upTo
	f.mu.Unlock()
	if lost && len(batch) > 0 {
		return batch, nil // first what came in order
	}
	if failed != nil || lost {
		return nil, failed
	}
	n := f.o.BatchMessages
	for asked+n <= 2*f.o.BatchMessages {
		if f.to > 0 {
			if rest := f.to - min(f.to, upTo+uint64(asked)); rest < uint64(n) {
				n = int(rest)
			}
		}
		if n == 0 {
			break
		}
		body, err := json.Marshal(map[string]any{
			"batch": n, "max_bytes": f.o.BatchBytes + maxPayload, "expires": followExpires, "idle_heartbeat": followHeartbeat,
		})
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		f.asked += n
		f.mu.Unlock()
		asked += n
		if err := f.c.nc.PublishRequest(f.nextSubject(), f.inbox, body); err != nil {
			f.lose() // disconnected: attach waits for the connection
			break
		}
	}
	return batch, nil
}

func (f *follower) isLost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost && len(f.buffer) == 0
}

// failure returns what ends the call, after what came before it was handed out.
func (f *follower) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.buffer) > 0 {
		return nil
	}
	return f.failed
}

func (f *follower) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = true
}

func (f *follower) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// receive takes one message or status from the broker.
func (f *follower) receive(generation int, msg *nats.Msg) {
	var m Message
	var ok bool
	isMessage := strings.HasPrefix(msg.Reply, "$JS.ACK.")
	if isMessage {
		m, ok = parseMessage(msg)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if generation != f.generation || f.lost {
		return // of a consumer that was given up
	}
	f.heard = true
	if !isMessage {
		f.status(msg)
		return
	}
	f.asked--
	want := f.upTo + 1
	switch {
	case !ok, m.Sequence < want:
		f.lost = true
	case m.Sequence > want && !f.o.Gaps:
		// Either lost on the way, or missing in the stream: a new consumer that
		// begins where this one should have gone on tells which.
		if f.fresh {
			f.failed = &GapError{Stream: f.o.Stream, Expected: want, Found: m.Sequence}
		}
		f.lost = true
	default:
		f.fresh = false
		f.upTo = m.Sequence
		f.buffer = append(f.buffer, m)
		if len(f.buffer) > 1 {
			return // woken before
		}
	}
	f.poke()
}

// status takes the broker's word on a request: see ADR-13 of NATS.
func (f *follower) status(msg *nats.Msg) {
	pending, err := strconv.Atoi(msg.Header.Get("Nats-Pending-Messages"))
	switch code := msg.Header.Get("Status"); {
	case code == "100": // heartbeat
		return
	case err == nil && pending > 0 && (code == "408" || code == "409"):
		f.asked -= pending // the request ended by time or by bytes
	default:
		f.lost = true
	}
	f.poke()
}

// parseMessage reads what the broker says of a message in its reply subject:
// $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<time>.<pending>
func parseMessage(msg *nats.Msg) (Message, bool) {
	var dots [12]int
	n := 0
	for i := 0; i < len(msg.Reply) && n < len(dots); i++ {
		if msg.Reply[i] == '.' {
			dots[n] = i
			n++
		}
	}
	first := 4 // the dot before the sequence
	switch {
	case n == 8:
	case n >= 10:
		first = 6
	default:
		return Message{}, false
	}
	sequence, err := strconv.ParseUint(msg.Reply[dots[first]+1:dots[first+1]], 10, 64)
	stored, err2 := strconv.ParseInt(msg.Reply[dots[first+2]+1:dots[first+3]], 10, 64)
	return Message{
		Subject: msg.Subject, Sequence: sequence, Time: time.Unix(0, stored).UTC(), Header: msg.Header, Data: msg.Data,
	}, err == nil && err2 == nil
}

// pause waits before another attempt: 50 ms doubled up to 2 s, of which half is
// random.
func pause(ctx context.Context, attempt int) error {
	wait := min(50*time.Millisecond<<min(attempt, 10), 2*time.Second)
	timer := time.NewTimer(wait/2 + rand.N(wait/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
