package reads

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// A subscriber reads Server-Sent Events as WHATWG HTML section 9.2.6 says.
type subscriber struct {
	w      *world
	resp   *http.Response
	lines  *bufio.Scanner
	last   string // the last event id
	cancel context.CancelFunc
}

// subscribe returns once the stream stands.
func (w *world) subscribe(query, last string) *subscriber {
	w.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL+"/v1/events/stream"+query, nil)
	w.check(err)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(req)
	w.check(err)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.tb.Fatalf("stream: %d %v", resp.StatusCode, resp.Header)
	}
	s := &subscriber{w: w, resp: resp, lines: bufio.NewScanner(resp.Body), last: last, cancel: cancel}
	s.lines.Buffer(nil, 1<<20)
	w.tb.Cleanup(s.close)
	return s
}

func (s *subscriber) close() {
	s.cancel()
	_ = s.resp.Body.Close()
}

// next returns the next event's id, type and data; all empty at the end.
func (s *subscriber) next() (id, kind, data string) {
	for s.lines.Scan() {
		field, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch field {
		case "id":
			s.last = value
		case "event":
			kind = value
		case "data":
			data = value
		case "":
			if data != "" {
				return s.last, kind, data
			}
			kind = ""
		}
	}
	return "", "", ""
}

func (s *subscriber) want(index uint64, id string) {
	s.w.tb.Helper()
	at, kind, data := s.next()
	if at != fmt.Sprint(index) || !strings.HasPrefix(kind, "cloud.vaultmesh.") || !strings.Contains(data, `"id":"`+id+`"`) {
		s.w.tb.Fatalf("got event %s of type %s, want %d with id %s: %s", at, kind, index, id, data)
	}
	leaf, err := s.w.ledger.Leaf(index)
	s.w.check(err)
	if proof.LeafHash([]byte(data)) != proof.Hash(leaf) {
		s.w.tb.Fatalf("event %d is not byte for byte the leaf", index)
	}
}

func TestStream(t *testing.T) {
	w := newWorld(t)
	w.deploys(0, 2)
	live, all := w.subscribe("", ""), w.subscribe("?from=0", "")
	all.want(0, "id-0")
	all.want(1, "id-1")
	w.fold(ledger.Message{Subject: "vm.deploy.api.ci", Data: []byte("{")}) // quarantined: not an event
	w.deploys(2, 1)
	live.want(3, "id-2")
	all.want(3, "id-2")
	// A reader that lost its connection goes on after what it saw.
	last := live.last
	live.close()
	w.deploys(3, 600)
	again := w.subscribe("?from=0", last)
	for i := range 600 {
		again.want(uint64(4+i), fmt.Sprintf("id-%d", 3+i))
	}
	w.deploys(603, 1)
	again.want(604, "id-603")
}

func TestStreamFilters(t *testing.T) {
	w := newWorld(t)
	w.deploys(0, 2)
	w.record("adr", "/operator", start, &remembrancer.DecisionRecorded{Number: 1, Title: "Use NATS", Status: "accepted"})
	e, err := w.registry.New(&remembrancer.IncidentReported{Title: "Down", Severity: "high"}, eventOrigin("bad", "/ci"))
	w.check(err)
	e.Data = []byte(`{"title":"Down"}`)
	w.publish(e) // does not fit its schema
	w.record("inc", "/cd", start, &remembrancer.IncidentReported{Title: "Up", Severity: "low"})
	for query, want := range map[string]string{
		"?from=0&type=cloud.vaultmesh.d*":                            "id-0 id-1 adr end",
		"?from=0&type=cloud.vaultmesh.decision.recorded.v1":          "adr end",
		"?from=0&domain=incident&domain=decision":                    "adr bad inc end",
		"?from=0&domain=incident&valid=true":                         "inc end",
		"?from=0&source=/ci":                                         "id-0 id-1 bad end",
		"?from=0&source=/ci&source=/cd&type=cloud.vaultmesh.inci*":   "bad inc end",
		"?from=0&type=cloud.vaultmesh.decision.recorded&type=cloud*": "id-0 id-1 adr bad inc end",
	} {
		d := &doors{r: w.reader}
		req, err := http.NewRequest(http.MethodGet, "/v1/events/stream"+query, nil)
		w.check(err)
		f, from, err := d.streamQuery(req)
		w.check(err)
		var got []string
		err = w.reader.Feed(context.Background(), from, f, func(e ledger.Entry) error {
			got = append(got, string(e.Event.ID))
			return nil
		}, func(next uint64, _ <-chan struct{}) error {
			if next != 5 {
				t.Errorf("%s: idle at %d", query, next)
			}
			got = append(got, "end")
			return errEnd
		})
		if !errors.Is(err, errEnd) || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v; want %s", query, got, err, want)
		}
	}
}

