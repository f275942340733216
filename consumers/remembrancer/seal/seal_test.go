package seal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/mod/sumdb/note"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

const origin = "seal.test/log"

var now = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// heads is HEADS in memory, with named faults.
type heads struct {
	published []remembrancer.Head
	// lostAnswer publishes and then says that nobody knows.
	lostAnswer bool
	// lost does not publish and says that nobody knows.
	lost bool
	// before runs before a compare-and-set: another sealer.
	before func()
}

func (h *heads) Last(context.Context) (remembrancer.Head, uint64, error) {
	if len(h.published) == 0 {
		return remembrancer.Head{}, 0, nil
	}
	return h.published[len(h.published)-1], uint64(len(h.published)), nil
}

func (h *heads) CompareAndSet(_ context.Context, last uint64, head remembrancer.Head) error {
	if before := h.before; before != nil {
		h.before = nil
		before()
	}
	if last != uint64(len(h.published)) {
		return bus.ErrWrongLast
	}
	if h.lost {
		h.lost = false
		return bus.ErrAmbiguous
	}
	h.published = append(h.published, head)
	if h.lostAnswer {
		h.lostAnswer = false
		return bus.ErrAmbiguous
	}
	return nil
}

type outgoing map[events.Producer][]proof.ReceiptItem

type fixture struct {
	t        *testing.T
	log      *ledger.Ledger
	heads    *heads
	state    *memState
	receipts outgoing
	vkey     string
	n        int
	*Sealer
}

type memState struct {
	s   Signed
	err error
}

