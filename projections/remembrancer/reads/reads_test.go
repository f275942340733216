package reads

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

var digest = strings.Repeat("0a", 32)

func TestEvents(t *testing.T) {
	w := newWorld(t)
	w.deploys(0, 5)
	w.record("art", "/ci", start, &remembrancer.ArtifactTimestamped{SHA256: digest, Name: "a.tgz", Token: "AAAA", TokenSHA256: digest, GenTime: "2026-11-01T12:00:00Z", TSA: "tsa"})
	w.record("id-1", "/cd", start, &remembrancer.DeployRecorded{Component: "api", Version: "v1", Evidence: &remembrancer.Evidence{SHA256: digest}})
	w.fold(ledger.Message{Subject: "vm.deploy.api.ci", Data: []byte("{")})

	var e Entry
	w.getJSON("/v1/events/id-0", &e)
	// The event in the answer is byte for byte the leaf's preimage.
	if leaf := proof.LeafHash(e.Event); e.Index != 0 || hex.EncodeToString(leaf[:]) != e.LeafHash {
		t.Errorf("event id-0: %+v", e)
	}
	w.getJSON("/v1/events/id-1?source=/cd", &e)
	if e.Index != 6 {
		t.Errorf("event id-1 from /cd: %+v", e)
	}
	var quarantined Entry
	w.getJSON("/v1/entries/7", &quarantined)
	if q := quarantined.Quarantine; q == nil || q.Reason != "bad_json" || quarantined.Event != nil {
		t.Errorf("entry 7: %+v", quarantined)
	}
	for path, want := range map[string][]uint64{
		"":         {0, 1, 2, 3, 4, 5, 6, 7},
		"?from=6":  {6, 7},
		"?from=99": {},
		"?limit=2": {0, 1},
		"?type=cloud.vaultmesh.deploy.recorded.v1":                {0, 1, 2, 3, 4, 6},
		"?type=cloud.vaultmesh.deploy.recorded.v1&from=3&limit=2": {3, 4},
		"?digest=" + digest:             {5, 6},
		"?digest=" + digest + "&from=6": {6},
		"?digest=" + digest + "&type=cloud.vaultmesh.deploy.recorded.v1": {6},
		"?type=cloud.vaultmesh.none.known.v1":                            {},
	} {
		var page Page
		w.getJSON("/v1/events"+path, &page)
		if got := indexes(page.Events); !slices.Equal(got, want) {
			t.Errorf("GET /v1/events%s: %v, want %v", path, got, want)
		}
	}
	// Pages join to the whole, and the last has no next.
	for _, path := range []string{"?limit=3", "?limit=2&type=cloud.vaultmesh.deploy.recorded.v1", "?limit=1&digest=" + digest} {
		var all []uint64
		for from := uint64(0); ; {
			var page Page
			w.getJSON(fmt.Sprintf("/v1/events%s&from=%d", path, from), &page)
			all = append(all, indexes(page.Events)...)
			if from = page.Next; from == 0 {
				break
			}
		}
		if want := map[byte]int{'3': 8, '2': 6, '1': 2}[path[7]]; len(all) != want || !slices.IsSorted(all) {
			t.Errorf("pages of %s hold %v", path, all)
		}
	}
	var a Artifact
	w.getJSON("/v1/artifacts/"+digest, &a)
	if a.SHA256 != digest || !slices.Equal(indexes(a.Events), []uint64{5, 6}) {
		t.Errorf("artifact: %+v", a)
	}
}

