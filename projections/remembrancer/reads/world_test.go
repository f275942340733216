package reads

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/receipts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const origin = "test.example/log"

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// A world is a log in memory with its doors on a real HTTP server. The test
// itself plays the stream, the fold's loop, the sealer and the TSA.
type world struct {
	tb       testing.TB
	registry *events.Registry
	ledger   *ledger.Ledger
	heads    *receipts.Store
	reader   *Reader
	doors    Doors
	routes   []Route
	server   *httptest.Server
	signer   note.Signer
	vkey     string
	seq      map[string]uint64
	done     chan struct{}
	tick     chan time.Time
	keys     map[string]string
}

func newWorld(tb testing.TB, change ...func(*Options, *Doors)) *world {
	tb.Helper()
	w := &world{tb: tb, seq: map[string]uint64{}, done: make(chan struct{}), tick: make(chan time.Time), keys: map[string]string{}}
	var err error
	w.registry, err = events.NewRegistry(remembrancer.Definitions())
	w.check(err)
	w.ledger, err = ledger.Open("ledger", ledger.Options{FS: vfs.NewMem(), Registry: w.registry})
	w.check(err)
	w.heads, err = receipts.Open("receipts", receipts.Options{FS: vfs.NewMem()})
	w.check(err)
	skey, vkey, err := proof.NewLogKey(origin, rand.NewChaCha8([32]byte{1}))
	w.check(err)
	w.vkey = vkey
	w.signer, err = note.NewSigner(skey)
	w.check(err)
	o := Options{Ledger: w.ledger, Heads: w.heads, Registry: w.registry, MinWait: 50 * time.Millisecond}
	w.doors = Doors{
		Keys: func(name string) ([]byte, error) { return []byte(w.keys[name]), nil }, Fail: fail, Done: w.done,
		Ticker: func(time.Duration) (<-chan time.Time, func()) { return w.tick, func() {} },
	}
	for _, c := range change {
		c(&o, &w.doors)
	}
	w.reader = New(o)
	w.routes = Routes(w.reader, w.doors)
	mux := http.NewServeMux()
	for _, r := range w.routes {
		mux.Handle(r.Pattern, r.Handler)
	}
	w.server = httptest.NewServer(mux)
	tb.Cleanup(func() {
		w.server.Close()
		w.check(w.ledger.Close())
		w.check(w.heads.Close())
	})
	return w
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
	switch {
	case errors.Is(err, ErrBadRequest):
		status = http.StatusBadRequest
	case errors.Is(err, ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrNotYet), errors.Is(err, ErrBusy):
		status = http.StatusServiceUnavailable
	}
	http.Error(w, err.Error(), status)
}

// fold applies raw messages and returns the size of the log.
func (w *world) fold(msgs ...ledger.Message) uint64 {
	w.tb.Helper()
	for i := range msgs {
		w.seq["events"]++
		msgs[i].Sequence = w.seq["events"]
	}
	h, err := w.ledger.Apply(context.Background(), w.ledger.Prepare(1, start, msgs))
	w.check(err)
	return h.Size
}

func (w *world) record(id string, source events.Source, at time.Time, p events.Payload) uint64 {
	w.tb.Helper()
	e, err := w.registry.New(p, events.Origin{ID: events.ID(id), Source: source, Time: at})
	w.check(err)
	return w.publish(e)
}

// publish folds one event and returns its index.
func (w *world) publish(e *events.Event) uint64 {
	w.tb.Helper()
	b, err := e.Canonical()
	w.check(err)
	return w.fold(ledger.Message{Subject: e.NATSSubject(), Data: b}) - 1
}

// deploys records n deployments, id-0 and so on, an hour apart.
func (w *world) deploys(from, n int) {
	w.tb.Helper()
	var msgs []ledger.Message
	for i := from; i < from+n; i++ {
		e, err := w.registry.New(&remembrancer.DeployRecorded{Component: fmt.Sprintf("svc-%d", i%3), Version: fmt.Sprintf("v%d", i), Notes: "a <b> & c\u2028"},
			events.Origin{ID: events.ID(fmt.Sprintf("id-%d", i)), Source: "/ci", Time: start.Add(time.Duration(i) * time.Hour)})
		w.check(err)
		b, err := e.Canonical()
		w.check(err)
		msgs = append(msgs, ledger.Message{Subject: e.NATSSubject(), Data: b})
	}
	w.fold(msgs...)
}

// head returns the signed head of the ledger as it stands.
func (w *world) head() remembrancer.Head {
	w.tb.Helper()
	h := w.ledger.Head()
	cp, err := proof.SignCheckpoint(origin, h.Size, proof.Hash(h.Root), w.signer)
	w.check(err)
	return remembrancer.NewHead(origin, h.Size, proof.Hash(h.Root).String(), h.Substantive, string(cp), "-----BEGIN PGP SIGNATURE-----\n", start)
}

// seal publishes the head.
func (w *world) seal() remembrancer.Head {
	w.tb.Helper()
	h := w.head()
	w.apply(events.HeadsStream, h)
	return h
}

func (w *world) stamp(h remembrancer.Head) {
	w.tb.Helper()
	w.apply(events.SealsStream, remembrancer.NewTokenSeal(h, base64.StdEncoding.EncodeToString([]byte("token")), strings.Repeat("ab", 32), "tsa.example", start.Add(time.Minute)))
}

func (w *world) apply(stream string, v any) {
	w.tb.Helper()
	b, err := json.Marshal(v)
	w.check(err)
	w.seq[stream]++
	w.check(w.heads.Apply(stream, []receipts.Message{{Sequence: w.seq[stream], Data: b}}))
}

// get asks the server and returns the status, the body and the header.
func (w *world) get(path string) (int, string, http.Header) {
	w.tb.Helper()
	resp, err := http.Get(w.server.URL + path)
	w.check(err)
	b, err := io.ReadAll(resp.Body)
	w.check(errors.Join(err, resp.Body.Close()))
	return resp.StatusCode, string(b), resp.Header
}

// getJSON asks for a 200 and decodes it.
func (w *world) getJSON(path string, v any) {
	w.tb.Helper()
	status, body, _ := w.get(path)
	if status != http.StatusOK {
		w.tb.Fatalf("GET %s: %d %s", path, status, body)
	}
	if err := json.Unmarshal([]byte(body), v); err != nil {
		w.tb.Fatalf("GET %s: %v in %s", path, err, body)
	}
}

func eventOrigin(id, source string) events.Origin {
	return events.Origin{ID: events.ID(id), Source: events.Source(source), Time: start}
}
