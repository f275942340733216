package record

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
)

const deployType = `"type":"cloud.vaultmesh.deploy.recorded.v1"`

func incoming(version string, more ...string) string {
	return fmt.Sprintf(`{%s,"subject":"api","data":{"component":"api","version":%q}%s}`, deployType, version, strings.Join(append([]string{""}, more...), ","))
}

func TestPostEvent(t *testing.T) {
	w := newWorld(t)
	a := w.post("/v1/events", typeEvent, incoming("v1")).want(t, "one event", 201)
	r := a.Recorded
	if *r.Index != 0 || r.Source != "/ci" || r.Type != remembrancer.DeployRecordedType || len(r.LeafHash) != 64 || r.Sealed ||
		a.header.Get("Location") != "/v1/events/"+string(r.ID)+"?source=%2Fci" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("answer %s, header %v", a.body, a.header)
	}
	e := w.event(0)
	if e.ID != r.ID || !e.Time.Equal(now) || e.Subject != "api" {
		t.Errorf("event %+v", e)
	}
	// What is given stands.
	w.post("/v1/events", "application/json; charset=UTF-8", incoming("v2", `"specversion":"1.0"`, `"id":"mine"`, `"source":"/ci/job/7"`, `"time":"2025-01-01T00:00:00+02:00"`, `"traceparent":"00-aa"`)).want(t, "a full event", 201)
	e = w.event(1)
	if e.ID != "mine" || e.Source != "/ci/job/7" || !e.Time.Equal(time.Date(2024, 12, 31, 22, 0, 0, 0, time.UTC)) || e.TraceParent != "00-aa" {
		t.Errorf("event %+v", e)
	}
	// The same id again: the stored event if it says the same, whatever the time.
	if a := w.post("/v1/events", typeEvent, incoming("v2", `"id":"mine"`, `"source":"/ci/job/7"`)).want(t, "same id", 200); *a.Recorded.Index != 1 {
		t.Errorf("same id: %s", a.body)
	}
	w.post("/v1/events", typeEvent, incoming("v3", `"id":"mine"`, `"source":"/ci/job/7"`)).want(t, "same id, other data", 409)
	a = w.post("/v1/events?wait=none", typeEvent, incoming("v4")).want(t, "not waited for", 202)
	if a.Recorded.Index != nil || a.header.Get("Retry-After") != "" {
		t.Errorf("not waited for: %s", a.body)
	}
	w.seal()
	if a := w.post("/v1/events?wait=receipt", typeEvent, incoming("v2", `"id":"mine"`, `"source":"/ci/job/7"`)).want(t, "repeat with its receipt", 200); a.Recorded.Receipt == nil || a.Recorded.Receipt.Index != 1 {
		t.Errorf("receipt: %s", a.body)
	}
	if w.size() != 3 {
		t.Errorf("%d leaves", w.size())
	}
}

