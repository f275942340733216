package remembrancer

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161/devtsa"
)

const fakeOrigin = "ledger.example/log"

// sealedAt is one checkpoint of the fake node.
type sealedAt struct {
	note, asc, token []byte
	root             proof.Hash
	genTime          time.Time
}

// A fakeNode follows the node's HTTP contract over a log in memory. Its faults
// have names: each is a field.
type fakeNode struct {
	t        testing.TB
	now      time.Time
	operator *openpgp.Key
	node     *openpgp.Key
	tsa      *devtsa.Authority
	signer   note.Signer
	vkey     string
	nodeArm  []byte

	mu       sync.Mutex
	entries  [][]byte
	stored   []tlog.Hash
	heads    map[uint64]sealedAt
	once     map[string]string // idempotency key → answer
	privates map[string]events.Private
	number   int

	unsealed  bool                               // records get no checkpoint
	unstamped bool                               // checkpoints get no token
	lie       func(path string, b []byte) []byte // changes answers
	fail      int                                // every request gets this status
	audit     []string                           // lines instead of the real ones
	asked     []string                           // requests
}

func newFake(t testing.TB) *fakeNode {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	n := &fakeNode{t: t, now: now, heads: map[uint64]sealedAt{}, once: map[string]string{}, privates: map[string]events.Private{}}
	key := func(name string) *openpgp.Key {
		k, err := openpgp.NewKey(name, "", name+"@example.com", now.Add(-time.Hour), rand.Reader)
		must(t, err)
		return k
	}
	n.operator, n.node = key("operator"), key("node")
	var err error
	n.nodeArm, err = n.operator.Certify(n.node.Public(), now.Add(-time.Hour))
	must(t, err)
	n.tsa, err = devtsa.NewAuthority("development TSA", now, rand.Reader)
	must(t, err)
	skey, vkey, err := proof.NewLogKey(fakeOrigin, rand.Reader)
	must(t, err)
	n.vkey = vkey
	n.signer, err = note.NewSigner(skey)
	must(t, err)
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (n *fakeNode) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = n.stored[x]
	}
	return out, nil
}

// add appends an event and seals it.
func (n *fakeNode) add(typ, subject string, data any, private string) (events.Event, uint64) {
	n.t.Helper()
	b, err := json.Marshal(data)
	must(n.t, err)
	id, err := events.NewID(n.now, rand.Reader)
	must(n.t, err)
	e := events.Event{
		ID: id, Source: "/operator", Type: events.Type("cloud.vaultmesh." + typ + ".v1"), Subject: subject,
		Time: n.now.Add(time.Duration(len(n.entries)) * time.Hour), Data: b, Private: private,
	}
	body, err := e.Canonical()
	must(n.t, err)
	index := len(n.entries)
	hashes, err := tlog.StoredHashes(int64(index), body, n)
	must(n.t, err)
	n.entries, n.stored = append(n.entries, body), append(n.stored, hashes...)
	if !n.unsealed {
		n.seal()
	}
	return e, uint64(index)
}

func (n *fakeNode) seal() {
	size := uint64(len(n.entries))
	root, err := tlog.TreeHash(int64(size), n)
	must(n.t, err)
	s := sealedAt{root: proof.Hash(root)}
	s.note, err = proof.SignCheckpoint(fakeOrigin, size, s.root, n.signer)
	must(n.t, err)
	s.asc, err = n.node.SignDetached(bytes.NewReader(s.note), n.now)
	must(n.t, err)
	if !n.unstamped {
		s.genTime = n.now.Add(time.Second)
		s.token, err = n.tsa.Respond(rfc3161.NewRequest(sha256.Sum256(s.note), nil, nil), s.genTime)
		must(n.t, err)
	}
	n.heads[size] = s
}

func (n *fakeNode) newest() uint64 {
	var size uint64
	for s := range n.heads {
		size = max(size, s)
	}
	return size
}

