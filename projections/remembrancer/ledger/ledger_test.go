package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"vaultmesh.cloud/vaultmesh/events"
)

var created = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func open(t testing.TB, opts Options) *Ledger {
	t.Helper()
	if opts.FS == nil {
		opts.FS = vfs.NewMem()
	}
	l, err := Open("ledger", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func event(n int) *events.Event {
	return &events.Event{
		ID: events.ID(fmt.Sprintf("id-%06d", n)), Source: "/ci", Type: "cloud.vaultmesh.deploy.recorded.v1", Subject: "api",
		Time: created, Data: json.RawMessage(fmt.Sprintf(`{"component":"api","version":"v%d"}`, n)),
	}
}

func message(t testing.TB, e *events.Event) Message {
	t.Helper()
	b, err := e.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return Message{Subject: e.NATSSubject(), Data: b}
}

// apply numbers the messages from where the ledger stands and folds them.
func apply(t testing.TB, l *Ledger, msgs ...Message) Head {
	t.Helper()
	seq := l.Head().Position.Sequence
	for i := range msgs {
		seq++
		msgs[i].Sequence = seq
	}
	h, err := l.Apply(context.Background(), l.Prepare(1, created, msgs))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestTree checks roots, tiles and proofs against golang.org/x/mod/sumdb/tlog,
// for every size and every way of cutting the stream into batches.
func TestTree(t *testing.T) {
	const n = 700
	l := open(t, Options{})
	var stored []tlog.Hash
	hashes := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	roots := []Hash{emptyRoot}
	rng := rand.New(rand.NewPCG(1, 2))
	for size := 0; size < n; {
		k := min(1+rng.IntN(300), n-size)
		if size%3 == 0 {
			k = 1
		}
		var msgs []Message
		for i := range k {
			m := message(t, event(size+i))
			hs, err := tlog.StoredHashes(int64(size+i), m.Data, hashes)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, hs...)
			root, err := tlog.TreeHash(int64(size+i+1), hashes)
			if err != nil {
				t.Fatal(err)
			}
			roots = append(roots, root)
			msgs = append(msgs, m)
		}
		size += k
		if h := apply(t, l, msgs...); h.Size != uint64(size) || h.Root != roots[size] {
			t.Fatalf("size %d: got %d, root %s, want %s", size, h.Size, h.Root, roots[size])
		}
	}
	for size := range uint64(n + 1) {
		if got, err := l.Root(size); err != nil || got != roots[size] {
			t.Fatalf("Root(%d) = %s, %v; want %s", size, got, err, roots[size])
		}
	}
	for range 300 {
		size := 1 + rng.Uint64N(n)
		index := rng.Uint64N(size)
		p, err := l.Inclusion(index, size)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := l.Leaf(index)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(p, int64(size), roots[size], int64(index), leaf); err != nil {
			t.Fatalf("inclusion of %d in %d: %v", index, size, err)
		}
		from := 1 + rng.Uint64N(size)
		cp, err := l.Consistency(from, size)
		if err != nil {
			t.Fatal(err)
		}
		if from < size {
			if err := tlog.CheckTree(cp, int64(size), roots[size], int64(from), roots[from]); err != nil {
				t.Fatalf("consistency of %d with %d: %v", from, size, err)
			}
		}
	}
	for _, c := range []struct {
		level uint8
		n     uint64
		width int
		ok    bool
	}{{0, 0, 256, true}, {0, 2, 188, true}, {0, 2, 189, false}, {0, 2, 256, false}, {1, 0, 2, true}, {1, 0, 3, false}, {0, 3, 1, false}, {9, 0, 1, false}, {0, 0, 0, false}} {
		got, err := l.Tile(c.level, c.n, c.width)
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, ErrNotFound) {
			t.Fatalf("Tile(%d, %d, %d): %v", c.level, c.n, c.width, err)
		}
		if !c.ok {
			continue
		}
		want, err := tlog.ReadTileData(tlog.Tile{H: tileHeight, L: int(c.level), N: int64(c.n), W: c.width}, hashes)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("Tile(%d, %d, %d) differs from the reference: %v", c.level, c.n, c.width, err)
		}
	}
	if _, err := l.Audit(context.Background(), []PublishedHead{{0, roots[0]}, {1, roots[1]}, {256, roots[256]}, {n, roots[n]}}, nil); err != nil {
		t.Error(err)
	}
	_, err := l.Audit(context.Background(), []PublishedHead{{300, roots[301]}}, nil)
	var d *Divergence
	if !errors.As(err, &d) || d.Index != 299 {
		t.Errorf("audit with a forked checkpoint: %v", err)
	}
	if _, err := l.Audit(context.Background(), []PublishedHead{{n + 1, roots[n]}}, nil); !errors.As(err, &d) {
		t.Errorf("audit with a checkpoint beyond the store: %v", err)
	}
}

