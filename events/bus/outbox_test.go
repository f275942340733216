package bus_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
)

var errFull error = syscall.ENOSPC

func openOutbox(t *testing.T, fs bus.FS, o bus.OutboxOptions) *bus.Outbox {
	t.Helper()
	o.FS = fs
	b, err := bus.OpenOutbox("outbox", o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func entry(n, size int) bus.OutboxEntry {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(n)
	}
	return bus.OutboxEntry{ID: events.ID(fmt.Sprint("event-", n)), Subject: fmt.Sprint("vm.deploy.api.ci", n), Body: body}
}

func waiting(t *testing.T, b *bus.Outbox) map[events.ID]bus.OutboxEntry {
	t.Helper()
	out := map[events.ID]bus.OutboxEntry{}
	for e, err := range b.Waiting(time.Now().Add(time.Hour)) {
		if err != nil {
			t.Fatal(err)
		}
		out[e.ID] = e
	}
	if len(out) != b.Len() {
		t.Fatalf("%d events are waiting, the length is %d", len(out), b.Len())
	}
	return out
}

// TestOutboxCrashes runs random work and cuts the power at a random point: every
// event that Put promised and that has no receipt is there again, with its bytes.
func TestOutboxCrashes(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		fs := newFaultFS()
		o := bus.OutboxOptions{SegmentBytes: 1000, MaxBytes: 20_000}
		promised, done := map[events.ID]bus.OutboxEntry{}, map[events.ID]bool{}
		n := 0
		for range 3 {
			b := openOutbox(t, fs, o)
			if r.IntN(3) == 0 {
				fs.failWrite = 1 + r.IntN(30)
			}
			if r.IntN(3) == 0 {
				fs.failSync = 1 + r.IntN(30)
			}
			for range r.IntN(60) {
				switch r.IntN(3) {
				case 0, 1:
					var list []bus.OutboxEntry
					for range 1 + r.IntN(4) {
						list = append(list, entry(n, r.IntN(300)))
						n++
					}
					if b.Put(list...) == nil {
						for _, e := range list {
							promised[e.ID] = e
						}
					}
				case 2:
					for id := range promised {
						if r.IntN(2) == 0 {
							done[id] = true
							_ = b.Ack(id)
						}
					}
				}
			}
			if r.IntN(4) == 0 {
				_ = b.Close()
			}
			fs = fs.crash(r, r.Float64())
		}
		b := openOutbox(t, fs, o)
		got := waiting(t, b)
		for id, want := range promised {
			e, ok := got[id]
			if done[id] {
				continue // a crash may undo an acknowledgement
			}
			if !ok || e.Subject != want.Subject || string(e.Body) != string(want.Body) {
				t.Fatalf("seed %d: %s was promised, found %t %+v", seed, id, ok, e)
			}
		}
		_ = b.Close()
	}
}

// TestOutboxBitFlips flips every byte of a segment that is not the last, and of the
// last one but for its last record, which a torn write could have left so.
func TestOutboxBitFlips(t *testing.T) {
	fs := newFaultFS()
	o := bus.OutboxOptions{SegmentBytes: 300}
	b := openOutbox(t, fs, o)
	for i := range 6 {
		if err := b.Put(entry(i, 50)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	paths := fs.paths(".outbox")
	if len(paths) < 2 {
		t.Fatal(paths)
	}
	for i, path := range paths {
		size := len(fs.files[path].data)
		record := size
		if i == len(paths)-1 {
			record = size / 2 // two records in the last segment
		}
		for at := range record {
			damaged := fs.crash(rand.New(rand.NewPCG(1, 1)), 0)
			damaged.files[path].data[at] ^= 0x10
			if _, err := bus.OpenOutbox("outbox", bus.OutboxOptions{FS: damaged, SegmentBytes: 300}); !errors.Is(err, bus.ErrCorrupt) {
				t.Fatalf("byte %d of %s flipped: %v", at, path, err)
			}
		}
	}
	missing := fs.crash(rand.New(rand.NewPCG(1, 1)), 0)
	delete(missing.files, paths[1])
	if len(paths) > 2 {
		if _, err := bus.OpenOutbox("outbox", bus.OutboxOptions{FS: missing}); !errors.Is(err, bus.ErrCorrupt) {
			t.Errorf("a missing segment: %v", err)
		}
	}
}

func TestOutboxFaults(t *testing.T) {
	fs := newFaultFS()
	b := openOutbox(t, fs, bus.OutboxOptions{})
	if err := b.Put(entry(1, 10)); err != nil {
		t.Fatal(err)
	}
	fs.failWrite = 1
	if err := b.Put(entry(2, 10)); !errors.Is(err, bus.ErrFull) {
		t.Error(err)
	}
	if err := b.Put(entry(3, 10)); err != nil {
		t.Error("after the disk has room again:", err)
	}
	fs.failSync = 1
	if err := b.Put(entry(4, 10)); !errors.Is(err, errEIO) {
		t.Error(err)
	}
	if err := b.Put(entry(5, 10)); !errors.Is(err, errEIO) {
		t.Error("after a failed sync nothing may be promised:", err)
	}
	if _, err := bus.OpenOutbox("outbox", bus.OutboxOptions{FS: fs}); !errors.Is(err, bus.ErrLocked) {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Put(entry(6, 10)); !errors.Is(err, errEIO) && !errors.Is(err, bus.ErrClosed) {
		t.Error(err)
	}
}

func TestOutboxFullAndCompact(t *testing.T) {
	fs := newFaultFS()
	b := openOutbox(t, fs, bus.OutboxOptions{SegmentBytes: 1000, MaxBytes: 6000})
	defer func() { _ = b.Close() }()
	if err := b.Put(entry(0, 100)); err != nil { // never receipted: holds the first segment
		t.Fatal(err)
	}
	for i := 1; i < 500; i++ {
		if err := b.Put(entry(i, 100)); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		if err := b.Ack(entry(i, 0).ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := waiting(t, b); len(got) != 1 || len(got["event-0"].Body) != 100 {
		t.Errorf("%d waiting", len(got))
	}
	if n := len(fs.paths(".outbox")); n > 8 {
		t.Errorf("%d segments", n)
	}
	var err error
	n := 500
	for ; err == nil && n < 1000; n++ {
		err = b.Put(entry(n, 100))
	}
	if !errors.Is(err, bus.ErrFull) || n > 560 {
		t.Errorf("event %d: %v", n, err)
	}
	for i := 500; i < n; i++ {
		if err := b.Ack(entry(i, 0).ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Put(entry(2000, 100)); err != nil {
		t.Error("after receipts came:", err)
	}
}

func TestOutboxTogether(t *testing.T) {
	dir := t.TempDir()
	b, err := bus.OpenOutbox(dir, bus.OutboxOptions{SegmentBytes: 4000})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 20 {
				n := i*20 + j
				if err := b.Put(entry(n, 50)); err != nil {
					t.Error(err)
				}
				if n%2 == 0 {
					if err := b.Ack(entry(n, 0).ID); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err = bus.OpenOutbox(dir, bus.OutboxOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := waiting(t, b); len(got) != 200 {
		t.Errorf("%d waiting", len(got))
	}
	if _, err := bus.OpenOutbox(dir, bus.OutboxOptions{}); !errors.Is(err, bus.ErrLocked) {
		t.Error(err)
	}
	_ = b.Close()
}
