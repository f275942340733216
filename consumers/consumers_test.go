package consumers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vaultmesh.cloud/vaultmesh/consumers"
	"vaultmesh.cloud/vaultmesh/consumers/consumertest"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a position store and a grave in memory, with named faults.
type memory struct {
	mu      sync.Mutex
	next    map[string]uint64
	letters []consumers.DeadLetter
	stores  int

	failBury int // that many times
}

func (m *memory) Load(_ context.Context, name string) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.next[name], nil
}

func (m *memory) Store(_ context.Context, name string, next uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next == nil {
		m.next = map[string]uint64{}
	}
	m.next[name] = next
	m.stores++
	return nil
}

func (m *memory) Bury(_ context.Context, l consumers.DeadLetter) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failBury > 0 {
		m.failBury--
		return errors.New("no broker")
	}
	m.letters = append(m.letters, l)
	return nil
}

func numbered(t *testing.T, n int) []*events.Event {
	list := make([]*events.Event, n)
	for i := range list {
		list[i] = bustest.Event(t, "ci", "api", map[string]int{"n": i})
	}
	return list
}

// runs a consumer until the feed is at rest, and stops it.
func runs(t *testing.T, c consumers.Consumer, feed consumers.Feed, m *memory, retry consumers.RetryPolicy) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // of synctest's clock
	defer cancel()
	err := consumers.Run(ctx, c, consumers.Options{Feed: feed, Positions: m, Dead: m, Retry: retry, Random: func() float64 { return 0 }})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
}

func TestRunHandsOnlyWantedAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var feed consumertest.Feed
		list := numbered(t, 6)
		list[1].Type = "cloud.vaultmesh.route.tested.v1"
		for i, e := range list {
			b, err := e.Canonical()
			if err != nil {
				t.Fatal(err)
			}
			feed.AppendItems(consumers.Item{Event: *e, Canonical: b, Valid: i != 2})
		}
		feed.AppendItems(consumers.Item{Quarantined: true})
		var m memory
		var got []uint64
		c := consumers.Consumer{Name: "c", Domains: []events.Domain{"deploy"}, Handle: func(_ context.Context, item consumers.Item) error {
			got = append(got, item.Index)
			return nil
		}}
		runs(t, c, &feed, &m, consumers.RetryPolicy{})
		runs(t, c, &feed, &m, consumers.RetryPolicy{})
		if !slices.Equal(got, []uint64{0, 3, 4, 5}) || m.next["c"] != 7 {
			t.Errorf("handled %v, position %d", got, m.next["c"])
		}
	})
}

func TestRunRetriesThenBuries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var feed consumertest.Feed
		if _, err := feed.Append(numbered(t, 5)...); err != nil {
			t.Fatal(err)
		}
		m := memory{failBury: 2}
		tries := map[uint64][]time.Duration{}
		start := time.Now()
		c := consumers.Consumer{Name: "c", Handle: func(_ context.Context, item consumers.Item) error {
			tries[item.Index] = append(tries[item.Index], time.Since(start))
			switch {
			case item.Index == 1: // poison
				return fmt.Errorf("broken: %w", consumers.ErrPermanent)
			case item.Index == 2 && len(tries[2]) < 3: // passes
				return errors.New("busy")
			case item.Index == 3:
				panic("a bug")
			}
			return nil
		}}
		runs(t, c, &feed, &m, consumers.RetryPolicy{Attempts: 4, First: time.Second, Max: 3 * time.Second})
		if n := []int{len(tries[0]), len(tries[1]), len(tries[2]), len(tries[3]), len(tries[4])}; !slices.Equal(n, []int{1, 1, 3, 4, 1}) {
			t.Errorf("attempts %v", n)
		}
		if w := tries[3][3] - tries[3][2]; w != 1500*time.Millisecond {
			t.Errorf("last wait %s, want half of the longest", w)
		}
		if len(m.letters) != 2 || m.letters[0].Index != 1 || !m.letters[0].Permanent || m.letters[1].Index != 3 || m.letters[1].Attempts != 4 {
			t.Errorf("letters %+v", m.letters)
		}
		if m.next["c"] != 5 {
			t.Errorf("position %d", m.next["c"])
		}
	})
}

func TestRunStopsWithinARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var feed consumertest.Feed
		if _, err := feed.Append(numbered(t, 1)...); err != nil {
			t.Fatal(err)
		}
		var m memory
		c := consumers.Consumer{Name: "c", Handle: func(context.Context, consumers.Item) error { return errors.New("busy") }}
		runs(t, c, &feed, &m, consumers.RetryPolicy{Attempts: 1 << 30, First: time.Hour, Max: 24 * time.Hour})
		if len(m.letters) != 0 || m.next["c"] != 0 {
			t.Errorf("a stop is no failure of the event: %+v", &m.letters)
		}
	})
}

// skipping is a feed that breaks its contract.
type skipping struct{}

func (skipping) Next(_ context.Context, from uint64, _ int) ([]consumers.Item, error) {
	return []consumers.Item{{Index: from + 1}}, nil
}

func TestRunRefusesAGap(t *testing.T) {
	m := &memory{}
	c := consumers.Consumer{Name: "c", Handle: func(context.Context, consumers.Item) error { return nil }}
	if err := consumers.Run(t.Context(), c, consumers.Options{Feed: skipping{}, Positions: m, Dead: m}); err == nil || m.stores > 0 {
		t.Errorf("%v, %d positions stored", err, m.stores)
	}
}

func TestFilePositions(t *testing.T) {
	dir := t.TempDir()
	for i := range uint64(3) {
		s, err := consumers.OpenFilePositions(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if next, err := s.Load(t.Context(), "a/b"); err != nil || next != i {
			t.Fatal(next, err)
		}
		if err := s.Store(t.Context(), "a/b", i+1); err != nil {
			t.Fatal(err)
		}
	}
	if err := bus.WriteFile(bus.Disk(), dir+"/a=2Fb.position", []byte("{")); err != nil {
		t.Fatal(err)
	}
	s, err := consumers.OpenFilePositions(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "a/b"); !errors.Is(err, bus.ErrCorrupt) {
		t.Error(err)
	}
}

func TestBusDeadLetters(t *testing.T) {
	s := bustest.Start(t)
	body, err := numbered(t, 1)[0].Canonical()
	if err != nil {
		t.Fatal(err)
	}
	letter := consumers.DeadLetter{Version: 1, Consumer: "rou.ter", Index: 7, Reason: "broken", Attempts: 2, At: time.Unix(1, 0).UTC(), Event: body}
	if err := (consumers.BusDeadLetters{Conn: s.Conn}).Bury(t.Context(), letter); err != nil {
		t.Fatal(err)
	}
	m, err := s.LastFor(t.Context(), events.DeadStream, "dlq.rou=2Eter")
	if err != nil {
		t.Fatal(err)
	}
	var got consumers.DeadLetter
	if err := json.Unmarshal(m.Data, &got); err != nil || got.Index != 7 || string(got.Event) != string(body) {
		t.Errorf("%s, %v", m.Data, err)
	}
}
