package timestamp

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161/devtsa"
)

// world is everything around a stamper, in memory, with named faults.
type world struct {
	mu       sync.Mutex // the stamper runs beside the test
	heads    []remembrancer.Head
	seals    []remembrancer.Seal
	recorded map[events.ID]events.Payload
	changed  chan struct{}
	asked    int
	// down makes the authority fail that many times.
	down int
	// crash makes the log refuse once, after the seal was published.
	crash bool
}

func newWorld() *world {
	return &world{recorded: map[events.ID]events.Payload{}, changed: make(chan struct{})}
}

func (w *world) publish(size, substantive uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add(size, substantive)
}

func (w *world) add(size, substantive uint64) {
	h := remembrancer.NewHead("ts.test/log", size, base64.StdEncoding.EncodeToString(make([]byte, 32)), substantive, fmt.Sprintf("checkpoint of %d", size), "asc", time.Now())
	w.heads = append(w.heads, h)
	w.poke()
}

func (w *world) poke() {
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) Latest() (remembrancer.Head, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.heads) == 0 {
		return remembrancer.Head{}, false
	}
	return w.heads[len(w.heads)-1], true
}

func (w *world) At(size uint64) (remembrancer.Head, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.heads {
		if h.Size == size {
			return h, true, nil
		}
	}
	return remembrancer.Head{}, false, nil
}

func (w *world) Stamped() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seals) == 0 {
		return 0
	}
	return w.seals[len(w.seals)-1].Size
}

func (w *world) Seals(size uint64) (out []remembrancer.Seal, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seals {
		if s.Size == size {
			out = append(out, s)
		}
	}
	return out, nil
}

func (w *world) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func (w *world) Publish(_ context.Context, s remembrancer.Seal) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := s.Check(); err != nil {
		return err
	}
	w.seals = append(w.seals, s)
	w.poke()
	return nil
}

func (w *world) Put(_ context.Context, b []byte) (string, error) {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

func (w *world) Record(_ context.Context, p events.Payload, id events.ID, at time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.crash {
		w.crash = false
		return errors.New("crashed")
	}
	if err := p.Check(); err != nil {
		return err
	}
	w.recorded[id] = p
	h := w.heads[len(w.heads)-1]
	w.add(h.Size+1, h.Substantive) // housekeeping makes a new checkpoint
	return nil
}

func (w *world) Recorded(id events.ID) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.recorded[id] != nil, nil
}

func (w *world) Stamp(_ context.Context, digest [32]byte) (Stamp, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.asked <= w.down {
		return Stamp{}, errors.New("down")
	}
	return Stamp{Token: digest[:], GenTime: time.Now(), TSA: "test"}, nil
}

// counts are how often the authority was asked, and the events recorded.
func (w *world) counts() (asked, recorded int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked, len(w.recorded)
}

func (w *world) options() Options {
	return Options{Authority: w, Checkpoints: w, Seals: w, Blobs: w, Log: w, Logger: slog.New(slog.DiscardHandler), Rand: mrand.New(mrand.NewPCG(1, 1))}
}

func run(t *testing.T, w *world, fn func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		w.changed = make(chan struct{})
		done := make(chan error)
		go func() { done <- New(w.options()).Run(ctx) }()
		fn()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestOneTokenForWork(t *testing.T) {
	w := newWorld()
	run(t, w, func() {
		w.publish(1, 0) // housekeeping only
		time.Sleep(10 * time.Second)
		if asked, _ := w.counts(); asked != 0 {
			t.Error("a housekeeping checkpoint was stamped")
		}
		w.publish(3, 2)
		time.Sleep(time.Hour)
		if asked, recorded := w.counts(); asked != 1 || recorded != 1 || w.Stamped() != 3 {
			t.Errorf("asked %d times, recorded %d: an idle log does not fall silent", asked, recorded)
		}
		for i := range uint64(50) { // ten seconds of steady work
			w.publish(10+i, 3+i)
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		if asked, _ := w.counts(); asked < 8 || asked > 13 {
			t.Errorf("%d tokens in ten seconds, want about ten", asked)
		}
	})
}

func TestAuthorityDown(t *testing.T) {
	w := newWorld()
	w.down = 20
	run(t, w, func() {
		w.publish(2, 1)
		time.Sleep(time.Minute)
		if asked, _ := w.counts(); asked > 10 {
			t.Errorf("asked %d times in a minute", asked)
		}
		time.Sleep(time.Hour)
		if _, recorded := w.counts(); w.Stamped() != 2 || recorded != 1 {
			t.Error("not stamped when the authority came back")
		}
	})
}

func TestCrashBetweenSealAndRecord(t *testing.T) {
	w := newWorld()
	w.crash = true
	run(t, w, func() {
		w.publish(2, 1)
		time.Sleep(time.Minute)
		if asked, recorded := w.counts(); asked != 1 || recorded != 1 {
			t.Errorf("asked %d times, recorded %d", asked, recorded)
		}
	})
}

// TestClient runs the HTTP client against a real authority, and one that answers
// as proxies and broken services do.
func TestClient(t *testing.T) {
	dev, err := devtsa.NewAuthority("a development TSA", time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(dev.Root())
	var old []byte
	answer := func(kind string, status int, reply func(req []byte) []byte) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			req := make([]byte, r.ContentLength)
			_, _ = r.Body.Read(req)
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write(reply(req))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	good := func(req []byte) []byte {
		der, err := dev.Respond(req, time.Now())
		if err != nil {
			t.Error(err)
		}
		old = der
		return der
	}
	const reply = "application/timestamp-reply"
	digest := sha256.Sum256([]byte("data"))
	ask := func(url string, roots *x509.CertPool) error {
		_, err := Client{URL: url, HTTP: http.DefaultClient, Roots: roots, Clock: time.Now}.Stamp(context.Background(), digest)
		return err
	}
	if err := ask(answer(reply, 200, good), roots); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		url   string
		roots *x509.CertPool
		want  string
	}{
		"error":       {answer(reply, 500, good), roots, "500"},
		"HTML":        {answer("text/html", 200, func([]byte) []byte { return []byte("<html>") }), roots, "RFC 3161 service"},
		"huge":        {answer(reply, 200, func([]byte) []byte { return make([]byte, MaxReply+1) }), roots, "over"},
		"junk":        {answer(reply, 200, func([]byte) []byte { return []byte("junk") }), roots, rfc3161.ErrMalformed.Error()},
		"replay":      {answer(reply, 200, func([]byte) []byte { return old }), roots, rfc3161.ErrNonce.Error()},
		"other roots": {answer(reply, 200, good), x509.NewCertPool(), rfc3161.ErrChain.Error()},
		"old clock":   {answer(reply, 200, func(req []byte) []byte { b, _ := dev.Respond(req, time.Now().Add(-time.Hour)); return b }), roots, rfc3161.ErrGenTime.Error()},
	} {
		if err := ask(c.url, c.roots); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	both := Several{Client{URL: answer(reply, 503, good), HTTP: http.DefaultClient, Roots: roots, Clock: time.Now}, Local{Name: "dev", Respond: dev.Respond, Roots: roots, Clock: time.Now}}
	if s, err := both.Stamp(context.Background(), digest); err != nil || s.TSA != "dev" {
		t.Errorf("the second authority was not asked: %v", err)
	}
	if _, err := (Several{}).Stamp(context.Background(), digest); !errors.Is(err, ErrNoAuthority) {
		t.Error(err)
	}
}
