package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// memStream is a stream in memory; what it holds can be tampered with.
type memStream struct{ msgs []Message }

func (s *memStream) add(t testing.TB, n int) {
	t.Helper()
	for range n {
		m := message(t, event(len(s.msgs)))
		m.Sequence = uint64(len(s.msgs) + 1)
		s.msgs = append(s.msgs, m)
	}
}

func (s *memStream) Follow(ctx context.Context, from uint64, fn func(context.Context, []Message) error) error {
	for from <= uint64(len(s.msgs)) {
		n := min(100, uint64(len(s.msgs))-from+1)
		if err := fn(ctx, s.msgs[from-1:from-1+n]); err != nil {
			return err
		}
		from += n
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *memStream) Message(_ context.Context, sequence uint64) (Message, error) {
	if sequence > uint64(len(s.msgs)) {
		return Message{}, fmt.Errorf("message %d: %w", sequence, ErrNotFound)
	}
	return s.msgs[sequence-1], nil
}

func fold(t testing.TB, l *Ledger, s *memStream) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.Fold(ctx, 1, created, s) }()
	if _, err := l.WaitPosition(ctx, uint64(len(s.msgs))); err == nil {
		cancel()
	}
	return <-done
}

func TestFoldFollowsAndResumes(t *testing.T) {
	s := &memStream{}
	s.add(t, 1234)
	l := open(t, Options{})
	if err := fold(t, l, s); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.add(t, 50)
	if err := fold(t, l, s); !errors.Is(err, context.Canceled) || l.Head().Size != 1284 {
		t.Fatalf("size %d, %v", l.Head().Size, err)
	}
	cases := map[string]func(s *memStream){
		"lost tail":   func(s *memStream) { s.msgs = s.msgs[:1283] },
		"other bytes": func(s *memStream) { s.msgs[1283].Data = s.msgs[0].Data },
	}
	for name, tamper := range cases {
		other := &memStream{append([]Message(nil), s.msgs...)}
		tamper(other)
		other.add(t, 3)
		if name == "lost tail" {
			other.msgs = other.msgs[:1283]
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if err := l.Fold(ctx, 1, created, other); !errors.Is(err, ErrRegressed) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	if err := l.Fold(context.Background(), 1, created.Add(time.Second), s); !errors.Is(err, ErrRegressed) {
		t.Errorf("a stream made anew: %v", err)
	}
}

func TestAuditStreamAndRebuild(t *testing.T) {
	ctx := context.Background()
	s := &memStream{}
	s.add(t, 900)
	dir := filepath.Join(t.TempDir(), "ledger")
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := fold(t, l, s); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	want := l.Head()
	audit := func(s *memStream) error {
		return l.AuditStream(ctx, dir+".audit", want, 1, created, s, uint64(len(s.msgs)), nil)
	}
	if err := audit(s); err != nil {
		t.Error(err)
	}
	var d *Divergence
	other := &memStream{append([]Message(nil), s.msgs...)}
	other.msgs[700].Data = message(t, event(5000)).Data
	if err := audit(other); !errors.As(err, &d) || d.Index != 700 {
		t.Errorf("audit of a stream with another message 701: %v", err)
	}
	if _, err := os.Stat(dir + ".audit"); !os.IsNotExist(err) {
		t.Errorf("the audit left its directory: %v", err)
	}
	if err := audit(&memStream{s.msgs[:800]}); !errors.As(err, &d) || d.Index != 800 {
		t.Errorf("audit of a stream that lost its tail: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Rebuild(ctx, dir, Options{}, 1, created, other, 900, nil); !errors.As(err, &d) || d.Index != 700 {
		t.Errorf("rebuild from a stream that differs: %v", err)
	}
	got, err := Rebuild(ctx, dir, Options{}, 1, created, s, 900, nil)
	if err != nil || got != want {
		t.Fatalf("rebuilt %+v, %v; want %+v", got, err, want)
	}
	// A crash between the two renames.
	if err := os.Rename(dir, dir+".new"); err != nil {
		t.Fatal(err)
	}
	if err := Recover(dir); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if l.Head() != want {
		t.Errorf("after recovery %+v", l.Head())
	}
	if _, err := l.Audit(ctx, nil, nil); err != nil {
		t.Error(err)
	}
}
