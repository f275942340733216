package bus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"vaultmesh.cloud/vaultmesh/events"
)

// Headers of a message that JetStream reads.
const (
	headerBatchID        = "Nats-Batch-Id"
	headerBatchSequence  = "Nats-Batch-Sequence"
	headerBatchCommit    = "Nats-Batch-Commit"
	headerExpectedStream = "Nats-Expected-Stream"
)

// A flight is a group of events that was sent and is not yet answered: an atomic
// batch, answered once, or single messages, each answered.
type flight struct {
	msgs   []*pending
	atomic bool

	mu     sync.Mutex
	open   int // answers to come
	closed []bool
	end    func() // frees what the flight holds; called once
}

// settle gives message i its outcome, once.
func (f *flight) settle(i int, o outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed[i] {
		return
	}
	f.closed[i] = true
	f.msgs[i].done <- o // has room for one
	if f.open--; f.open == 0 {
		f.end()
	}
}

func (f *flight) fail(err error) {
	for i := range f.msgs {
		f.settle(i, outcome{err: err})
	}
}

// errSibling is the outcome of an event whose batch failed because of another
// event, or may have: it is sent again, alone.
var errSibling = errors.New("another event of the batch was refused")

// deliver queues one event for the sender until it is stored.
func (p *Publisher) deliver(ctx context.Context, m *pending) (Ack, error) {
	if err := p.bytes.Acquire(ctx, int64(len(m.body))); err != nil {
		return Ack{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer p.bytes.Release(int64(len(m.body)))
	for attempt := 0; ; attempt++ {
		m.done = make(chan outcome, 1)
		select {
		case p.queue <- m:
		case <-ctx.Done():
			return Ack{}, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		case <-p.ctx.Done():
			return Ack{}, ErrClosed
		}
		var o outcome
		select {
		case o = <-m.done:
		case <-ctx.Done():
			return Ack{}, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		case <-p.ctx.Done():
			return Ack{}, ErrClosed
		}
		switch {
		case o.err == nil:
			return o.ack, nil
		case errors.Is(o.err, errSibling):
			retry := *m // the flight may still hold m
			retry.alone = true
			m = &retry
			continue
		case definite(o.err):
			p.forget(o.err, m)
			return Ack{}, o.err
		}
		if err := p.backoff(ctx, attempt, o.err); err != nil {
			return Ack{}, err
		}
	}
}

// deliverBatch sends an atomic batch of its own until it is stored. With forget, a definite refusal takes the batch out of the outbox.
func (p *Publisher) deliverBatch(ctx context.Context, batch []*pending, forget bool) ([]Ack, error) {
	var size int64
	for _, m := range batch {
		size += int64(len(m.body))
	}
	if err := p.bytes.Acquire(ctx, size); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer p.bytes.Release(size)
	for attempt := 0; ; attempt++ {
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		case <-p.ctx.Done():
			return nil, ErrClosed
		}
		done := make(chan outcome, len(batch))
		msgs := make([]*pending, len(batch))
		for i, m := range batch {
			c := *m
			c.done = done
			msgs[i] = &c
		}
		p.launch(msgs, true)
		acks := make([]Ack, 0, len(batch))
		var failed error
		for range msgs {
			select {
			case o := <-done:
				if o.err != nil && (failed == nil || errors.Is(failed, errSibling)) {
					failed = o.err
				}
				acks = append(acks, o.ack) // settled in order
			case <-ctx.Done():
				return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
			case <-p.ctx.Done():
				return nil, ErrClosed
			}
		}
		switch {
		case failed == nil:
			return acks, nil
		case definite(failed):
			if forget {
				p.forget(failed, batch...)
			}
			return nil, failed
		}
		if err := p.backoff(ctx, attempt, failed); err != nil {
			return nil, err
		}
	}
}

// definite reports whether sending the same again would meet the same answer.
func definite(err error) bool {
	for _, kind := range []error{ErrFull, ErrTooLarge, ErrNotAllowed, ErrWrongStream, ErrRefused, ErrClosed} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// backoff waits between two attempts: 20 ms doubled up to 2 s, of which half is
// random, so that many producers do not come back at once.
func (p *Publisher) backoff(ctx context.Context, attempt int, cause error) error {
	wait := min(20*time.Millisecond<<min(attempt, 10), 2*time.Second)
	var b [8]byte
	if _, err := io.ReadFull(p.o.Rand, b[:]); err == nil {
		wait = wait/2 + time.Duration(binary.LittleEndian.Uint64(b[:])%uint64(wait/2))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w (last: %w)", ErrUnavailable, ctx.Err(), cause)
	case <-p.ctx.Done():
		return ErrClosed
	}
}

// send is the sender: as soon as something waits and a slot is free, it takes all
// that waits. It holds no slot while idle.
func (p *Publisher) send() {
	for {
		var first *pending
		select {
		case first = <-p.queue:
		case <-p.ctx.Done():
			return
		}
		select {
		case p.slots <- struct{}{}:
		case <-p.ctx.Done():
			return
		}
		group := p.gather(first)
		atomic := len(group) >= minBatch
		for _, m := range group {
			atomic = atomic && !m.alone
		}
		p.launch(group, atomic)
	}
}

// gather takes what waits behind the first event, up to the limits of a batch.
func (p *Publisher) gather(first *pending) []*pending {
	group := []*pending{first}
	size := len(first.body)
	for len(group) < MaxBatch && size+events.MaxSize <= p.o.BatchBytes {
		select {
		case m := <-p.queue:
			group = append(group, m)
			size += len(m.body)
		default:
			return group
		}
	}
	return group
}

// launch sends a group. The caller has taken a slot, which the flight gives back.
func (p *Publisher) launch(msgs []*pending, atomic bool) {
	id := p.next.Add(1)
	f := &flight{msgs: msgs, atomic: atomic && len(msgs) > 1, open: len(msgs), closed: make([]bool, len(msgs))}
	f.mu.Lock() // a refusal or the timer may settle before end is there
	unwatch := p.c.watch(f.has, f.deny)
	timer := time.AfterFunc(p.o.AckWait, func() {
		f.fail(fmt.Errorf("%w: no answer in %s", ErrUnavailable, p.o.AckWait))
	})
	f.end = func() {
		timer.Stop()
		unwatch()
		p.mu.Lock()
		delete(p.flights, id)
		p.mu.Unlock()
		<-p.slots
	}
	p.mu.Lock()
	p.flights[id] = f
	p.mu.Unlock()
	f.mu.Unlock()
	prefix := p.inbox + "." + strconv.FormatUint(id, 36) + "."
	if f.atomic {
		p.sendBatch(f, prefix)
	} else {
		p.sendSingles(f, prefix)
	}
}

// sendBatch writes an atomic batch. It does what jetstreamext.PublishMsgBatch does
// without its wait for an answer to the first message, and lends one header map to
// all messages, which PublishMsg encodes before it returns.
func (p *Publisher) sendBatch(f *flight, prefix string) {
	sequence := []string{""}
	// A batch id that others could guess would let them break the batch.
	header := nats.Header{
		headerBatchID: {rand.Text()}, headerBatchSequence: sequence,
		headerExpectedStream: {p.o.Stream}, // once is enough: all or nothing
	}
	msg := nats.Msg{Header: header}
	for i, m := range f.msgs {
		sequence[0] = strconv.Itoa(i + 1)
		if i == len(f.msgs)-1 {
			header[headerBatchCommit] = []string{"1"}
			msg.Reply = prefix + "0"
		}
		msg.Subject, msg.Data = m.subject, m.body
		if err := p.c.nc.PublishMsg(&msg); err != nil {
			f.fail(brokerError(err))
			return
		}
		if i == 0 {
			delete(header, headerExpectedStream)
		}
	}
}

func (p *Publisher) sendSingles(f *flight, prefix string) {
	msg := nats.Msg{Header: nats.Header{headerExpectedStream: {p.o.Stream}}}
	for i, m := range f.msgs {
		msg.Subject, msg.Data, msg.Reply = m.subject, m.body, prefix+strconv.Itoa(i)
		if err := p.c.nc.PublishMsg(&msg); err != nil {
			f.settle(i, outcome{err: brokerError(err)})
		}
	}
}

func (f *flight) has(subject string) bool {
	for _, m := range f.msgs {
		if m.subject == subject {
			return true
		}
	}
	return false
}

// deny ends the events that the broker did not allow, and sends the others of an
// atomic batch again: it cannot complete without them.
func (f *flight) deny(denied *NotAllowedError) {
	for i, m := range f.msgs {
		if m.subject == denied.Subject || denied.Action == subscribeTo {
			f.settle(i, outcome{err: denied})
		} else if f.atomic {
			f.settle(i, outcome{err: errSibling})
		}
	}
}

// pubAck is JetStream's answer to a message or a batch.
type pubAck struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"seq"`
	Count    int    `json:"count"` // in a batch
	Error    *struct {
		Status int    `json:"code"`
		Code   int    `json:"err_code"`
		Text   string `json:"description"`
	} `json:"error"`
}

func (p *Publisher) onAnswer(msg *nats.Msg) {
	id, index, ok := strings.Cut(strings.TrimPrefix(msg.Subject, p.inbox+"."), ".")
	n, err := strconv.ParseUint(id, 36, 64)
	i, err2 := strconv.Atoi(index)
	if !ok || err != nil || err2 != nil {
		return
	}
	p.mu.Lock()
	f := p.flights[n]
	p.mu.Unlock()
	if f == nil || i < 0 || i >= len(f.msgs) {
		return // late: the flight was given up
	}
	var ack pubAck
	switch {
	case msg.Header.Get("Status") == "503":
		err = fmt.Errorf("%w: no stream takes the subject", ErrUnavailable)
	case json.Unmarshal(msg.Data, &ack) != nil || ack.Error == nil && ack.Sequence == 0:
		err = fmt.Errorf("%w: an answer that is not JetStream's", ErrUnavailable)
	case ack.Error != nil:
		err = apiError(ack.Error.Code, ack.Error.Status, ack.Error.Text)
		if f.atomic && (ack.Error.Code == codeBatchIncomplete || ack.Error.Code == codeBatchInflight) {
			err = errSibling // alone it needs no batch of the broker
		}
	case f.atomic && ack.Count != len(f.msgs):
		err = fmt.Errorf("%w: a batch of %d was acknowledged as %d", ErrUnavailable, len(f.msgs), ack.Count)
	}
	switch {
	case !f.atomic:
		f.settle(i, outcome{Ack{ack.Stream, ack.Sequence}, err})
	case err != nil:
		f.fail(err)
	default:
		for i := range f.msgs {
			f.settle(i, outcome{ack: Ack{ack.Stream, ack.Sequence - uint64(len(f.msgs)-1-i)}})
		}
	}
}

// replay sends the events of the outbox again that have no receipt: at the start,
// after each reconnect, and when they are older than ReplayAfter.
func (p *Publisher) replay() {
	restored, stop := p.c.onRestored()
	defer stop()
	tick := time.NewTicker(p.o.ReplayAfter)
	defer tick.Stop()
	until := p.start // at first what an earlier run left
	for {
		p.replayOnce(p.ctx, until)
		select {
		case <-restored:
			until = p.o.Clock()
		case <-tick.C:
			until = p.o.Clock().Add(-p.o.ReplayAfter)
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *Publisher) replayOnce(ctx context.Context, until time.Time) {
	var batch []*pending
	size := 0
	flush := func() bool {
		ready := batch
		batch, size = nil, 0
		return len(ready) == 0 || p.replayBatch(ctx, ready)
	}
	for e, err := range p.o.Outbox.Waiting(until) {
		if err != nil {
			p.o.Logger.Error("read the outbox", "err", err)
			return
		}
		if p.receipts != nil {
			p.receipts.expect(e.ID)
		}
		batch = append(batch, &pending{subject: e.Subject, id: e.ID, body: e.Body})
		if size += len(e.Body); len(batch) == MaxBatch || size+events.MaxSize > p.o.BatchBytes {
			if !flush() {
				return
			}
		}
	}
	flush()
}

// replayBatch sends a batch and, if the broker refuses it, each of its events. It
// reports whether to go on with others.
func (p *Publisher) replayBatch(ctx context.Context, batch []*pending) bool {
	_, err := p.deliverBatch(ctx, batch, false)
	for _, m := range batch {
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrFull) {
			break
		}
		if _, err := p.deliver(ctx, m); err != nil && ctx.Err() == nil {
			p.o.Logger.Warn("send an event of the outbox again", "id", m.id, "err", err)
		}
	}
	return ctx.Err() == nil && !errors.Is(err, ErrFull)
}
