package bus

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"vaultmesh.cloud/vaultmesh/events"
)

// Limits of group commit. An atomic batch is one sync of the broker's disk, so it
// is cheaper than its messages alone as soon as it has some dozens.
const (
	// MaxBatch is the most events of one atomic batch, a limit of the broker.
	MaxBatch = 1000
	minBatch = 32 // waiting events that make a batch worth it
)

// PublisherOptions say who publishes, where and how.
type PublisherOptions struct {
	Producer events.Producer           // the only one whose events are published
	Stream   string                    // sent as Nats-Expected-Stream; empty is the first epoch's
	Check    func(*events.Event) error // the schema verdict, usually Registry.Check; nil checks the envelope only
	Outbox   *Outbox                   // keeps events until their receipts; nil keeps none. The caller closes it after the publisher
	Receipts ReceiptVerifier           // nil subscribes to no receipts; needed with Outbox
	Clock    func() time.Time          // nil is time.Now
	Rand     io.Reader                 // of jitter; nil is crypto/rand
	Logger   *slog.Logger              // nil discards

	QueueBytes  int64         // of events that wait or are in flight, more block; 0 is 32 MiB
	BatchBytes  int           // in one atomic batch; 0 is 4 MiB
	InFlight    int           // batches at once; 0 is 4
	AckWait     time.Duration // before an answer is given up and the same bytes are sent again; 0 is 5 s
	ReplayAfter time.Duration // before an event of the outbox without a receipt is sent again; 0 is 30 s
}

// Ack says where the broker stored an event. It is not yet the ledger's word: that
// is the receipt.
type Ack struct {
	Stream   string
	Sequence uint64
}

// A Publisher publishes the events of one producer. Its goroutines, a sender and
// with an outbox a replayer, belong to it and end with Close. All methods may be
// called from many goroutines at once.
type Publisher struct {
	c        *Conn
	o        PublisherOptions
	bytes    *semaphore.Weighted
	slots    chan struct{} // one for each flight
	queue    chan *pending
	receipts *receipts
	start    time.Time // nothing in the outbox from before is on its way

	inbox string // answers come on inbox.<flight>.<message>
	sub   *nats.Subscription
	next  atomic.Uint64

	mu      sync.Mutex
	flights map[uint64]*flight

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	group  errgroup.Group
	once   sync.Once
}

// A pending is one encoded event on its way.
type pending struct {
	subject string
	id      events.ID
	body    []byte
	alone   bool // a batch failed because of another event in it, perhaps
	done    chan outcome
}

type outcome struct {
	ack Ack
	err error
}

// NewPublisher starts a publisher.
func NewPublisher(c *Conn, o PublisherOptions) (*Publisher, error) {
	if o.Producer == "" {
		return nil, errors.New("a publisher needs the name of its producer")
	}
	if o.Outbox != nil && o.Receipts == nil {
		return nil, errors.New("an outbox needs a receipt verifier, or it would never be emptied")
	}
	o.Stream = cmp.Or(o.Stream, events.EventsStream(1))
	o.QueueBytes, o.BatchBytes = cmp.Or(o.QueueBytes, 32<<20), cmp.Or(o.BatchBytes, 4<<20)
	o.InFlight, o.AckWait = cmp.Or(o.InFlight, 4), cmp.Or(o.AckWait, 5*time.Second)
	o.ReplayAfter = cmp.Or(o.ReplayAfter, 30*time.Second)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Rand == nil {
		o.Rand = crand.Reader
	}
	p := &Publisher{
		c: c, o: o, bytes: semaphore.NewWeighted(o.QueueBytes), slots: make(chan struct{}, o.InFlight),
		queue: make(chan *pending, 2*MaxBatch), flights: map[uint64]*flight{}, inbox: c.nc.NewInbox(),
	}
	p.start = o.Clock().Add(-1) // the clock may be coarse
	p.ctx, p.cancel = context.WithCancel(context.Background())
	var err error
	if p.sub, err = c.nc.Subscribe(p.inbox+".*.*", p.onAnswer); err != nil {
		return nil, fmt.Errorf("subscribe to answers: %w", brokerError(err))
	}
	if err = p.sub.SetPendingLimits(-1, -1); err != nil { // bounded by what is in flight
		return nil, fmt.Errorf("subscribe to answers: %w", err)
	}
	if o.Receipts != nil {
		if p.receipts, err = subscribeReceipts(c, o); err != nil {
			_ = p.sub.Unsubscribe()
			return nil, err
		}
	}
	p.group.Go(func() error { p.send(); return nil })
	if o.Outbox != nil {
		p.group.Go(func() error { p.replay(); return nil })
	}
	return p, nil
}

