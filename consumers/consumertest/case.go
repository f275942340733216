package consumertest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"vaultmesh.cloud/vaultmesh/consumers"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
)

// Recorder is a publisher that keeps what a consumer publishes. An event with the
// bytes of an earlier one is kept once, as the fold does. The zero value is ready.
type Recorder struct {
	mu   sync.Mutex
	seen map[string]bool
	list []*events.Event
}

// Publish has the signature of bus.Publisher.Publish.
func (r *Recorder) Publish(_ context.Context, e *events.Event) (bus.Ack, error) {
	b, err := e.Canonical()
	if err != nil {
		return bus.Ack{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	if !r.seen[string(b)] {
		r.seen[string(b)] = true
		c := *e
		r.list = append(r.list, &c)
	}
	return bus.Ack{Stream: events.EventsStream(1), Sequence: uint64(len(r.list))}, nil
}

// Events returns what was published since the last call.
func (r *Recorder) Events() []*events.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	return list
}

// A Case tests one consumer:
//
//	consumertest.New(t, build).Given(active).When(requested).Then(decided)
type Case struct {
	tb       testing.TB
	consumer consumers.Consumer
	out      *Recorder
	index    uint64
	err      error
}

// New builds the consumer under test, which publishes with the given recorder.
func New(tb testing.TB, build func(out *Recorder) consumers.Consumer) *Case {
	tb.Helper()
	out := &Recorder{}
	return &Case{tb: tb, consumer: build(out), out: out}
}

// Given hands the consumer events that must succeed, and forgets what it published.
func (c *Case) Given(list ...*events.Event) *Case {
	c.tb.Helper()
	if c.feed(list); c.err != nil {
		c.tb.Fatalf("given: %v", c.err)
	}
	c.out.Events()
	return c
}

// When hands the consumer events and keeps the first error.
func (c *Case) When(list ...*events.Event) *Case {
	c.tb.Helper()
	c.feed(list)
	return c
}

// Then checks that exactly these events were published since Given or the last Then.
func (c *Case) Then(want ...*events.Event) *Case {
	c.tb.Helper()
	if c.err != nil {
		c.tb.Fatalf("when: %v", c.err)
	}
	got := c.out.Events()
	if g, w := c.text(got), c.text(want); g != w {
		c.tb.Errorf("published %d events:\n%s\nwant %d:\n%s", len(got), g, len(want), w)
	}
	return c
}

// ThenFails checks that the handler failed with an error that wraps want.
func (c *Case) ThenFails(want error) *Case {
	c.tb.Helper()
	if !errors.Is(c.err, want) {
		c.tb.Errorf("error %v, want %v", c.err, want)
	}
	c.err = nil
	return c
}

// Again hands the consumer events that it had before, as after a crash: a consumer
// that is idempotent publishes nothing new.
func (c *Case) Again(list ...*events.Event) *Case {
	c.tb.Helper()
	return c.When(list...).Then()
}

func (c *Case) feed(list []*events.Event) {
	c.tb.Helper()
	for _, e := range list {
		b, err := e.Canonical()
		if err != nil {
			c.tb.Fatalf("the test's own event: %v", err)
		}
		item := consumers.Item{Index: c.index, Time: e.Time, Event: *e, Canonical: b, Valid: true}
		c.index++
		if !c.consumer.Wants(item) {
			continue
		}
		if err := c.consumer.Handle(context.Background(), item); err != nil && c.err == nil {
			c.err = err
		}
	}
}

func (c *Case) text(list []*events.Event) string {
	c.tb.Helper()
	var lines []string
	for _, e := range list {
		b, err := e.Canonical()
		if err != nil {
			c.tb.Fatalf("the test's own event: %v", err)
		}
		lines = append(lines, "  "+string(b))
	}
	return strings.Join(lines, "\n")
}
