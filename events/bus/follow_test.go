package bus_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/bustest"
)

func TestFollowInOrderAsItComes(t *testing.T) {
	s := bustest.Start(t)
	p := publisher(t, s, bus.PublisherOptions{})
	const n = 12_000
	done := make(chan error, 1)
	go func() {
		_, err := p.PublishAll(t.Context(), slices.Values(numbered(t, n)))
		done <- err
	}()
	next, largest := uint64(1), 0
	err := s.Follow(t.Context(), bus.FollowOptions{Stream: events.EventsStream(1), BatchMessages: 500, BatchBytes: 50_000},
		func(_ context.Context, batch []bus.Message) error {
			size := 0
			for _, m := range batch {
				if m.Sequence != next {
					t.Fatalf("message %d, want %d", m.Sequence, next)
				}
				next++
				size += len(m.Data)
			}
			if len(batch) > 500 || size > 50_000 {
				t.Errorf("a batch of %d messages, %d bytes", len(batch), size)
			}
			largest = max(largest, len(batch))
			if next > n {
				return errDone
			}
			return nil
		})
	if !errors.Is(err, errDone) {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if largest < 50 {
		t.Errorf("the largest batch has %d messages", largest)
	}
}

func TestFollowWaitsAndStops(t *testing.T) {
	s := bustest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan uint64)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Follow(ctx, bus.FollowOptions{Stream: events.EventsStream(1)}, func(_ context.Context, batch []bus.Message) error {
			got <- batch[0].Sequence
			return nil
		})
	}()
	for want := uint64(1); want <= 3; want++ {
		s.Send(t, numbered(t, 1)...)
		if seq := <-got; seq != want {
			t.Errorf("got %d, want %d", seq, want)
		}
	}
	start := time.Now()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(start) > time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