func TestPostEventRefusals(t *testing.T) {
	w := newWorld(t)
	w.domains = []events.Domain{"deploy"}
	big := strings.Repeat("x", 70<<10)
	for _, c := range []struct {
		name, kind, body string
		status           int
		says             string
	}{
		{"no content type", "", incoming("v1"), 415, ""},
		{"text", "text/plain", incoming("v1"), 415, ""},
		{"latin 1", "application/json; charset=latin1", incoming("v1"), 415, ""},
		{"empty", typeEvent, "", 400, ""},
		{"broken", typeEvent, "{", 400, "byte"},
		{"array", typeEvent, "[" + incoming("v1") + "]", 400, "object"},
		{"null", typeEvent, "null", 400, "object"},
		{"duplicate name", typeEvent, `{"id":"1","id":"2"}`, 400, "byte"},
		{"trailing", typeEvent, incoming("v1") + "{}", 400, ""},
		{"extension", typeEvent, incoming("v1", `"team":"a"`), 400, `"team"`},
		{"binary data", typeEvent, incoming("v1", `"data_base64":"AA=="`), 400, "data_base64"},
		{"null id", typeEvent, incoming("v1", `"id":null`), 400, "id"},
		{"empty source", typeEvent, incoming("v1", `"source":""`), 400, "source"},
		{"old version", typeEvent, incoming("v1", `"specversion":"0.3"`), 400, "specversion"},
		{"bad time", typeEvent, incoming("v1", `"time":"noon"`), 400, "time"},
		{"no subject", typeEvent, `{` + deployType + `,"data":{"component":"api","version":"v1"}}`, 400, "subject"},
		{"another's source", typeEvent, incoming("v1", `"source":"/cd"`), 403, "ci"},
		{"another's source, hidden", typeEvent, incoming("v1", `"source":"/cd/ci"`), 403, ""},
		{"not to be said", typeEvent, `{"type":"cloud.vaultmesh.ledger.stamped.v1","subject":"log","data":{}}`, 403, ""},
		{"foreign domain", typeEvent, `{"type":"cloud.vaultmesh.incident.reported.v1","subject":"incident","data":{"title":"a","severity":"low"}}`, 403, "incident"},
		{"unknown type", typeEvent, `{"type":"cloud.vaultmesh.deploy.undone.v1","subject":"api","data":{}}`, 422, "undone"},
		{"field missing", typeEvent, `{` + deployType + `,"subject":"api","data":{"component":"api"}}`, 422, "version"},
		{"field unknown", typeEvent, `{` + deployType + `,"subject":"api","data":{"component":"api","version":"v1","colour":"red"}}`, 422, "colour"},
		{"no data", typeEvent, `{` + deployType + `,"subject":"api"}`, 422, ""},
		{"large when canonical", typeEvent, incoming("v1", `"tracestate":"`+big+`"`), 413, ""},
		{"batch of none", typeBatch, "[]", 400, ""},
		{"batch that is an object", typeBatch, incoming("v1"), 400, "array"},
		{"batch broken off", typeBatch, "[" + incoming("v1") + ",", 400, ""},
		{"batch, trailing", typeBatch, "[" + incoming("v1") + "] x", 400, ""},
		{"batch, second bad", typeBatch, "[" + incoming("v1") + `,{"id":"1"}]`, 400, "event 1"},
		{"batch, same id", typeBatch, "[" + incoming("v1", `"id":"a"`) + "," + incoming("v2", `"id":"a"`) + "]", 400, "event 0"},
		{"batch of 1001", typeBatch, "[" + strings.Repeat("1,", 1000) + "1]", 413, "1000"},
	} {
		a := w.post("/v1/events", c.kind, c.body).want(t, c.name, c.status)
		if !strings.Contains(a.body, c.says) {
			t.Errorf("%s: %s", c.name, a.body)
		}
	}
	for _, c := range []struct {
		name, path string
		headers    []string
		status     int
	}{
		{"long key", "/v1/events", []string{"Idempotency-Key", strings.Repeat("k", 129)}, 400},
		{"key with bytes", "/v1/events", []string{"Idempotency-Key", "schlüssel"}, 400},
		{"empty key", "/v1/events", []string{"Idempotency-Key", ""}, 400},
		{"two keys", "/v1/events", []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, 400},
		{"bad wait", "/v1/events?wait=ever", nil, 400},
		{"bad parameter", "/v1/events?weight=leaf", nil, 400},
		{"compressed", "/v1/events", []string{"Content-Encoding", "gzip"}, 415},
		{"binary mode", "/v1/events", []string{"Ce-Id", "1", "Ce-Specversion", "1.0"}, 415},
	} {
		w.post(c.path, typeJSON, incoming("v1"), c.headers...).want(t, c.name, c.status)
	}
	w.producer = ""
	w.post("/v1/events", typeEvent, incoming("v1")).want(t, "a reader", 403)
	if w.size() != 0 {
		t.Errorf("%d leaves after refusals", w.size())
	}
}

// endless is a body that says nothing of its size.
type endless struct{ read atomic.Int64 }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	e.read.Add(int64(len(b)))
	return len(b), nil
}

func TestTooLarge(t *testing.T) {
	w := newWorld(t)
	for kind, most := range map[string]int{typeEvent: MaxBody, typeBatch: MaxBatchBody} {
		body := &endless{}
		req, err := http.NewRequest(http.MethodPost, w.server.URL+"/v1/events", body)
		w.check(err)
		req.Header.Set("Content-Type", kind)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			w.check(resp.Body.Close())
			if resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("%s without an end: %d", kind, resp.StatusCode)
			}
		}
		if n := body.read.Load(); n > int64(most)+8<<20 { // what the connection buffers
			t.Errorf("%s: %d bytes were taken", kind, n)
		}
		w.post("/v1/events", kind, strings.Repeat(" ", most+1)).want(t, kind+" that says its size", 413)
	}
	w.post("/v1/record/deploy", typeJSON, strings.Repeat(" ", MaxBody+1)).want(t, "record", 413)
	w.post("/v1/events", typeBatch, `["`+strings.Repeat("x", MaxBody)+`"]`).want(t, "one of a batch", 413)
}