func (m *memState) Load() (Signed, error) { return m.s, nil }
func (m *memState) Store(s Signed) error {
	if m.err != nil {
		return m.err
	}
	m.s = s
	return nil
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	l, err := ledger.Open("ledger", ledger.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	skey, vkey, err := proof.NewLogKey(origin, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, log: l, heads: &heads{}, state: &memState{}, receipts: outgoing{}, vkey: vkey}
	f.Sealer = New(Options{
		Origin: origin, Log: l, Heads: f.heads, State: f.state, Receipts: f, Signer: signer,
		PGP: func(data []byte, _ time.Time) ([]byte, error) {
			return fmt.Appendf(nil, "signed %d bytes", len(data)), nil
		},
		Clock:  func() time.Time { return now },
		Logger: slog.New(slog.DiscardHandler),
	})
	return f
}

func (f *fixture) Publish(_ context.Context, p events.Producer, signed []byte) error {
	v, err := proof.NewReceiptVerifier(f.vkey, string(p))
	if err != nil {
		f.t.Fatal(err)
	}
	b, err := v.VerifyReceipts(signed)
	if err != nil {
		f.t.Fatal(err)
	}
	f.receipts[p] = append(f.receipts[p], b.Items...)
	return nil
}

// add folds one event of a producer.
func (f *fixture) add(p events.Producer, id string) {
	f.t.Helper()
	e := &events.Event{ID: events.ID(id), Source: events.SourceOf(p), Type: "cloud.vaultmesh.deploy.recorded.v1", Subject: "api", Data: json.RawMessage(`{}`)}
	b, err := e.Canonical()
	if err != nil {
		f.t.Fatal(err)
	}
	f.n++
	msgs := []ledger.Message{{Subject: e.NATSSubject(), Sequence: uint64(f.n), Data: b}}
	if _, err := f.log.Apply(context.Background(), f.log.Prepare(1, now, msgs)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) seal() {
	f.t.Helper()
	if err := f.Seal(context.Background()); err != nil {
		f.t.Fatal(err)
	}
}

func TestSealPublishesAndReleases(t *testing.T) {
	f := newFixture(t)
	f.seal()
	if len(f.heads.published) != 0 {
		t.Fatal("an empty log was sealed")
	}
	f.add("ci", "a")
	f.add("cd", "b")
	f.seal()
	f.seal() // nothing new
	f.add("ci", "c")
	f.seal()
	if len(f.heads.published) != 2 {
		t.Fatalf("%d heads, want 2", len(f.heads.published))
	}
	h := f.heads.published[1]
	c, err := proof.OpenCheckpoint([]byte(h.Checkpoint), f.vkey)
	if err != nil || c.Size != 3 || c.Root != proof.Hash(f.log.Head().Root) || c.Root.String() != h.Root || h.Substantive != 3 {
		t.Errorf("head %+v, checkpoint %+v, %v", h, c, err)
	}
	if err := h.Check(); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(f.receipts["ci"][0].EventID, f.receipts["ci"][1].EventID, f.receipts["cd"][0].EventID); got != "acb" || len(f.receipts["ci"]) != 2 {
		t.Errorf("receipts %v", f.receipts)
	}
	// A producer that missed its receipt sends again.
	f.add("ci", "a")
	f.seal()
	if r := f.receipts["ci"]; len(r) != 3 || r[2].Index != 0 || len(f.heads.published) != 2 {
		t.Errorf("receipts after a repeat %v", r)
	}
}

// TestStateBeforeSignature breaks step 3: without a durable state nothing is
// published.
func TestStateBeforeSignature(t *testing.T) {
	f := newFixture(t)
	f.add("ci", "a")
	f.state.err = errors.New("disk full")
	if err := f.Seal(context.Background()); !errors.Is(err, f.state.err) {
		t.Fatal(err)
	}
	if len(f.heads.published) != 0 || len(f.receipts) != 0 {
		t.Error("a head went out without the signer's state")
	}
}

// TestNeverForks shows the sealer histories that contradict what was signed.
func TestNeverForks(t *testing.T) {
	other := newFixture(t)
	other.add("ci", "x")
	other.add("ci", "y")
	other.seal()
	for name, arrange := range map[string]func(f *fixture){
		"published by another": func(f *fixture) { f.heads.published = other.heads.published },
		"signed by this node":  func(f *fixture) { f.state.s = other.state.s },
	} {
		f := newFixture(t)
		f.add("ci", "a")
		arrange(f)
		if err := f.Seal(context.Background()); err == nil || errors.Is(err, ErrFork) {
			t.Errorf("%s, fold behind: %v, want to wait", name, err)
		}
		f.add("ci", "b")
		f.add("ci", "c")
		before := len(f.heads.published)
		if err := f.Seal(context.Background()); !errors.Is(err, ErrFork) {
			t.Errorf("%s: %v, want ErrFork", name, err)
		}
		if len(f.heads.published) != before || len(f.receipts) != 0 || f.state.s.Size > 2 {
			t.Errorf("%s: something was signed", name)
		}
		if err := f.Run(context.Background()); !errors.Is(err, ErrFork) {
			t.Errorf("%s: Run returned %v", name, err)
		}
	}
}

// TestLostAnswers breaks step 5 in every way.
func TestLostAnswers(t *testing.T) {
	f := newFixture(t)
	f.add("ci", "a")
	f.heads.lostAnswer = true
	f.seal()
	if len(f.heads.published) != 1 || len(f.receipts["ci"]) != 1 {
		t.Error("a head that was published is not known to be")
	}
	f.add("ci", "b")
	f.heads.lost = true
	if err := f.Seal(context.Background()); !errors.Is(err, bus.ErrAmbiguous) || len(f.receipts["ci"]) != 1 {
		t.Errorf("a lost head: %v, receipts %v", err, f.receipts)
	}
	f.seal()
	if len(f.heads.published) != 2 || len(f.receipts["ci"]) != 2 {
		t.Error("the next try did not publish")
	}
	// Another sealer publishes the same head first, then a smaller one.
	f.add("ci", "c")
	f.heads.before = func() {
		twin := New(f.o)
		if err := twin.Seal(context.Background()); err != nil {
			t.Error(err)
		}
	}
	f.seal()
	if len(f.heads.published) != 3 {
		t.Errorf("%d heads after two sealers, want 3", len(f.heads.published))
	}
}

func TestFileState(t *testing.T) {
	s := FileState{filepath.Join(t.TempDir(), "signed.json")}
	if got, err := s.Load(); err != nil || got != (Signed{}) {
		t.Fatalf("%+v, %v", got, err)
	}
	want := Signed{7, ledger.Hash{1, 2, 3}}
	for range 2 {
		if err := s.Store(want); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Load(); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRunStops(t *testing.T) {
	f := newFixture(t)
	f.add("ci", "a")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