// Close ends the publisher. Calls that wait return ErrClosed: their events may have
// been stored.
func (p *Publisher) Close() error {
	p.once.Do(func() {
		p.cancel()
		_ = p.group.Wait()
		_ = p.sub.Unsubscribe()
		if p.receipts != nil {
			p.receipts.close()
		}
		p.mu.Lock()
		flights := p.flights
		p.flights = map[uint64]*flight{}
		p.mu.Unlock()
		for _, f := range flights {
			f.fail(ErrClosed)
		}
	})
	return nil
}

// Publish stores one event and waits for the broker's acknowledgement. Events of
// concurrent calls are stored together. Without an answer it sends the same bytes
// again until the context ends: the fold skips exact repeats. The error is
// a *events.Refusal, the error of Check, or one of ErrFull, ErrTooLarge,
// ErrNotAllowed, ErrWrongStream, ErrRefused, ErrUnavailable and ErrClosed. With an
// outbox, ErrFull, ErrWrongStream, ErrUnavailable and ErrClosed of the broker leave
// the event there: it will be sent later.
func (p *Publisher) Publish(ctx context.Context, e *events.Event) (Ack, error) {
	m, err := p.encode(ctx, e)
	if err == nil {
		err = p.keep(m)
	}
	if err != nil {
		return Ack{}, fmt.Errorf("publish %s: %w", e, err)
	}
	ack, err := p.deliver(ctx, m)
	if err != nil {
		return Ack{}, fmt.Errorf("publish %s: %w", e, err)
	}
	return ack, nil
}

// PublishRaw publishes the canonical bytes of an event, as they were stored before.
func (p *Publisher) PublishRaw(ctx context.Context, subject string, canonical []byte) (Ack, error) {
	m, err := p.parse(subject, canonical)
	if err == nil {
		err = p.keep(m)
	}
	var ack Ack
	if err == nil {
		ack, err = p.deliver(ctx, m)
	}
	if err != nil {
		return Ack{}, fmt.Errorf("publish on %s: %w", subject, err)
	}
	return ack, nil
}

// PublishBatch stores all of at most MaxBatch events, next to each other, or none.
func (p *Publisher) PublishBatch(ctx context.Context, list []*events.Event) ([]Ack, error) {
	if len(list) == 0 {
		return nil, nil
	}
	if len(list) > MaxBatch {
		return nil, fmt.Errorf("%w: %d events in an atomic batch, the most is %d: use PublishAll", ErrTooLarge, len(list), MaxBatch)
	}
	batch := make([]*pending, len(list))
	size := 0
	for i, e := range list {
		m, err := p.encode(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("publish %s: %w", e, err)
		}
		batch[i] = m
		size += len(m.body)
	}
	if limit := min(p.o.QueueBytes, 16*int64(p.o.BatchBytes)); int64(size) > limit {
		return nil, fmt.Errorf("%w: %d bytes in an atomic batch, the most is %d: use PublishAll", ErrTooLarge, size, limit)
	}
	if err := p.keep(batch...); err != nil {
		return nil, fmt.Errorf("publish %d events: %w", len(list), err)
	}
	acks, err := p.deliverBatch(ctx, batch, true)
	if err != nil {
		return nil, fmt.Errorf("publish %d events: %w", len(list), err)
	}
	return acks, nil
}

