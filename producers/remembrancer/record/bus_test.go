package record

import (
	"context"
	"errors"
	"sync"
	"testing"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/bustest"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
)

// folded is the stream of events of a real bus.
type folded struct{ *bus.Conn }

func (f folded) Follow(ctx context.Context, from uint64, fn func(context.Context, []ledger.Message) error) error {
	return f.Conn.Follow(ctx, bus.FollowOptions{Stream: events.EventsStream(1), From: from}, func(ctx context.Context, batch []bus.Message) error {
		msgs := make([]ledger.Message, len(batch))
		for i, m := range batch {
			msgs[i] = ledger.Message{Subject: m.Subject, Sequence: m.Sequence, Data: m.Data}
		}
		return fn(ctx, msgs)
	})
}

func (f folded) Message(ctx context.Context, sequence uint64) (ledger.Message, error) {
	m, err := f.Conn.Message(ctx, events.EventsStream(1), sequence)
	if errors.Is(err, bus.ErrNoMessage) {
		err = ledger.ErrNotFound
	}
	return ledger.Message{Subject: m.Subject, Sequence: m.Sequence, Data: m.Data}, err
}

// TestRealBus records through a publisher and the fold of a running node.
func TestRealBus(t *testing.T) {
	b := bustest.Start(t)
	var mu sync.Mutex
	publishers := map[events.Producer]*bus.Publisher{}
	w := newWorld(t, func(o *Options) {
		o.Publisher = func(p events.Producer) (Publisher, error) {
			mu.Lock()
			defer mu.Unlock()
			if publishers[p] == nil {
				made, err := bus.NewPublisher(b.Conn, bus.PublisherOptions{Producer: p})
				if err != nil {
					return nil, err
				}
				publishers[p] = made
			}
			return publishers[p], nil
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.ledger.Fold(ctx, 1, b.Streams[events.EventsStream(1)].Created, folded{b.Conn}) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the fold ended with %v", err)
		}
		for _, p := range publishers {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if _, err := w.recorder.Deploy(ctx, Order{Producer: "ci", Key: "k"}, deploy); err != nil {
				t.Error(err)
			}
			if _, err := w.recorder.Decision(ctx, Order{Producer: "operator"}, remembrancer.DecisionRecorded{Title: "T", Status: "accepted"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if h := w.ledger.Head(); h.Size != 31 || h.Quarantined != 0 {
		t.Errorf("head %+v", h)
	}
	if last := w.recorder.decisions.last; last != 30 {
		t.Errorf("last decision %d", last)
	}
	a := w.post("/v1/events", typeBatch, "["+incoming("v5")+","+incoming("v6")+"]", "Idempotency-Key", "b").want(t, "batch", 201)
	if *a.Recorded.Events[1].Index != *a.Recorded.Events[0].Index+1 {
		t.Errorf("batch: %s", a.body)
	}
	w.post("/v1/events", typeBatch, "["+incoming("v5")+","+incoming("v6")+"]", "Idempotency-Key", "b").want(t, "repeat", 200)
}