func TestPostBatch(t *testing.T) {
	w := newWorld(t)
	batch := "[" + incoming("v1") + "," + incoming("v2", `"id":"two"`) + "," + incoming("v3") + "]"
	a := w.post("/v1/events", typeBatch, batch, "Idempotency-Key", "k").want(t, "batch", 201)
	if len(a.Recorded.Events) != 3 || *a.Recorded.Events[2].Index != 2 || a.Recorded.Events[1].ID != "two" || w.size() != 3 {
		t.Errorf("batch: %s", a.body)
	}
	if want := events.DerivedID("/ci", "k", "http", 2); a.Recorded.Events[2].ID != want {
		t.Errorf("id %s, want %s", a.Recorded.Events[2].ID, want)
	}
	w.post("/v1/events", typeBatch, batch, "Idempotency-Key", "k").want(t, "repeat", 200)
	// A longer batch of the same key adds what is new.
	longer := strings.TrimSuffix(batch, "]") + "," + incoming("v4") + "]"
	if a := w.post("/v1/events", typeBatch, longer, "Idempotency-Key", "k").want(t, "longer", 201); len(a.Recorded.Events) != 4 || w.size() != 4 {
		t.Errorf("longer: %s", a.body)
	}
	// One conflict keeps all out.
	other := "[" + incoming("v9") + "," + incoming("v9", `"id":"two"`) + "]"
	w.post("/v1/events", typeBatch, other).want(t, "conflict", 409)
	w.stream.fail = bus.ErrFull
	w.post("/v1/events", typeBatch, "["+incoming("v5")+","+incoming("v6")+"]").want(t, "store full", 503)
	w.stream.fail = nil
	if w.size() != 4 {
		t.Errorf("%d leaves", w.size())
	}
	w.recorder.o.SealWait = time.Minute
	go func() {
		if _, err := w.ledger.Wait(ctx, 5); err != nil {
			t.Error(err)
		}
		w.seal()
	}()
	a = w.post("/v1/events?wait=receipt", typeBatch, "["+incoming("v5")+","+incoming("v6")+"]").want(t, "sealed batch", 201)
	if !a.Recorded.Events[0].Sealed || !a.Recorded.Events[1].Sealed || strings.Contains(a.body, "receipt/v1") {
		t.Errorf("sealed batch: %s", a.body)
	}
	w.recorder.o.LeafWait, w.stream.hold = 20*time.Millisecond, true
	a = w.post("/v1/events", typeBatch, "["+incoming("v7")+","+incoming("v8")+"]").want(t, "not folded", 202)
	if a.header.Get("Retry-After") != "1" || a.Recorded.Events[0].ID == "" || a.Recorded.Events[0].Index != nil {
		t.Errorf("not folded: %s", a.body)
	}
	w.stream.release()
}

func TestPostDecisionEvents(t *testing.T) {
	w := newWorld(t)
	adr := func(n int, supersedes string) string {
		return fmt.Sprintf(`{"type":"cloud.vaultmesh.decision.recorded.v1","subject":"adr","data":{"number":%d,"title":"T","status":"accepted"%s}}`, n, supersedes)
	}
	w.post("/v1/events", typeEvent, adr(1, "")).want(t, "free number", 201)
	w.post("/v1/events", typeEvent, adr(1, "")).want(t, "taken number", 409)
	w.post("/v1/events", typeBatch, "["+adr(2, "")+","+adr(2, "")+"]").want(t, "twice in a batch", 409)
	w.post("/v1/events", typeEvent, adr(2, `,"supersedes":[9]`)).want(t, "supersedes nothing", 422)
	w.post("/v1/events", typeBatch, "["+adr(2, `,"supersedes":[1]`)+","+adr(3, "")+"]", "Idempotency-Key", "k").want(t, "two", 201)
	w.post("/v1/events", typeBatch, "["+adr(2, `,"supersedes":[1]`)+","+adr(3, "")+"]", "Idempotency-Key", "k").want(t, "again", 200)
	a := w.post("/v1/record/decision", typeJSON, `{"title":"T","status":"accepted"}`).want(t, "next", 201)
	if a.Recorded.Payload["number"] != 4.0 {
		t.Errorf("next: %s", a.body)
	}
}

