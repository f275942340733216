package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/reads"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/receipts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const origin = "test.example/log"

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// A world is a node in memory: a stream that folds what is published at once, a
// ledger, private texts on disk, and the doors on a real HTTP server.
type world struct {
	tb       testing.TB
	registry *events.Registry
	ledger   *ledger.Ledger
	heads    *receipts.Store
	reader   *reads.Reader
	recorder *Recorder
	private  *PrivateDir
	dir      string // of private texts
	server   *httptest.Server
	stream   *stream
	producer events.Producer // in whose name requests come
	domains  []events.Domain
}

// A stream is the bus with faults that a test names.
type stream struct {
	w  *world
	mu sync.Mutex

	sequence uint64
	heads    uint64
	held     []ledger.Message
	hold     bool                // stored, but the fold does not come to it
	fail     error               // nothing is stored
	lose     error               // stored, but the answer is lost
	before   func(*events.Event) // runs before an event is stored, once
}

func (s *stream) Publish(ctx context.Context, e *events.Event) (bus.Ack, error) {
	acks, err := s.PublishBatch(ctx, []*events.Event{e})
	if err != nil {
		return bus.Ack{}, err
	}
	return acks[0], nil
}

func (s *stream) PublishBatch(_ context.Context, list []*events.Event) ([]bus.Ack, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before != nil {
		fn := s.before
		s.before = nil
		s.mu.Unlock()
		fn(list[0])
		s.mu.Lock()
	}
	if s.fail != nil {
		return nil, s.fail
	}
	var acks []bus.Ack
	for _, e := range list {
		b, err := e.Canonical()
		if err != nil {
			return nil, err
		}
		s.sequence++
		s.held = append(s.held, ledger.Message{Subject: e.NATSSubject(), Sequence: s.sequence, Data: b})
		acks = append(acks, bus.Ack{Stream: "EVENTS_1", Sequence: s.sequence})
	}
	if !s.hold {
		s.fold()
	}
	return acks, s.lose
}

// fold applies what is stored; the lock is held.
func (s *stream) fold() {
	s.w.tb.Helper()
	if _, err := s.w.ledger.Apply(context.Background(), s.w.ledger.Prepare(1, now, s.held)); err != nil {
		s.w.tb.Error(err)
	}
	s.held = nil
}

func (s *stream) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = false
	s.fold()
}

func newWorld(tb testing.TB, change ...func(*Options)) *world {
	tb.Helper()
	w := &world{tb: tb, dir: tb.TempDir(), producer: "ci"}
	w.stream = &stream{w: w}
	var err error
	w.registry, err = events.NewRegistry(remembrancer.Definitions())
	w.check(err)
	w.ledger, err = ledger.Open("ledger", ledger.Options{FS: vfs.NewMem(), Registry: w.registry})
	w.check(err)
	w.heads, err = receipts.Open("receipts", receipts.Options{FS: vfs.NewMem()})
	w.check(err)
	w.private, err = OpenPrivateDir(bus.Disk(), w.dir)
	w.check(err)
	w.reader = reads.New(reads.Options{Ledger: w.ledger, Heads: w.heads, Registry: w.registry})
	o := Options{
		Registry: w.registry, Log: w.ledger, Seals: w.reader, Private: w.private,
		Publisher: func(events.Producer) (Publisher, error) { return w.stream, nil },
		Clock:     func() time.Time { return now }, Rand: &lockedRand{r: rand.NewChaCha8([32]byte{2})},
		SealWait: 50 * time.Millisecond,
	}
	for _, c := range change {
		c(&o)
	}
	w.recorder = New(o)
	mux := http.NewServeMux()
	for _, r := range Routes(w.recorder, Doors{
		Principal: func(*http.Request) (events.Producer, []events.Domain) { return w.producer, w.domains }, Fail: fail,
	}) {
		mux.Handle(r.Pattern, r.Handler)
	}
	w.server = httptest.NewServer(mux)
	tb.Cleanup(func() {
		w.server.Close()
		http.DefaultClient.CloseIdleConnections()
		w.check(w.ledger.Close())
		w.check(w.heads.Close())
	})
	return w
}