func TestEntries(t *testing.T) {
	l := open(t, Options{})
	var want []string
	for i := 0; i < 600; {
		var msgs []Message
		for range min(1+i%97, 600-i) {
			m := message(t, event(i))
			want, msgs, i = append(want, string(m.Data)), append(msgs, m), i+1
		}
		apply(t, l, msgs...)
	}
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Uint64Range(0, 600).Draw(t, "from")
		to := rapid.Uint64Range(from, 700).Draw(t, "to")
		next := from
		err := l.Entries(from, to, func(e Entry) error {
			if e.Index != next || string(e.Bytes) != want[next] {
				return fmt.Errorf("entry %d came as %d", next, e.Index)
			}
			next++
			return nil
		})
		if err != nil || next != max(from, min(to, 600)) {
			t.Fatalf("entries %d to %d ended at %d: %v", from, to, next, err)
		}
	})
	b, err := l.Bundle(1, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		var entry []byte
		if entry, b, err = cutEntry(b); err != nil || string(entry) != want[256+i] {
			t.Fatalf("entry %d of the bundle: %s, %v", i, entry, err)
		}
	}
	if len(b) > 0 {
		t.Errorf("%d bytes after the bundle", len(b))
	}
	if _, err := l.Entry(600); !errors.Is(err, ErrNotFound) {
		t.Errorf("entry beyond the log: %v", err)
	}
	if i, err := l.Lookup("/ci", "id-000123"); i != 123 || err != nil {
		t.Errorf("Lookup = %d, %v", i, err)
	}
	if _, err := l.Lookup("/cd", "id-000123"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Lookup of another source: %v", err)
	}
	if got, err := l.ByID("id-000123"); fmt.Sprint(got) != "[123]" || err != nil {
		t.Errorf("ByID = %v, %v", got, err)
	}
	if got, err := l.ByID("id-00012"); len(got) != 0 || err != nil {
		t.Errorf("ByID of a prefix = %v, %v", got, err)
	}
	if got, err := l.ByType(event(0).Type, 590, 3); fmt.Sprint(got) != "[590 591 592]" || err != nil {
		t.Errorf("ByType = %v, %v", got, err)
	}
}

type memBlobs map[string][]byte

func (m memBlobs) Put(_ context.Context, b []byte) (string, error) {
	m[fmt.Sprintf("%x", tlog.RecordHash(b))] = b
	return "", nil
}

func TestFold(t *testing.T) {
	blobs := memBlobs{}
	l := open(t, Options{Blobs: blobs})
	good, other := message(t, event(1)), event(1)
	other.Subject = "web"
	conflict, elsewhere := message(t, other), event(1)
	elsewhere.Source = "/cd"
	spaced := Message{Subject: good.Subject, Data: bytes.Replace(good.Data, []byte(`"id"`), []byte(` "id"`), 1)}
	bad := Message{Subject: "vm.deploy.api.ci", Data: []byte(`{"id":1,"id":2}`)}
	forged := Message{Subject: "vm.deploy.api.mallory", Data: message(t, event(2)).Data}
	head := apply(t, l,
		good, good, spaced, // one leaf, two repeats
		conflict, conflict, // one quarantine leaf
		message(t, elsewhere), // another source may use the id
		bad, forged, bad,
		message(t, event(2)), // the forged message claimed nothing
	)
	if head.Size != 6 || head.Repeats != 4 || head.Quarantined != 3 || head.Position.Sequence != 10 {
		t.Fatalf("head %+v", head)
	}
	var got []string
	check := func(l *Ledger) {
		got = got[:0]
		err := l.Entries(0, 99, func(e Entry) error {
			if e.Quarantine != nil {
				got = append(got, string(e.Quarantine.Reason))
			} else {
				got = append(got, string(e.Event.ID)+string(e.Event.Source))
			}
			return nil
		})
		if want := "[id-000001/ci conflict id-000001/cd bad_json wrong_subject id-000002/ci]"; fmt.Sprint(got) != want || err != nil {
			t.Fatalf("entries %v, %v; want %s", got, err, want)
		}
	}
	check(l)
	if len(blobs) != 3 {
		t.Errorf("%d raw messages kept, want 3", len(blobs))
	}
	if r := l.TakeRepeats(); len(r) != 1 || r[0] != (Repeat{0, "id-000001", "ci"}) {
		t.Errorf("repeats %v", r)
	}
	// The same again, in a later batch, changes nothing.
	root := head.Root
	if head = apply(t, l, spaced, conflict, bad, good); head.Root != root || head.Size != 6 || head.Repeats != 8 {
		t.Errorf("after redelivery: %+v", head)
	}
	if _, err := l.Audit(context.Background(), nil, nil); err != nil {
		t.Error(err)
	}
	// Another cut of the same messages gives the same root.
	l2 := open(t, Options{})
	for _, m := range []Message{good, good, spaced, conflict, conflict, message(t, elsewhere), bad, forged, bad, message(t, event(2))} {
		head = apply(t, l2, m)
	}
	if head.Root != root {
		t.Error("the root depends on batches")
	}
	check(l2)
	if err := Compare(l, l2, "one", "two"); err != nil {
		t.Error(err)
	}
}