func TestPostRecord(t *testing.T) {
	w := newWorld(t)
	a := w.post("/v1/record/deploy", typeJSON, `{"component":"api","version":"v1","evidence":{"sha256":"`+digest+`"}}`, "Idempotency-Key", "k").want(t, "deploy", 201)
	if *a.Recorded.Index != 0 || a.Recorded.Payload["version"] != "v1" {
		t.Errorf("deploy: %s", a.body)
	}
	if w.ledger.Head().Evidenced != 1 {
		t.Error("the evidence was not counted")
	}
	w.post("/v1/record/deploy", typeJSON, `{"version":"v1","component":"api","private":false,"evidence":{"sha256":"`+digest+`"}}`, "Idempotency-Key", "k").want(t, "repeat", 200)
	w.post("/v1/record/deploy", typeJSON, `{"component":"api","version":"v2"}`, "Idempotency-Key", "k").want(t, "key again", 409)
	for body, status := range map[string]int{
		``: 400, `{`: 400, `[]`: 400, `null`: 400, `{"component":"a","component":"b"}`: 400,
		`{}`: 422, `{"component":"api"}`: 422, `{"component":"api","version":1}`: 422, `{"component":"api","version":"v1","colour":"red"}`: 422,
		`{"component":"api","version":"v1","private":"yes"}`: 422, `{"component":"api","version":"v1","notes":null}`: 422,
		`{"component":"api","version":"v1","evidence":{"sha256":"x"}}`: 422,
	} {
		w.post("/v1/record/deploy", typeJSON, body).want(t, body, status)
	}
	w.post("/v1/record/wish", typeJSON, `{}`).want(t, "unknown kind", 404)
	w.post("/v1/record/deploy", typeEvent, `{"component":"api","version":"v1"}`).want(t, "media type", 415)
	w.domains = []events.Domain{"decision"}
	w.post("/v1/record/deploy", typeJSON, `{"component":"api","version":"v1"}`).want(t, "domain", 403)
	if w.size() != 1 {
		t.Errorf("%d leaves", w.size())
	}
}

func TestPrivateOverHTTP(t *testing.T) {
	w := newWorld(t)
	w.post("/v1/record/incident", typeJSON, `{"title":"Leak","severity":"high","body":"names of <people>","private":true}`).want(t, "incident", 201)
	e := w.event(0)
	a := w.do(http.MethodGet, "/v1/private/"+e.Private, "", "").want(t, "read", 200)
	var p events.Private
	w.check(json.Unmarshal([]byte(a.body), &p))
	if p.Open(e.Private) != nil || p.Fields["body"] != "names of <people>" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("private text: %s", a.body)
	}
	w.do(http.MethodDelete, "/v1/private/"+e.Private, "", "").want(t, "redact", 204)
	w.do(http.MethodDelete, "/v1/private/"+e.Private, "", "").want(t, "redact again", 404)
	w.do(http.MethodGet, "/v1/private/"+e.Private, "", "").want(t, "read redacted", 404)
	w.do(http.MethodGet, "/v1/private/..%2F..%2Fkeys", "", "").want(t, "another path", 400)
}

// TestBusFaults passes the broker's own errors on.
func TestBusFaults(t *testing.T) {
	w := newWorld(t)
	w.stream.fail = bus.ErrFull
	w.post("/v1/events", typeEvent, incoming("v1")).want(t, "full", 503)
	w.post("/v1/record/deploy", typeJSON, `{"component":"api","version":"v1"}`).want(t, "full", 503)
}

func FuzzIncoming(f *testing.F) {
	for _, s := range []string{incoming("v1"), incoming("v1", `"id":"a"`), "{", "null", `{"source":"/ci\"","type":1}`, `{"data":{}}`} {
		f.Add([]byte(s))
	}
	w := newWorld(f)
	o := Order{Producer: "ci", Key: "k"}
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, err := w.recorder.incoming(&o, raw, 0)
		if err != nil {
			return
		}
		// What was let in is what the fold accepts, as it stands.
		b, err := in.event.Canonical()
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if e, _, err := events.Accept(in.event.NATSSubject(), b); err != nil || e.Source.Producer() != "ci" {
			t.Fatalf("%s: %v", raw, err)
		}
	})
}