func indexes(es []Entry) []uint64 {
	out := []uint64{}
	for _, e := range es {
		out = append(out, e.Index)
	}
	return out
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.deploys(0, 2)
	w.record("id-1", "/cd", start, &remembrancer.DeployRecorded{Component: "api", Version: "v1"})
	w.seal()
	w.keys["operator.asc"], w.keys["tsa.pem"] = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----BEGIN EC PRIVATE KEY-----"
	for path, want := range map[string]int{
		"/v1/events/none":                                    404,
		"/v1/events/id-1":                                    400, // two sources
		"/v1/events/id-0?source=/cd":                         404,
		"/v1/events/id-0?sauce=/ci":                          400,
		"/v1/events/id-0?source=/ci&source=/cd":              400,
		"/v1/entries/3":                                      404,
		"/v1/entries/-1":                                     400,
		"/v1/entries/01":                                     400,
		"/v1/events?limit=0":                                 400,
		"/v1/events?limit=1001":                              400,
		"/v1/events?from=x":                                  400,
		"/v1/events?digest=zz":                               400,
		"/v1/artifacts/" + strings.ToUpper(digest):           400,
		"/v1/artifacts/" + digest:                            404,
		"/v1/list/secrets":                                   404,
		"/v1/list/all?since=yesterday":                       400,
		"/v1/checkpoint?size=2":                              404,
		"/v1/receipts/none":                                  404,
		"/v1/receipts/id-1":                                  400,
		"/v1/receipts/id-0?wait=2m":                          400,
		"/v1/receipts/id-0?stamped=maybe":                    400,
		"/v1/receipts/id-0?stamped=true":                     503,
		"/v1/events/id-0?min_index=3":                        503,
		"/v1/events/id-0?min_index=2":                        200,
		"/v1/events?min_index=x":                             400,
		"/checkpoint?min_index=9":                            503,
		"/v1/keys/operator.asc":                              200,
		"/v1/keys/node.asc":                                  404, // this node has none
		"/v1/keys/tsa.pem":                                   404, // a secret that stands in the wrong place stays one
		"/v1/keys/operator.key":                              404,
		"/v1/keys/..%2Foperator.key":                         404,
		"/v1/events/stream?from=x":                           400,
		"/v1/events/stream?type=a*b":                         400,
		"/v1/events/stream?kind=a":                           400,
		"/v1/events/stream?" + strings.Repeat("type=a&", 33): 400,
	} {
		status, body, header := w.get(path)
		if status != want {
			t.Errorf("GET %s: %d, want %d: %s", path, status, want, body)
		}
		if status == 503 && header.Get("Retry-After") != "1" {
			t.Errorf("GET %s: 503 without Retry-After", path)
		}
	}
}

func TestReceipt(t *testing.T) {
	w := newWorld(t)
	w.deploys(0, 3)
	if status, body, _ := w.get("/v1/receipts/id-1"); status != http.StatusServiceUnavailable {
		t.Errorf("receipt before sealing: %d %s", status, body)
	}
	first := w.seal()
	w.deploys(3, 300)
	second := w.seal()
	w.deploys(303, 7)
	last := w.seal()
	w.stamp(second)

	check := func(path string, h remembrancer.Head, stamped bool) {
		t.Helper()
		var r Receipt
		w.getJSON("/v1/receipts/"+path, &r)
		leaf := proof.LeafHash(r.Event)
		cp, index, err := proof.VerifyTLogProof([]byte(r.Proof), leaf, w.vkey)
		w.check(err)
		if r.Format != ReceiptFormat || index != r.Index || cp.Size != h.Size || r.Size != h.Size || r.Checkpoint != h.Checkpoint || r.CheckpointASC != h.CheckpointASC ||
			r.Origin != origin || r.Root != hex.EncodeToString(cp.Root[:]) || r.LeafHash != hex.EncodeToString(leaf[:]) {
			t.Errorf("receipt %s: %+v", path, r)
		}
		if stamped != (r.Token == base64.StdEncoding.EncodeToString([]byte("token")) && r.TSA == "tsa.example" && r.GenTime == "2026-11-01T12:01:00Z") {
			t.Errorf("receipt %s: token %q by %q at %s", path, r.Token, r.TSA, r.GenTime)
		}
		newest, err := proof.OpenCheckpoint([]byte(r.Latest.Checkpoint), w.vkey)
		w.check(err)
		var hashes []proof.Hash
		for _, s := range r.Latest.Consistency {
			hash, err := proof.ParseHash(s)
			w.check(err)
			hashes = append(hashes, hash)
		}
		if newest.Size != last.Size || r.Latest.Size != last.Size {
			t.Errorf("receipt %s: latest is %d", path, newest.Size)
		}
		w.check(proof.VerifyConsistency(cp.Size, newest.Size, hashes, cp.Root, newest.Root))
	}
	check("id-1", first, false)
	check("id-1?stamped=true", second, true)
	check("id-2?source=/ci", first, false)
	check("id-3", second, true)
	check("id-302", second, true)
	check("id-309", last, false)
}

