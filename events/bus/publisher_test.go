package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func publisher(tb testing.TB, s *bustest.Bus, o bus.PublisherOptions) *bus.Publisher {
	tb.Helper()
	if o.Producer == "" {
		o.Producer = "ci"
	}
	p, err := bus.NewPublisher(s.Conn, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

func numbered(tb testing.TB, n int) []*events.Event {
	list := make([]*events.Event, n)
	for i := range list {
		list[i] = bustest.Event(tb, "ci", "api", map[string]int{"n": i})
	}
	return list
}

func TestPublishTogether(t *testing.T) {
	s := bustest.Start(t)
	p := publisher(t, s, bus.PublisherOptions{})
	list := numbered(t, 500)
	acks := make([]bus.Ack, len(list))
	var wg sync.WaitGroup
	for i, e := range list {
		wg.Go(func() {
			var err error
			if acks[i], err = p.Publish(t.Context(), e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	batched := false
	for i, e := range list {
		m, err := s.Message(t.Context(), events.EventsStream(1), acks[i].Sequence)
		if err != nil {
			t.Fatal(err)
		}
		want, err := e.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) != string(want) || m.Subject != "vm.deploy.api.ci" || m.Time.IsZero() {
			t.Errorf("message %d is %s on %s", m.Sequence, m.Data, m.Subject)
		}
		batched = batched || len(m.Header["Nats-Batch-Id"]) > 0
	}
	if !batched {
		t.Error("no event went in a batch")
	}
	if info, err := s.StreamInfo(t.Context(), events.EventsStream(1)); err != nil || info.Last != 500 {
		t.Error(info, err)
	}
}

func TestPublishBatch(t *testing.T) {
	s := bustest.Start(t)
	p := publisher(t, s, bus.PublisherOptions{})
	for _, n := range []int{1, 2, 1000} {
		acks, err := p.PublishBatch(t.Context(), numbered(t, n))
		if err != nil {
			t.Fatal(err)
		}
		for i, ack := range acks {
			if ack.Sequence != acks[0].Sequence+uint64(i) {
				t.Fatalf("event %d of %d has sequence %d", i, n, ack.Sequence)
			}
		}
	}
	if _, err := p.PublishBatch(t.Context(), numbered(t, 1001)); !errors.Is(err, bus.ErrTooLarge) {
		t.Error(err)
	}
	bad := numbered(t, 3)
	bad[2].Source = "/other"
	if _, err := p.PublishBatch(t.Context(), bad); !errors.Is(err, bus.ErrNotAllowed) {
		t.Error(err)
	}
	if info, err := s.StreamInfo(t.Context(), events.EventsStream(1)); err != nil || info.Last != 1003 {
		t.Error(info, err)
	}
}

func TestPublishAllKeepsOrder(t *testing.T) {
	s := bustest.Start(t)
	p := publisher(t, s, bus.PublisherOptions{InFlight: 1})
	list := numbered(t, 3500)
	if n, err := p.PublishAll(t.Context(), slices.Values(list)); err != nil || n != 3500 {
		t.Fatal(n, err)
	}
	i := 0
	err := s.Replay(t.Context(), events.EventsStream(1), 1, 3500, func(_ context.Context, batch []bus.Message) error {
		for _, m := range batch {
			if !strings.Contains(string(m.Data), string(list[i].ID)) {
				return fmt.Errorf("message %d is not event %d", m.Sequence, i)
			}
			i++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	list[1500].Subject = ""
	var refusal *events.Refusal
	if n, err := p.PublishAll(t.Context(), slices.Values(list)); n != 1500 || !errors.As(err, &refusal) {
		t.Error(n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := p.PublishAll(ctx, slices.Values(list)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Error(n, err)
	}
}

func TestPublishRefuses(t *testing.T) {
	s := bustest.Start(t)
	wrong := errors.New("wrong")
	p := publisher(t, s, bus.PublisherOptions{Check: func(e *events.Event) error {
		if e.Subject == "wrong" {
			return wrong
		}
		return nil
	}})
	if _, err := p.Publish(t.Context(), bustest.Event(t, "other", "api", 1)); !errors.Is(err, bus.ErrNotAllowed) {
		t.Error(err)
	}
	if _, err := p.Publish(t.Context(), bustest.Event(t, "ci", "wrong", 1)); !errors.Is(err, wrong) {
		t.Error(err)
	}
	var refusal *events.Refusal
	if _, err := p.Publish(t.Context(), bustest.Event(t, "ci", "api", strings.Repeat("x", events.MaxSize))); !errors.As(err, &refusal) || refusal.Reason != events.TooLarge {
		t.Error(err)
	}
	body, err := bustest.Event(t, "ci", "api", 1).Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.PublishRaw(t.Context(), "vm.deploy.api.ci", append([]byte(" "), body...)); err == nil {
		t.Error("bytes that are not canonical were published")
	}
	if _, err := p.PublishRaw(t.Context(), "vm.deploy.web.ci", body); !errors.As(err, &refusal) {
		t.Error(err)
	}
	if ack, err := p.PublishRaw(t.Context(), "vm.deploy.api.ci", body); err != nil || ack.Sequence != 1 {
		t.Error(ack, err)
	}
	other := publisher(t, s, bus.PublisherOptions{Stream: events.EventsStream(2)})
	if _, err := other.Publish(t.Context(), bustest.Event(t, "ci", "api", 1)); !errors.Is(err, bus.ErrWrongStream) {
		t.Error(err)
	}
	if _, err := other.PublishBatch(t.Context(), numbered(t, 50)); !errors.Is(err, bus.ErrWrongStream) {
		t.Error(err)
	}
}

func TestPublishWhenFull(t *testing.T) {
	s := bustest.Start(t)
	place := bus.Place{MaxBytes: func(events.Stream) int64 { return 40_000 }}
	if _, err := bus.EnsureStreams(t.Context(), s.Conn, events.Streams(1)[:1], place); err != nil {
		t.Fatal(err)
	}
	p := publisher(t, s, bus.PublisherOptions{})
	if _, err := p.PublishBatch(t.Context(), numbered(t, 200)); !errors.Is(err, bus.ErrFull) {
		t.Error(err)
	}
	var err error
	for range 200 {
		if _, err = p.Publish(t.Context(), numbered(t, 1)[0]); err != nil {
			break
		}
	}
	if !errors.Is(err, bus.ErrFull) {
		t.Error(err)
	}
}

func TestWithTrace(t *testing.T) {
	s := bustest.Start(t)
	p := publisher(t, s, bus.PublisherOptions{})
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ctx := bus.WithTrace(t.Context(), parent, "a=b")
	own := bustest.Event(t, "ci", "api", 1)
	own.TraceParent = "00-00000000000000000000000000000001-0000000000000002-01"
	for e, want := range map[*events.Event]string{bustest.Event(t, "ci", "api", 1): parent, own: own.TraceParent} {
		ack, err := p.Publish(ctx, e)
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.Message(t.Context(), ack.Stream, ack.Sequence)
		if err != nil || !strings.Contains(string(m.Data), `"traceparent":"`+want+`"`) {
			t.Errorf("%s, %v", m.Data, err)
		}
	}
}

// open verifies nothing: a receipt is its JSON.
type open struct{}

func (open) VerifyReceipts(note []byte) (list []bus.Receipt, err error) {
	return list, json.Unmarshal(note, &list)
}

func sendReceipts(t *testing.T, s *bustest.Bus, list ...bus.Receipt) {
	t.Helper()
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	s.SendRaw(t, "receipt.ci", b)
}

func TestReceiptsEmptyTheOutbox(t *testing.T) {
	s := bustest.Start(t)
	dir := t.TempDir()
	outbox, err := bus.OpenOutbox(dir, bus.OutboxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := publisher(t, s, bus.PublisherOptions{Outbox: outbox, Receipts: open{}, ReplayAfter: time.Hour})
	list := numbered(t, 3)
	if _, err := p.PublishBatch(t.Context(), list[:2]); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Publish(t.Context(), list[2]); err != nil {
		t.Fatal(err)
	}
	if n := outbox.Len(); n != 3 {
		t.Errorf("%d events are kept before the receipts", n)
	}
	s.SendRaw(t, "receipt.ci", []byte("forged"))
	sendReceipts(t, s, bus.Receipt{Producer: "ci", EventID: list[0].ID, Index: 7}, bus.Receipt{Producer: "ci", EventID: "of another process"})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if r, err := p.WaitReceipt(ctx, list[0].ID); err != nil || r.Index != 7 {
		t.Fatal(r, err)
	}
	sendReceipts(t, s, bus.Receipt{Producer: "ci", EventID: list[2].ID, Index: 8}, bus.Receipt{Producer: "prod", EventID: list[1].ID})
	if r, err := p.WaitReceipt(ctx, list[2].ID); err != nil || r.Index != 8 {
		t.Fatal(r, err)
	}
	if c := p.ReceiptCounts(); c != (bus.ReceiptCounts{Verified: 2, Others: 2, Unverified: 1}) {
		t.Errorf("%+v", c)
	}
	n := 0
	for range p.Receipts() {
		n++
	}
	if n != 2 {
		t.Errorf("%d receipts", n)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if n := outbox.Len(); n != 1 {
		t.Errorf("%d events are kept after two of three receipts", n)
	}
	if err := outbox.Close(); err != nil {
		t.Fatal(err)
	}

	// The next run sends what has no receipt again, byte for byte.
	if outbox, err = bus.OpenOutbox(dir, bus.OutboxOptions{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = outbox.Close() }()
	again := publisher(t, s, bus.PublisherOptions{Outbox: outbox, Receipts: open{}})
	want, err := list[1].Canonical()
	if err != nil {
		t.Fatal(err)
	}
	err = s.Follow(ctx, bus.FollowOptions{Stream: events.EventsStream(1), From: 4}, func(_ context.Context, batch []bus.Message) error {
		if string(batch[0].Data) != string(want) || len(batch) != 1 {
			t.Errorf("sent again: %s", batch[0].Data)
		}
		return errDone
	})
	if !errors.Is(err, errDone) {
		t.Fatal(err)
	}
	sendReceipts(t, s, bus.Receipt{Producer: "ci", EventID: list[1].ID, Index: 9})
	if _, err := again.WaitReceipt(ctx, list[1].ID); err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
	if outbox.Len() != 0 {
		t.Error("the outbox is not empty after all receipts")
	}
}

var errDone = errors.New("done")

func TestRefusedEventsLeaveTheOutbox(t *testing.T) {
	s := bustest.Start(t)
	outbox, err := bus.OpenOutbox(t.TempDir(), bus.OutboxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = outbox.Close() }()
	p := publisher(t, s, bus.PublisherOptions{Outbox: outbox, Receipts: open{}, Stream: "OTHER"})
	if _, err := p.Publish(t.Context(), numbered(t, 1)[0]); !errors.Is(err, bus.ErrWrongStream) {
		t.Error(err)
	}
	if n := outbox.Len(); n != 1 {
		t.Errorf("a new epoch is no reason to lose an event: %d kept", n)
	}
}

func TestPublisherClose(t *testing.T) {
	s := bustest.Start(t)
	p := publisher(t, s, bus.PublisherOptions{Receipts: open{}})
	s.Server.Shutdown()
	errs := make(chan error, 2)
	go func() { _, err := p.Publish(context.Background(), numbered(t, 1)[0]); errs <- err }()
	go func() { _, err := p.WaitReceipt(context.Background(), "none"); errs <- err }()
	select {
	case err := <-errs:
		t.Errorf("ended with %v before Close", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, bus.ErrClosed) {
			t.Error(err)
		}
	}
	if _, err := p.Publish(t.Context(), numbered(t, 1)[0]); !errors.Is(err, bus.ErrClosed) {
		t.Error(err)
	}
}

// TestPublishAcrossRestarts publishes while the broker goes down and comes back.
func TestPublishAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	s := bustest.Start(t, bustest.InDir(dir), bustest.Listening())
	p := publisher(t, s, bus.PublisherOptions{AckWait: 300 * time.Millisecond})
	stop := make(chan struct{})
	acked := make(chan *events.Event, 10_000)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				e := bustest.Event(t, "ci", "api", 1)
				if _, err := p.Publish(t.Context(), e); err != nil {
					t.Error(err)
					return
				}
				select {
				case acked <- e:
				default:
					return
				}
			}
		})
	}
	for range 2 {
		<-time.After(200 * time.Millisecond)
		s.Restart(t)
	}
	<-time.After(200 * time.Millisecond)
	close(stop)
	wg.Wait()
	close(acked)
	info, err := s.StreamInfo(t.Context(), events.EventsStream(1))
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]int{}
	err = s.Replay(t.Context(), events.EventsStream(1), 1, info.Last, func(_ context.Context, batch []bus.Message) error {
		for _, m := range batch {
			stored[string(m.Data)]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e := range acked {
		b, err := e.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		if stored[string(b)] == 0 {
			t.Errorf("acknowledged and lost: %s", e)
		}
		n++
	}
	t.Logf("%d acknowledged, %d stored", n, info.Last)
}