func (n *fakeNode) server() *httptest.Server {
	mux := http.NewServeMux()
	text := func(pattern string, f func() []byte) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { n.write(w, pattern, f()) })
	}
	armor := func() []byte { b, err := n.operator.PublicArmor(); must(n.t, err); return b }
	text("GET /v1/keys/log.vkey", func() []byte { return []byte(n.vkey + "\n") })
	text("GET /v1/keys/operator.asc", armor)
	text("GET /v1/keys/node.asc", func() []byte { return n.nodeArm })
	text("GET /v1/tsa/chain.pem", func() []byte { return n.tsa.RootPEM() })
	text("GET /checkpoint", func() []byte { return n.heads[n.newest()].note })
	mux.HandleFunc("GET /tile/{path...}", n.tile)
	mux.HandleFunc("POST /v1/timestamp", n.stamp)
	mux.HandleFunc("POST /v1/record/{what}", n.recordHTTP)
	mux.HandleFunc("GET /v1/receipts/{id}", n.receiptHTTP)
	mux.HandleFunc("GET /v1/artifacts/{sum}", n.artifactHTTP)
	mux.HandleFunc("GET /v1/list/{kind}", n.listHTTP)
	mux.HandleFunc("GET /v1/events/{id}", n.eventHTTP)
	mux.HandleFunc("GET /v1/private/{commitment}", func(w http.ResponseWriter, r *http.Request) {
		p, ok := n.privates[r.PathValue("commitment")]
		if !ok {
			n.problem(w, 404, "redacted")
			return
		}
		n.json(w, 200, r.URL.Path, p)
	})
	mux.HandleFunc("GET /v1/checkpoint", func(w http.ResponseWriter, r *http.Request) {
		size := n.newest()
		s := n.heads[size]
		n.json(w, 200, r.URL.Path, map[string]any{
			"format": "vaultmesh.cloud/head/v1", "origin": fakeOrigin, "size": size, "root": s.root.String(),
			"checkpoint": string(s.note), "checkpoint_asc": string(s.asc), "time": n.now.Format(time.RFC3339), "seals": []any{},
		})
	})
	mux.HandleFunc("POST /v1/audit", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		size := n.newest()
		lines := n.audit
		if lines == nil {
			lines = []string{`{"phase":"store","done":1,"total":2}`, `{"phase":"heads","done":1,"total":1}`,
				fmt.Sprintf(`{"result":{"ok":true,"size":%d,"root":"%x","heads":%d}}`, size, func() []byte { r := n.heads[size].root; return r[:] }(), len(n.heads))}
		}
		fmt.Fprintln(w, strings.Join(lines, "\n"))
	})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.asked = append(n.asked, r.Method+" "+r.URL.RequestURI())
		if n.fail != 0 {
			n.problem(w, n.fail, "told to fail")
			return
		}
		mux.ServeHTTP(w, r)
	}))
	n.t.Cleanup(s.Close)
	return s
}

func (n *fakeNode) write(w http.ResponseWriter, path string, b []byte) {
	if n.lie != nil {
		b = n.lie(path, b)
	}
	_, _ = w.Write(b)
}

func (n *fakeNode) json(w http.ResponseWriter, status int, path string, v any) {
	b, err := json.Marshal(v)
	must(n.t, err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	n.write(w, path, b)
}

func (n *fakeNode) problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail, "mend": "do better"})
}

func (n *fakeNode) tile(w http.ResponseWriter, r *http.Request) {
	parsed, err := tlog.ParseTilePath("tile/8/" + r.PathValue("path"))
	if err != nil {
		n.problem(w, 400, err.Error())
		return
	}
	b, err := tlog.ReadTileData(parsed, n)
	if err != nil {
		n.problem(w, 404, err.Error())
		return
	}
	n.write(w, r.URL.Path, b)
}

func (n *fakeNode) stamp(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	must(n.t, err)
	if r.Header.Get("Content-Type") != queryType {
		n.problem(w, 415, "want a query")
		return
	}
	out, err := n.tsa.Respond(b, time.Now())
	must(n.t, err)
	w.Header().Set("Content-Type", replyType)
	n.write(w, r.URL.Path, out)
}