func TestFollowAcrossARestart(t *testing.T) {
	s := bustest.Start(t, bustest.InDir(t.TempDir()), bustest.Listening())
	s.Send(t, numbered(t, 10)...)
	p := publisher(t, s, bus.PublisherOptions{})
	next := uint64(1)
	err := s.Follow(t.Context(), bus.FollowOptions{Stream: events.EventsStream(1)}, func(_ context.Context, batch []bus.Message) error {
		for _, m := range batch {
			if m.Sequence != next {
				t.Errorf("got %d, want %d", m.Sequence, next)
			}
			next++
		}
		switch next {
		case 11:
			s.Restart(t)
			if _, err := p.Publish(t.Context(), numbered(t, 1)[0]); err != nil {
				return err
			}
		case 12:
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Error(err)
	}
}

func TestFollowFindsGaps(t *testing.T) {
	s := bustest.Start(t)
	stream, err := s.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: "HOLED", Subjects: []string{"holed"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		s.SendRaw(t, "holed", []byte("x"))
	}
	if err := stream.DeleteMsg(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	read := func(o bus.FollowOptions) (got []uint64, err error) {
		o.Stream = "HOLED"
		err = s.Follow(t.Context(), o, func(_ context.Context, batch []bus.Message) error {
			for _, m := range batch {
				got = append(got, m.Sequence)
			}
			if got[len(got)-1] == 10 {
				return errDone
			}
			return nil
		})
		return got, err
	}
	got, err := read(bus.FollowOptions{})
	var gap *bus.GapError
	if !errors.As(err, &gap) || gap.Expected != 5 || gap.Found != 6 || !slices.Equal(got, []uint64{1, 2, 3, 4}) {
		t.Error(got, err)
	}
	if got, err := read(bus.FollowOptions{Gaps: true}); !errors.Is(err, errDone) || len(got) != 9 {
		t.Error(got, err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(3)); err != nil {
		t.Fatal(err)
	}
	if got, err := read(bus.FollowOptions{}); !errors.As(err, &gap) || gap.Expected != 1 || gap.Found != 3 {
		t.Error(got, err)
	}
}

func TestFollowFindsRegress(t *testing.T) {
	s := bustest.Start(t)
	created := s.Streams[events.HeadsStream].Created
	s.SendRaw(t, "head.log", []byte("1"))
	never := func(context.Context, []bus.Message) error { t.Error("a message was handed out"); return errDone }
	read := func(from uint64, created time.Time) error {
		return s.Follow(t.Context(), bus.FollowOptions{Stream: events.HeadsStream, From: from, Created: created}, never)
	}
	var regressed *bus.RegressedError
	if err := read(3, created); !errors.As(err, &regressed) || regressed.Position != 2 || regressed.Last != 1 {
		t.Error(err)
	}
	if err := s.JetStream().DeleteStream(t.Context(), events.HeadsStream); err != nil {
		t.Fatal(err)
	}
	if err := read(1, created); !errors.Is(err, bus.ErrNoStream) {
		t.Error(err)
	}
	if _, err := bus.EnsureStreams(t.Context(), s.Conn, events.Streams(1), bus.Place{}); err != nil {
		t.Fatal(err)
	}
	if err := read(1, created); !errors.As(err, &regressed) || !strings.Contains(err.Error(), "created anew") {
		t.Error(err)
	}
	if err := s.Replay(t.Context(), events.HeadsStream, 1, 2, never); !errors.As(err, &regressed) {
		t.Error(err)
	}
}

func TestFollowFilter(t *testing.T) {
	s := bustest.Start(t)
	for _, subject := range []string{"head.a", "head.b", "head.a"} {
		s.SendRaw(t, subject, []byte(subject))
	}
	var got []uint64
	err := s.Follow(t.Context(), bus.FollowOptions{Stream: events.HeadsStream, Filter: "head.a"}, func(_ context.Context, batch []bus.Message) error {
		for _, m := range batch {
			got = append(got, m.Sequence)
		}
		if len(got) == 2 {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) || !slices.Equal(got, []uint64{1, 3}) {
		t.Error(got, err)
	}
}

func TestCompareAndSet(t *testing.T) {
	s := bustest.Start(t)
	if _, err := s.LastFor(t.Context(), events.HeadsStream, "head.log"); !errors.Is(err, bus.ErrNoMessage) {
		t.Error(err)
	}
	first, err := s.CompareAndSet(t.Context(), "head.log", 0, []byte("one"), map[string][]string{"X-Size": {"1"}})
	if err != nil || first != 1 {
		t.Fatal(first, err)
	}
	s.SendRaw(t, "head.other", []byte("another log's head"))
	for _, last := range []uint64{0, 2, 7} {
		if _, err := s.CompareAndSet(t.Context(), "head.log", last, []byte("two"), nil); !errors.Is(err, bus.ErrWrongLast) {
			t.Errorf("after %d: %v", last, err)
		}
	}
	if seq, err := s.CompareAndSet(t.Context(), "head.log", 1, []byte("two"), nil); err != nil || seq != 3 {
		t.Error(seq, err)
	}
	m, err := s.LastFor(t.Context(), events.HeadsStream, "head.log")
	if err != nil || string(m.Data) != "two" || m.Sequence != 3 {
		t.Error(m, err)
	}
	m, err = s.Message(t.Context(), events.HeadsStream, 1)
	if err != nil || string(m.Data) != "one" || m.Header["X-Size"][0] != "1" {
		t.Error(m, err)
	}
	if _, err := s.Message(t.Context(), events.HeadsStream, 9); !errors.Is(err, bus.ErrNoMessage) {
		t.Error(err)
	}
	if _, err := s.Message(t.Context(), "NONE", 9); !errors.Is(err, bus.ErrNoStream) {
		t.Error(err)
	}
}

func TestCompareAndSetWithoutAnAnswer(t *testing.T) {
	s := bustest.Start(t)
	// Somebody hears the message and does not answer, as a broker that dies.
	sub, err := s.NATS().SubscribeSync("nowhere")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.CompareAndSet(ctx, "nowhere", 0, nil, nil); !errors.Is(err, bus.ErrAmbiguous) {
		t.Error(err)
	}
	if _, err := s.CompareAndSet(t.Context(), "nobody", 0, nil, nil); !errors.Is(err, bus.ErrUnavailable) || errors.Is(err, bus.ErrAmbiguous) {
		t.Error(err)
	}
}

func TestEnsureStreamsNamesDifferences(t *testing.T) {
	s := bustest.Start(t)
	log := events.Stream{Name: "LOG", Subjects: []string{"log.*"}, Log: true}
	if _, err := s.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "LOG", Subjects: []string{"log.x"}, DenyDelete: false, Discard: jetstream.DiscardNew, DenyPurge: true, AllowAtomicPublish: true, AllowDirect: true,
	}); err != nil {
		t.Fatal(err)
	}
	_, err := bus.EnsureStreams(t.Context(), s.Conn, []events.Stream{log}, bus.Place{})
	if !errors.Is(err, bus.ErrStreamDiffers) {
		t.Fatal(err)
	}
	want := "subjects is [log.x], must be [log.*]; deny_delete is false, must be true"
	if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "discard") {
		t.Errorf("%v\nwant %s", err, want)
	}
	infos, err := bus.EnsureStreams(t.Context(), s.Conn, events.Streams(1), bus.Place{MaxBytes: func(events.Stream) int64 { return 1 << 30 }})
	if err != nil {
		t.Fatal(err)
	}
	for name, info := range infos {
		if !info.Created.Equal(s.Streams[name].Created) || info.MaxBytes == 0 {
			t.Errorf("%+v", info)
		}
	}
}