func TestReceiptWaits(t *testing.T) {
	w := newWorld(t)
	type answer struct {
		r   Receipt
		err error
	}
	ask := func(q ReceiptQuery) chan answer {
		ch := make(chan answer, 1)
		go func() {
			r, err := w.reader.Receipt(context.Background(), q)
			ch <- answer{r, err}
		}()
		return ch
	}
	sealed, stamped := ask(ReceiptQuery{ID: "id-0", Wait: MaxWait}), ask(ReceiptQuery{ID: "id-0", Wait: MaxWait, Stamped: true})
	w.deploys(0, 1)
	h := w.seal()
	if a := <-sealed; a.err != nil || a.r.Size != 1 || a.r.Token != "" {
		t.Errorf("sealed: %+v, %v", a.r, a.err)
	}
	w.deploys(1, 1)
	w.seal()
	w.stamp(h)
	if a := <-stamped; a.err != nil || a.r.Size != 1 || a.r.Token == "" {
		t.Errorf("stamped: %+v, %v", a.r, a.err)
	}
	if a := <-ask(ReceiptQuery{ID: "none", Wait: 5 * time.Millisecond}); !errors.Is(a.err, ErrNotFound) {
		t.Errorf("unknown: %v", a.err)
	}
	w.deploys(2, 1)
	if a := <-ask(ReceiptQuery{ID: "id-2", Wait: 5 * time.Millisecond}); !errors.Is(a.err, ErrNotYet) {
		t.Errorf("not sealed in time: %v", a.err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.reader.Receipt(ctx, ReceiptQuery{ID: "id-2", Wait: MaxWait}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestMinIndexWaits(t *testing.T) {
	w := newWorld(t, func(o *Options, _ *Doors) { o.MinWait = time.Minute })
	w.deploys(0, 1)
	got := make(chan string)
	go func() {
		_, body, _ := w.get("/v1/events?min_index=2&from=2")
		got <- body
	}()
	w.deploys(1, 1)
	w.deploys(2, 1)
	if body := <-got; !strings.Contains(body, `"id":"id-2"`) {
		t.Errorf("a read after min_index: %s", body)
	}
}

func TestCheckpoint(t *testing.T) {
	w := newWorld(t)
	w.deploys(0, 2)
	first := w.seal()
	w.deploys(2, 1)
	w.seal()
	w.stamp(first)
	var c struct {
		remembrancer.Head
		Seals []remembrancer.Seal
	}
	w.getJSON("/v1/checkpoint", &c)
	if c.Size != 3 || c.Seals == nil || len(c.Seals) != 0 {
		t.Errorf("newest: %+v", c)
	}
	w.getJSON("/v1/checkpoint?size=2", &c)
	if c.Head != first || len(c.Seals) != 1 || c.Seals[0].Kind != remembrancer.SealToken {
		t.Errorf("of size 2: %+v", c)
	}
}

func TestList(t *testing.T) {
	w := newWorld(t)
	w.deploys(0, 6)
	w.record("adr", "/operator", start, &remembrancer.DecisionRecorded{Number: 1, Title: "Use NATS", Status: "accepted"})
	w.record("inc", "/operator", start, &remembrancer.IncidentReported{Title: "Down", Severity: "high", Component: "svc-1"})
	w.record("ts", "/ci", start, &remembrancer.ArtifactTimestamped{SHA256: digest, Name: "a.tgz", Token: "AAAA", TokenSHA256: digest, GenTime: "2026-11-01T12:00:00Z", TSA: "tsa"})
	w.record("sig", "/ci", start, &remembrancer.ArtifactSigned{SHA256: digest, Name: "a.tgz", Fingerprint: strings.Repeat("A", 40), Signature: "s", SignatureSHA256: digest})
	w.seal()
	w.record("house", "/node", start, &remembrancer.LedgerStamped{Origin: origin, Size: 10, Root: digest, TokenSHA256: digest, TSA: "tsa", GenTime: "2026-11-01T12:00:00Z"})
	w.deploys(6, 1)
	for path, want := range map[string]string{
		"deployments":                 "0 1 2 3 4 5 11",
		"deployments?component=svc-1": "1 4",
		"deployments?since=2026-11-01T14:00:00Z&until=2026-11-01T16:00:00Z": "2 3",
		"deployments?since=2026-11-01&until=2026-11-01":                     "0 1 2 3 4 5 11",
		"deployments?since=2026-11-02":                                      "",
		"deployments?limit=2&from=1":                                        "1 2 next 3",
		"deployments?limit=7":                                               "0 1 2 3 4 5 11",
		"decisions":                                                         "6",
		"incidents":                                                         "7",
		"artifacts":                                                         "8 9",
		"artifacts?limit=1":                                                 "8 next 9",
		"all?from=5":                                                        "5 6 7 8 9 11",
		"all?component=svc-1":                                               "1 4 7",
		"all?limit=3":                                                       "0 1 2 next 3",
	} {
		var l List
		w.getJSON("/v1/list/"+path, &l)
		var got []string
		for _, i := range l.Items {
			got = append(got, fmt.Sprint(i.Index))
			if i.Sealed != (i.Index < 10) {
				t.Errorf("%s: item %d sealed: %v", path, i.Index, i.Sealed)
			}
		}
		if l.Next > 0 {
			got = append(got, fmt.Sprint("next ", l.Next))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("list %s: %s, want %s", path, s, want)
		}
	}
	var l List
	w.getJSON("/v1/list/all?from=5&limit=5", &l)
	var titles []string
	for _, i := range l.Items {
		titles = append(titles, i.Kind+" "+i.Title)
	}
	want := []string{"deployment svc-2 v5", "decision ADR-1 Use NATS", "incident high: Down", "artifact time-stamped a.tgz", "artifact signed a.tgz"}
	if !slices.Equal(titles, want) {
		t.Errorf("titles %q", titles)
	}
	if !json.Valid(l.Items[1].Detail) || !strings.Contains(string(l.Items[1].Detail), `"number":1`) {
		t.Errorf("detail %s", l.Items[1].Detail)
	}
}

// TestListMany walks pages that cross the size of one look at the index.
func TestListMany(t *testing.T) {
	w := newWorld(t)
	w.deploys(0, 700)
	w.record("ts", "/ci", start, &remembrancer.ArtifactTimestamped{SHA256: digest, Name: "a.tgz", Token: "AAAA", TokenSHA256: digest, GenTime: "2026-11-01T12:00:00Z", TSA: "tsa"})
	for _, path := range []string{"deployments?limit=1000", "deployments?limit=256", "deployments?limit=300", "all?limit=99"} {
		n := 0
		for from := uint64(0); ; {
			var l List
			w.getJSON("/v1/list/"+path+"&from="+url.QueryEscape(fmt.Sprint(from)), &l)
			for _, i := range l.Items {
				if i.Index != uint64(n) {
					t.Fatalf("%s: item %d came as %d", path, n, i.Index)
				}
				n++
			}
			if from = l.Next; from == 0 {
				break
			}
		}
		if want := 700 + strings.Count(path, "all"); n != want {
			t.Errorf("%s: %d items, want %d", path, n, want)
		}
	}
}

func TestCollector(t *testing.T) {
	w := newWorld(t)
	reg := prometheus.NewPedanticRegistry()
	w.check(reg.Register(NewCollector(w.ledger, w.heads)))
	expect := func(want string) {
		t.Helper()
		families, err := reg.Gather()
		w.check(err)
		var b strings.Builder
		for _, f := range families {
			m := f.GetMetric()[0]
			fmt.Fprintf(&b, "%s %v\n", strings.TrimPrefix(f.GetName(), "vaultmesh_"), m.GetGauge().GetValue()+m.GetCounter().GetValue())
		}
		if b.String() != want {
			t.Errorf("metrics\n%swant\n%s", b.String(), want)
		}
	}
	expect(`deployments 0
deployments_with_evidence 0
log_sealed_size 0
log_size 0
log_stamped_size 0
log_stopped 0
provenance_coverage_ratio 1
quarantined_total 0
repeats_total 0
`)
	w.deploys(0, 3)
	w.stamp(w.seal())
	w.record("with", "/ci", start, &remembrancer.DeployRecorded{Component: "api", Version: "v1", Evidence: &remembrancer.Evidence{SHA256: digest}})
	w.seal()
	bad := ledger.Message{Subject: "vm.deploy.api.ci", Data: []byte("{")}
	w.fold(bad, bad)
	expect(`deployments 4
deployments_with_evidence 1
log_sealed_size 4
log_size 5
log_stamped_size 3
log_stopped 0
provenance_coverage_ratio 0.25
quarantined_total 1
repeats_total 1
`)
}