func (n *fakeNode) recordHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Idempotency-Key")
	if answer, ok := n.once[key]; ok && key != "" {
		w.Header().Set("Content-Type", "application/json")
		n.write(w, r.URL.Path, []byte(answer))
		return
	}
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		n.problem(w, 400, err.Error())
		return
	}
	names := map[string]string{"deploy": "deploy.recorded", "decision": "decision.recorded", "incident": "incident.reported", "signature": "artifact.signed", "timestamp": "artifact.timestamped"}
	typ, ok := names[r.PathValue("what")]
	if !ok {
		n.problem(w, 404, "no such record")
		return
	}
	commitment := ""
	if body["private"] == true {
		delete(body, "private")
		p, err := events.NewPrivate(map[string]string{"body": body["body"].(string)}, rand.Reader)
		must(n.t, err)
		delete(body, "body")
		commitment, err = p.Commitment()
		must(n.t, err)
		n.privates[commitment] = p
	}
	subject := "subject"
	if s, ok := body["component"].(string); ok {
		subject = s
	}
	if typ == "decision.recorded" {
		n.number++
		body["number"] = n.number
	}
	e, index := n.add(typ, subject, body, commitment)
	answer, err := json.Marshal(map[string]any{"id": e.ID, "source": e.Source, "type": e.Type, "index": index, "sealed": false, "payload": body})
	must(n.t, err)
	if key != "" {
		n.once[key] = string(answer)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(201)
	n.write(w, r.URL.Path, answer)
}

func (n *fakeNode) find(id string) (events.Event, int) {
	for i, b := range n.entries {
		if e, _, err := events.Parse(b); err == nil && string(e.ID) == id {
			return e, i
		}
	}
	return events.Event{}, -1
}

func (n *fakeNode) receiptHTTP(w http.ResponseWriter, r *http.Request) {
	e, index := n.find(r.PathValue("id"))
	if index < 0 {
		n.problem(w, 404, "no event of that id")
		return
	}
	size := uint64(0)
	for s, h := range n.heads {
		if s > uint64(index) && (size == 0 || s < size) && (r.FormValue("stamped") != "true" || h.token != nil) {
			size = s
		}
	}
	if size == 0 {
		n.problem(w, 503, "not yet")
		return
	}
	n.json(w, 200, r.URL.Path, n.receiptOf(e, index, size))
}

func (n *fakeNode) receiptOf(e events.Event, index int, size uint64) map[string]any {
	s, newest := n.heads[size], n.newest()
	p := proof.TLogProof{Index: uint64(index), Checkpoint: s.note}
	path, err := tlog.ProveRecord(int64(size), int64(index), n)
	must(n.t, err)
	for _, h := range path {
		p.Hashes = append(p.Hashes, proof.Hash(h))
	}
	consistency := []string{}
	tree, err := tlog.ProveTree(int64(newest), int64(size), n)
	must(n.t, err)
	for _, h := range tree {
		consistency = append(consistency, proof.Hash(h).String())
	}
	leaf, last := proof.LeafHash(n.entries[index]), n.heads[newest]
	out := map[string]any{
		"format": receiptFormat, "event_id": e.ID, "source": e.Source, "type": e.Type, "index": index,
		"leaf_hash": hex.EncodeToString(leaf[:]), "event": json.RawMessage(n.entries[index]), "origin": fakeOrigin,
		"size": size, "root": hex.EncodeToString(s.root[:]), "checkpoint": string(s.note), "checkpoint_asc": string(s.asc),
		"proof":  string(p.Marshal()),
		"latest": map[string]any{"size": newest, "root": hex.EncodeToString(last.root[:]), "checkpoint": string(last.note), "consistency": consistency},
	}
	if s.token != nil {
		out["token"], out["tsa"], out["gen_time"] = s.token, "development TSA", s.genTime
	}
	return out
}

func (n *fakeNode) artifactHTTP(w http.ResponseWriter, r *http.Request) {
	var found []map[string]any
	for i, b := range n.entries {
		if strings.Contains(string(b), `"sha256":"`+r.PathValue("sum")+`"`) {
			found = append(found, map[string]any{"index": i, "event": json.RawMessage(b)})
		}
	}
	if found == nil {
		n.problem(w, 404, "unknown digest")
		return
	}
	n.json(w, 200, r.URL.Path, map[string]any{"sha256": r.PathValue("sum"), "events": found})
}