type lockedRand struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedRand) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(b)
}

func (w *world) check(err error) {
	w.tb.Helper()
	if err != nil {
		w.tb.Fatal(err)
	}
}

// fail maps errors as the daemon does.
func fail(w http.ResponseWriter, _ *http.Request, err error) {
	status := http.StatusInternalServerError
	for _, m := range []struct {
		err    error
		status int
	}{
		{reads.ErrBadRequest, 400}, {ErrNotAllowed, 403}, {reads.ErrNotFound, 404}, {ErrConflict, 409}, {ErrTooLarge, 413},
		{ErrMediaType, 415}, {ErrSchema, 422}, {reads.ErrBusy, 503}, {bus.ErrFull, 503}, {bus.ErrUnavailable, 503},
	} {
		if errors.Is(err, m.err) {
			status = m.status
			break
		}
	}
	http.Error(w, err.Error(), status)
}

// foreign publishes an event as another node would, beside the recorder.
func (w *world) foreign(id events.ID, p events.Payload) uint64 {
	w.tb.Helper()
	e, err := w.registry.New(p, events.Origin{ID: id, Source: events.SourceOf(w.producer), Time: now.Add(time.Hour)})
	w.check(err)
	_, err = w.stream.Publish(context.Background(), e)
	w.check(err)
	return w.ledger.Head().Size - 1
}

// seal publishes a checkpoint over the ledger as it stands.
func (w *world) seal() {
	w.tb.Helper()
	h := w.ledger.Head()
	skey, _, err := proof.NewLogKey(origin, rand.NewChaCha8([32]byte{1}))
	w.check(err)
	signer, err := note.NewSigner(skey)
	w.check(err)
	cp, err := proof.SignCheckpoint(origin, h.Size, proof.Hash(h.Root), signer)
	w.check(err)
	head := remembrancer.NewHead(origin, h.Size, proof.Hash(h.Root).String(), h.Substantive, string(cp), "-----BEGIN PGP SIGNATURE-----\n", now)
	b, err := json.Marshal(head)
	w.check(err)
	w.stream.heads++
	w.check(w.heads.Apply(events.HeadsStream, []receipts.Message{{Sequence: w.stream.heads, Data: b}}))
}

// size returns how many leaves there are.
func (w *world) size() uint64 { return w.ledger.Head().Size }

// event returns the event of a leaf.
func (w *world) event(index uint64) events.Event {
	w.tb.Helper()
	e, err := w.ledger.Entry(index)
	w.check(err)
	return e.Event
}

type answered struct {
	status int
	body   string
	header http.Header

	Recorded struct {
		ID       events.ID
		Source   events.Source
		Type     events.Type
		Index    *uint64
		LeafHash string `json:"leaf_hash"`
		Sealed   bool
		Receipt  *reads.Receipt
		Payload  map[string]any
		Events   []struct {
			ID     events.ID
			Index  *uint64
			Sealed bool
		}
	}
}

// post sends a body; headers come in pairs.
func (w *world) post(path, kind, body string, headers ...string) answered {
	w.tb.Helper()
	return w.do(http.MethodPost, path, kind, body, headers...)
}

func (w *world) do(method, path, kind, body string, headers ...string) answered {
	w.tb.Helper()
	req, err := http.NewRequest(method, w.server.URL+path, strings.NewReader(body))
	w.check(err)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	w.check(err)
	b, err := io.ReadAll(resp.Body)
	w.check(errors.Join(err, resp.Body.Close()))
	a := answered{status: resp.StatusCode, body: string(b), header: resp.Header}
	if resp.Header.Get("Content-Type") == "application/json" {
		w.check(json.NewDecoder(bytes.NewReader(b)).Decode(&a.Recorded))
	}
	return a
}

// want checks the status and, if it is not 0, the size of the log.
func (a answered) want(tb testing.TB, what string, status int) answered {
	tb.Helper()
	if a.status != status {
		tb.Errorf("%s: %d, want %d: %s", what, a.status, status, a.body)
	}
	return a
}