// TestStreamHeartbeat shows that a reader whose filter matches nothing still
// learns how far it has come.
func TestStreamHeartbeat(t *testing.T) {
	w := newWorld(t)
	s := w.subscribe("?from=0&domain=incident", "")
	w.deploys(0, 5)
	if _, err := w.ledger.Wait(context.Background(), 4); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the first may come before the stream has looked again
		w.tick <- time.Time{}
	}
	w.record("inc", "/cd", start, &remembrancer.IncidentReported{Title: "Up", Severity: "low"})
	saw := ""
	for s.lines.Scan() && s.lines.Text() != "id: 5" {
		if id, ok := strings.CutPrefix(s.lines.Text(), "id: "); ok {
			saw = id
		}
	}
	if saw != "4" {
		t.Errorf("heartbeats said %q, want 4", saw)
	}
}

func TestStreamEndsAtShutdown(t *testing.T) {
	w := newWorld(t)
	idle := w.subscribe("", "")
	close(w.done)
	if id, _, _ := idle.next(); id != "" {
		t.Errorf("event %s after the end", id)
	}
	if err := idle.lines.Err(); err != nil {
		t.Errorf("the stream broke off: %v", err)
	}
}

func TestStreamBound(t *testing.T) {
	w := newWorld(t, func(_ *Options, d *Doors) { d.MaxStreams = 1 })
	s := w.subscribe("", "")
	status, body, header := w.get("/v1/events/stream")
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("second stream: %d %s", status, body)
	}
	s.close()
	for { // the slot is free once the server notices
		resp, err := http.Get(w.server.URL + "/v1/events/stream")
		w.check(err)
		w.check(resp.Body.Close())
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
}

// TestStreamSlowReader opens a stream and takes nothing: it is cut off, and the
// node holds nothing for it.
func TestStreamSlowReader(t *testing.T) {
	ended := make(chan struct{})
	w := newWorld(t, func(_ *Options, d *Doors) { d.SlowReader = 50 * time.Millisecond })
	big := strings.Repeat("x", 8<<10)
	for range 4 { // 6 MB, more than the buffers of a connection
		var msgs []ledger.Message
		for i := range 200 {
			e, err := w.registry.New(&remembrancer.DeployRecorded{Component: "api", Version: "v1", Notes: big}, eventOrigin(fmt.Sprint(w.seq["events"], "-", i), "/ci"))
			w.check(err)
			b, err := e.Canonical()
			w.check(err)
			msgs = append(msgs, ledger.Message{Subject: e.NATSSubject(), Data: b})
		}
		w.fold(msgs...)
	}
	for _, r := range w.routes {
		if r.Pattern != "GET /v1/events/stream" {
			continue
		}
		inner := r.Handler
		w.server.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			defer close(ended)
			inner.ServeHTTP(rw, req)
		})
	}
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	w.check(err)
	defer conn.Close()
	w.check(conn.(*net.TCPConn).SetReadBuffer(4 << 10))
	fmt.Fprintf(conn, "GET /v1/events/stream?from=0 HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("a reader that takes nothing is still served")
	}
}