func TestApplyRefusesGaps(t *testing.T) {
	l := open(t, Options{})
	apply(t, l, message(t, event(1)), message(t, event(2)))
	m := message(t, event(3))
	for name, b := range map[string]*Batch{
		"gap":         l.Prepare(1, created, []Message{{m.Subject, 4, m.Data}}),
		"again":       l.Prepare(1, created, []Message{{m.Subject, 2, m.Data}}),
		"gap within":  l.Prepare(1, created, []Message{{m.Subject, 3, m.Data}, {m.Subject, 5, m.Data}}),
		"other epoch": l.Prepare(2, created, []Message{{m.Subject, 3, m.Data}}),
		"made anew":   l.Prepare(1, created.Add(1), []Message{{m.Subject, 3, m.Data}}),
	} {
		if h, err := l.Apply(context.Background(), b); !errors.Is(err, ErrRegressed) || h.Size != 2 {
			t.Errorf("%s: %v, size %d", name, err, h.Size)
		}
	}
	if h := apply(t, l, m); h.Size != 3 {
		t.Errorf("size %d after refusals", h.Size)
	}
}

func TestReopen(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, Options{FS: fs})
	var msgs []Message
	for i := range 300 {
		msgs = append(msgs, message(t, event(i)))
	}
	want := apply(t, l, msgs...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{FS: fs})
	if got := l.Head(); got != want {
		t.Errorf("reopened with %+v, want %+v", got, want)
	}
	if h := apply(t, l, message(t, event(300))); h.Size != 301 {
		t.Errorf("size %d", h.Size)
	}
}

// TestCrash cuts the power at random moments, with any share of what was not
// synced lost: what Apply acknowledged is there, and the root recomputes.
func TestCrash(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 0))
		fs := vfs.NewCrashableMem()
		l, err := Open("ledger", Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		acked := Head{Root: emptyRoot}
		n := 0
		for range 1 + rng.IntN(12) {
			var msgs []Message
			for range 1 + rng.IntN(400) {
				msgs = append(msgs, message(t, event(n)))
				n++
			}
			acked = apply(t, l, msgs...)
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l, err = Open("ledger", Options{FS: clone})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if got := l.Head(); got != acked {
			t.Errorf("seed %d: reopened at %+v, acknowledged %+v", seed, got, acked)
		}
		if _, err := l.Audit(context.Background(), nil, nil); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDuplicatesFarApart sends events again after the memory of recent ids has
// turned over, with ids that grow, fall, and jump.
func TestDuplicatesFarApart(t *testing.T) {
	for name, id := range map[string]func(n int) string{
		"growing": func(n int) string { return fmt.Sprintf("%08d-0000-7000-8000-000000000000", n) },
		"falling": func(n int) string { return fmt.Sprintf("%08d-0000-7000-8000-000000000000", 99999999-n) },
		"jumping": func(n int) string { return fmt.Sprintf("%08d-0000-7000-8000-000000000000", n^0x5555) },
		"other":   func(n int) string { return fmt.Sprintf("a%08d", n) },
		"random": func(n int) string {
			return fmt.Sprintf("%x", tlog.RecordHash([]byte{byte(n), byte(n >> 8), byte(n >> 16)}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			l := open(t, Options{FS: fs, NoSync: true})
			msg := func(n int) Message {
				e := event(n)
				e.ID = events.ID(id(n))
				return message(t, e)
			}
			const total, batch = 2*generation + 5000, 5000
			for n := 0; n < total; n += batch {
				var msgs []Message
				for i := n; i < min(n+batch, total); i++ {
					msgs = append(msgs, msg(i))
				}
				apply(t, l, msgs...)
			}
			again := []Message{msg(0), msg(total / 2), msg(total - 1), msg(batch)}
			if h := apply(t, l, again...); h.Size != total || h.Repeats != 4 {
				t.Fatalf("size %d, repeats %d", h.Size, h.Repeats)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(t, Options{FS: fs})
			if h := apply(t, l, append(again, msg(total))...); h.Size != total+1 || h.Repeats != 8 {
				t.Fatalf("reopened: size %d, repeats %d", h.Size, h.Repeats)
			}
			got, err := l.ByType(event(0).Type, 12345, 20000)
			if err != nil || len(got) != 20000 || got[0] != 12345 || got[19999] != 32344 {
				t.Errorf("ByType: %d indexes, %v", len(got), err)
			}
		})
	}
}

func TestWait(t *testing.T) {
	l := open(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := l.Wait(ctx, 1)
		done <- err
	}()
	apply(t, l, message(t, event(1)))
	apply(t, l, message(t, event(2)))
	if err := <-done; err != nil {
		t.Error(err)
	}
	go func() {
		_, err := l.Wait(ctx, 2)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "leaf 2") {
		t.Errorf("wait canceled: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Wait(context.Background(), 2); !errors.Is(err, ErrStopped) {
		t.Errorf("wait on a closed ledger: %v", err)
	}
}

func BenchmarkFold(b *testing.B) {
	for _, size := range []int{1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				msgs := make([]Message, size)
				for i := range msgs {
					msgs[i] = message(b, event(n))
					msgs[i].Sequence = uint64(n + 1)
					n++
				}
				b.StartTimer()
				if _, err := l.Apply(context.Background(), l.Prepare(1, created, msgs)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