// PublishAll stores many events in atomic batches, several on their way at once,
// and returns how many leading events were acknowledged. On an error later ones may
// have been stored too; publishing all again does no harm. The order is kept unless
// a batch had to be sent again.
func (p *Publisher) PublishAll(ctx context.Context, list iter.Seq[*events.Event]) (int, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(p.o.InFlight)
	var mu sync.Mutex
	acked := map[int]int{} // chunk → events
	chunk := 0
	var batch []*pending
	size := 0
	flush := func() {
		ready, n := batch, chunk
		batch, size = make([]*pending, 0, MaxBatch), 0
		chunk++
		if len(ready) == 0 {
			return
		}
		g.Go(func() error {
			if err := p.keep(ready...); err != nil {
				return err
			}
			if _, err := p.deliverBatch(ctx, ready, true); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			acked[n] = len(ready)
			return nil
		})
	}
	var first error
	for e := range list {
		m, err := p.encode(ctx, e)
		if err != nil {
			first = fmt.Errorf("publish %s: %w", e, err)
			break
		}
		if size+len(m.body) > p.o.BatchBytes || len(batch) == MaxBatch {
			flush()
		}
		batch = append(batch, m)
		size += len(m.body)
		if ctx.Err() != nil {
			break
		}
	}
	flush()
	if err := g.Wait(); err != nil {
		first = fmt.Errorf("publish many events: %w", err)
	} else if first == nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.Canceled) {
		first = fmt.Errorf("publish many events: %w", context.Cause(ctx))
	}
	total := 0
	for i := range chunk {
		n, ok := acked[i]
		if !ok {
			break
		}
		total += n
	}
	return total, first
}

// encode makes the bytes of an event and checks that they may be published.
func (p *Publisher) encode(ctx context.Context, e *events.Event) (*pending, error) {
	if got := e.Source.Producer(); got != p.o.Producer {
		return nil, fmt.Errorf("%w: the publisher speaks for %q, the event's source is %q", ErrNotAllowed, p.o.Producer, e.Source)
	}
	e = traced(ctx, e)
	if p.o.Check != nil {
		if err := p.o.Check(e); err != nil {
			return nil, err
		}
	}
	body, err := e.Canonical()
	if err != nil {
		return nil, err
	}
	return &pending{subject: e.NATSSubject(), id: e.ID, body: body}, nil
}

func (p *Publisher) parse(subject string, canonical []byte) (*pending, error) {
	e, body, err := events.Accept(subject, canonical)
	if err != nil {
		return nil, err
	}
	if len(body) != len(canonical) || &body[0] != &canonical[0] {
		return nil, fmt.Errorf("the bytes of %s are not canonical: they would be another event to a strict reader", &e)
	}
	if got := e.Source.Producer(); got != p.o.Producer {
		return nil, fmt.Errorf("%w: the publisher speaks for %q, the event's source is %q", ErrNotAllowed, p.o.Producer, e.Source)
	}
	if p.o.Check != nil {
		if err := p.o.Check(&e); err != nil {
			return nil, err
		}
	}
	return &pending{subject: subject, id: e.ID, body: body}, nil
}

// keep writes events to the outbox before they are sent.
func (p *Publisher) keep(list ...*pending) error {
	if p.receipts != nil {
		for _, m := range list {
			p.receipts.expect(m.id)
		}
	}
	if p.o.Outbox == nil {
		return nil
	}
	entries := make([]OutboxEntry, len(list))
	for i, m := range list {
		entries[i] = OutboxEntry{ID: m.id, Subject: m.subject, Body: m.body}
	}
	return p.o.Outbox.Put(entries...)
}

// forget takes events out of the outbox that were definitely refused.
func (p *Publisher) forget(err error, list ...*pending) {
	refused := errors.Is(err, ErrTooLarge) || errors.Is(err, ErrNotAllowed) || errors.Is(err, ErrRefused)
	if p.o.Outbox == nil || !refused {
		return
	}
	for _, m := range list {
		if err := p.o.Outbox.Drop(m.id); err != nil {
			p.o.Logger.Error("drop a refused event from the outbox", "id", m.id, "err", err)
		}
	}
}
