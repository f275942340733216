package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"vaultmesh.cloud/vaultmesh/events/bus"
)

// echo is a layer with one route for each need and a few odd ones.
func echo() Layer {
	return Layer{Name: "echo", Problems: []Mapping{{errTeapot, http.StatusTeapot, "Teapot", "use a kettle"}},
		Start: func(_ context.Context, n *Node) (func(context.Context) error, error) {
			for _, need := range []Role{Public, Reader, Submitter, Producer, Admin} {
				for _, method := range []string{"GET", "POST"} {
					n.Handle(method+" /v1/"+string(need)+"/{name...}", need, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						b, err := io.ReadAll(r.Body)
						if err != nil {
							WriteError(w, r, err)
							return
						}
						p := PrincipalOf(r.Context())
						WriteJSON(w, r, http.StatusOK, map[string]any{"name": p.Name, "role": p.Role, "producer": p.Producer, "tenant": p.Tenant, "path": r.PathValue("name"), "bytes": len(b)})
					}))
				}
			}
			n.Handle("GET /v1/fails/{how}", Public, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.PathValue("how") {
				case "panic":
					panic("canary-panic")
				case "teapot":
					WriteError(w, r, fmt.Errorf("making tea: %w", errTeapot))
				case "full":
					WriteError(w, r, bus.ErrFull)
				default:
					WriteError(w, r, errors.New("canary-internal"))
				}
			}))
			n.Handle("POST /v1/json", Public, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if RequireType(w, r, "application/json") {
					w.WriteHeader(http.StatusNoContent)
				}
			}))
			n.Handle("GET /v1/stream", Public, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, done, err := Stream(r)
				if err != nil {
					WriteError(w, r, err)
					return
				}
				defer done()
				w.Header().Set("Content-Type", "text/event-stream")
				rc := http.NewResponseController(w)
				for i := 0; ; i++ {
					if _, err := fmt.Fprintf(w, "id: %d\n\n", i); err != nil || rc.Flush() != nil {
						return
					}
					select {
					case <-ctx.Done():
						return
					case <-time.After(20 * time.Millisecond):
					}
				}
			}))
			type in struct {
				Body struct {
					Count int `json:"count" minimum:"1"`
				}
			}
			type out struct {
				Body struct {
					Double int `json:"double"`
				}
			}
			huma.Register(n.API(), huma.Operation{OperationID: "double", Method: "POST", Path: "/v1/double", Metadata: Needs(Producer)},
				func(ctx context.Context, i *in) (*out, error) {
					if i.Body.Count == 13 {
						return nil, ProblemOf(ctx, errTeapot)
					}
					o := &out{}
					o.Body.Double = 2 * i.Body.Count
					return o, nil
				})
			huma.Register(n.API(), huma.Operation{OperationID: "closed", Method: "GET", Path: "/v1/closed"},
				func(context.Context, *struct{}) (*out, error) { return &out{}, nil })
			return nil, nil
		}}
}

var errTeapot = errors.New("short and stout")

func withEcho(o *Options) { o.Layers = []Layer{echo()} }

func token(t *testing.T, c Config, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.Data, CredsDir, name+".token"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// Fault row 28: what a page of another origin can make a browser send is refused, to
// read and to write, with a valid token too.
func TestForeignRequests(t *testing.T) {
	r, c, _ := start(t, withEcho)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(base(r), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	own := "127.0.0.1:" + port
	admin := token(t, c, "admin")
	cases := []struct {
		name   string
		host   string
		header map[string]string
		ok     bool
	}{
		{"own address", own, nil, true},
		{"localhost", "localhost:" + port, nil, true},
		{"v6 loopback", "[::1]:" + port, nil, true},
		{"a forwarded port", "localhost:9999", nil, true},
		{"own origin", own, map[string]string{"Origin": "http://" + own, "Sec-Fetch-Site": "same-origin"}, true},
		{"typed into the browser", own, map[string]string{"Sec-Fetch-Site": "none"}, true},

		{"rebound name", "evil.example:" + port, nil, false},
		{"rebound name, own origin", "evil.example:" + port, map[string]string{"Origin": "http://evil.example:" + port, "Sec-Fetch-Site": "same-origin"}, false},
		{"own name with a suffix", "localhost.evil.example", nil, false},
		{"own name with a dot", "localhost.", nil, false},
		{"another loopback spelling", "127.1:" + port, nil, false},
		{"decimal loopback", "2130706433", nil, false},
		{"mapped loopback", "[::ffff:127.0.0.1]:" + port, nil, false},
		{"every address", "0.0.0.0:" + port, nil, false},
		{"metadata", "169.254.169.254", nil, false},
		{"foreign origin", own, map[string]string{"Origin": "https://evil.example"}, false},
		{"foreign port", own, map[string]string{"Origin": "http://127.0.0.1:1"}, false},
		{"origin null", own, map[string]string{"Origin": "null"}, false},
		{"origin without a host", own, map[string]string{"Origin": "http://"}, false},
		{"cross site", own, map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
		{"same site", own, map[string]string{"Sec-Fetch-Site": "same-site"}, false},
		{"cross site script", own, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, false},
		{"cross site frame", own, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, false},
		{"site lies, origin does not", own, map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, false},
	}
	for _, tc := range cases {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"} {
			for _, path := range []string{"/v1/admin/x", "/v1/public/x", "/health", "/none", "/metrics"} {
				req := request(t, method, base(r)+path, nil)
				req.Host = tc.host
				req.Header.Set("Authorization", "Bearer "+admin)
				for k, v := range tc.header {
					req.Header.Set(k, v)
				}
				resp, b := do(t, req)
				if (resp.StatusCode != http.StatusForbidden) != tc.ok {
					t.Errorf("%s: %s %s: %d %s", tc.name, method, path, resp.StatusCode, b)
				}
				if !tc.ok && (resp.Header.Get("Content-Type") != ProblemType || resp.Header.Get("Access-Control-Allow-Origin") != "") {
					t.Errorf("%s: %s %s: headers %v", tc.name, method, path, resp.Header)
				}
			}
		}
	}
}

// Who may do what, role by role and route by route.
func TestAuthorisation(t *testing.T) {
	r, c, _ := start(t, func(o *Options) {
		withEcho(o)
		file := filepath.Join(t.TempDir(), "tokens.yaml")
		if err := os.WriteFile(file, tenantTokens(), 0o600); err != nil {
			t.Fatal(err)
		}
		o.Config.Tokens = file
	})
	const yes, who, no = 200, 401, 403
	needs := []Role{Public, Reader, Submitter, Producer, Admin}
	for _, tc := range []struct {
		name, token string
		want        [5]int
	}{
		{"nobody", "", [5]int{yes, yes, who, who, who}}, // the node listens on loopback
		{"reader", token(t, c, "reader"), [5]int{yes, yes, no, no, no}},
		{"tenant", "tenant-token", [5]int{yes, no, yes, no, no}},
		{"producer", token(t, c, "producer"), [5]int{yes, yes, no, yes, no}},
		{"admin", token(t, c, "admin"), [5]int{yes, yes, yes, yes, yes}},
		{"unknown", "vm_unknown", [5]int{who, who, who, who, who}},
	} {
		for i, need := range needs {
			for _, method := range []string{"GET", "POST"} {
				req := request(t, method, base(r)+"/v1/"+string(need)+"/x", nil)
				if tc.token != "" {
					req.Header.Set("Authorization", "Bearer "+tc.token)
				}
				resp, b := do(t, req)
				if resp.StatusCode != tc.want[i] {
					t.Errorf("%s, %s needs %s: %d, want %d", tc.name, method, need, resp.StatusCode, tc.want[i])
				}
				if resp.StatusCode == who && resp.Header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s, %s: 401 without a challenge", tc.name, need)
				}
				if resp.StatusCode != yes {
					var p Problem
					if json.Unmarshal(b, &p) != nil || p.Mend == "" || p.Status != resp.StatusCode || p.Instance == "" {
						t.Errorf("%s, %s: problem %s", tc.name, need, b)
					}
				}
			}
		}
	}
	req := request(t, "GET", base(r)+"/v1/producer/x", nil)
	req.Header.Set("Authorization", "bearer "+token(t, c, "producer"))
	if _, b := do(t, req); !strings.Contains(string(b), `"producer":"producer"`) {
		t.Errorf("principal of the producer: %s", b)
	}
	// Operations of huma have needs too; one that names none is for admins.
	for path, want := range map[string]int{"/v1/double": who, "/v1/closed": who} {
		method := map[string]string{"/v1/double": "POST", "/v1/closed": "GET"}[path]
		if resp, _ := do(t, request(t, method, base(r)+path, strings.NewReader(`{"count":1}`))); resp.StatusCode != want {
			t.Errorf("%s without a token: %d", path, resp.StatusCode)
		}
	}
}

func TestProblems(t *testing.T) {
	r, c, log := start(t, withEcho)
	for _, tc := range []struct {
		method, path, body, kind string
		status                   int
		says                     string
		header                   string
	}{
		{"GET", "/none", "", "", 404, "/none", ""},
		{"GET", "/v1/", "", "", 404, "", ""},
		{"POST", "/health", "", "", 405, "POST", "Allow"},
		{"BREW", "/health", "", "", 405, "BREW", "Allow"},
		{"POST", "/v1/json", "x", "text/plain", 415, "text/plain", "Accept-Post"},
		{"POST", "/v1/json", "{}", "application/json; charset=utf-8", 204, "", ""},
		{"GET", "/v1/fails/teapot", "", "", 418, "making tea", ""},
		{"GET", "/v1/fails/full", "", "", 503, "full", "Retry-After"},
		{"GET", "/v1/fails/other", "", "", 500, "log", ""},
		{"GET", "/v1/fails/panic", "", "", 500, "log", ""},
		{"POST", "/v1/double", `{"count":0}`, "application/json", 422, "count", ""},
		{"POST", "/v1/double", `{"count":"canary-value"}`, "application/json", 422, "count", ""},
		{"POST", "/v1/double", `{`, "application/json", 400, "", ""},
		{"POST", "/v1/double", `{"count":13}`, "application/json", 418, "stout", ""},
		{"POST", "/v1/double", `{"count":21}`, "application/json", 200, "42", ""},
		{"POST", "/v1/double", `<a/>`, "application/xml", 415, "", ""},
	} {
		req := request(t, tc.method, base(r)+tc.path, strings.NewReader(tc.body))
		req.Header.Set("Authorization", "Bearer "+token(t, c, "admin"))
		if tc.kind != "" {
			req.Header.Set("Content-Type", tc.kind)
		}
		resp, b := do(t, req)
		if resp.StatusCode != tc.status || !strings.Contains(string(b), tc.says) || tc.header != "" && resp.Header.Get(tc.header) == "" {
			t.Errorf("%s %s %s: %d %s %v", tc.method, tc.path, tc.body, resp.StatusCode, b, resp.Header)
		}
		if resp.StatusCode >= 400 {
			var p Problem
			if resp.Header.Get("Content-Type") != ProblemType || json.Unmarshal(b, &p) != nil || p.Status != tc.status || p.Title == "" || !strings.HasPrefix(p.Type, "urn:") {
				t.Errorf("%s %s: not a problem: %s %s", tc.method, tc.path, resp.Header.Get("Content-Type"), b)
			}
		}
		if strings.Contains(string(b), "canary") {
			t.Errorf("%s %s: the answer shows what it should not: %s", tc.method, tc.path, b)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s %s: headers %v", tc.method, tc.path, resp.Header)
		}
	}
	if s := log.String(); !strings.Contains(s, "canary-internal") || !strings.Contains(s, "canary-panic") {
		t.Error("the log does not have the reasons")
	}
}

// Fault row 12: oversize bodies are refused before they are kept.
func TestOversizeBodies(t *testing.T) {
	r, _, _ := start(t, withEcho)
	chunk := make([]byte, 1<<20)
	for _, known := range []bool{true, false} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		body := io.LimitReader(zeros(chunk), 256<<20)
		req := request(t, "POST", base(r)+"/v1/public/x", body)
		if known {
			req.ContentLength = 256 << 20
		}
		tr := &http.Transport{DisableKeepAlives: true}
		resp, err := tr.RoundTrip(req)
		if err == nil {
			if resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("length known %v: %d", known, resp.StatusCode)
			}
			_ = resp.Body.Close()
		} else if !known { // the server may close while we still send
			t.Logf("length unknown: %v", err)
		}
		tr.CloseIdleConnections()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
			t.Errorf("length known %v: the heap grew by %d MiB", known, grown>>20)
		}
	}
}

type zeros []byte

func (z zeros) Read(p []byte) (int, error) { return copy(p, z), nil }

func TestStreams(t *testing.T) {
	r, _, _ := start(t, withEcho)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(request(t, "GET", base(r)+"/v1/stream", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for range 6 {
		if !lines.Scan() {
			t.Fatal("the stream ended")
		}
	}
	if n := len(r.core.slots); n != 0 {
		t.Errorf("a stream holds %d slots of requests", n)
	}
	begin := time.Now()
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > grace {
		t.Errorf("an open stream delayed the stop by %s", d)
	}
	for lines.Scan() { // ends
	}
	if n := len(r.core.streams); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

func TestBounds(t *testing.T) {
	r, _, _ := start(t, withEcho)
	for range maxRequests {
		r.core.slots <- struct{}{}
	}
	if resp, b := do(t, request(t, "GET", base(r)+"/health", nil)); resp.StatusCode != 503 {
		t.Errorf("beyond the bound: %d %s", resp.StatusCode, b)
	}
	for range maxRequests {
		<-r.core.slots
	}
	do(t, request(t, "GET", base(r)+"/health", nil))
	req := request(t, "GET", base(r)+"/health", nil)
	req.Header.Set("X-Big", strings.Repeat("x", 64<<10))
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	if resp, err := tr.RoundTrip(req); err == nil { // or the connection is reset while we send
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("64 KiB of headers: %d", resp.StatusCode)
		}
	}
	for i := range 50 { // series are bounded by routes, not by what strangers ask
		do(t, request(t, fmt.Sprintf("METHOD%d", i), fmt.Sprintf("%s/path/%d", base(r), i), nil))
	}
	_, b := do(t, request(t, "GET", base(r)+"/metrics", nil))
	if n := strings.Count(string(b), "vaultmesh_http_request_duration_seconds_count"); n > 10 {
		t.Errorf("%d series of requests", n)
	}
	for _, name := range []string{"go_goroutines", "process_open_fds", "vaultmesh_http_streams", `route="/health"`} {
		if !strings.Contains(string(b), name) {
			t.Errorf("/metrics lacks %s", name)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	r, _, _ := start(t, withEcho)
	resp, b := do(t, request(t, "GET", base(r)+"/openapi.json", nil))
	var doc struct {
		OpenAPI    string                               `json:"openapi"`
		Paths      map[string]map[string]map[string]any `json:"paths"`
		Components map[string]any                       `json:"components"`
	}
	if err := json.Unmarshal(b, &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") || resp.Header.Get("Content-Type") != "application/openapi+json" {
		t.Fatalf("%v %s", err, b)
	}
	for path, methods := range map[string][]string{
		"/health": {"get"}, "/readyz": {"get"}, "/metrics": {"get"}, "/v1/node": {"get"}, "/openapi.json": {"get"},
		"/v1/double": {"post"}, "/v1/admin/{name}": {"get", "post"}, "/v1/fails/{how}": {"get"},
	} {
		for _, m := range methods {
			if doc.Paths[path][m] == nil {
				t.Errorf("%s %s is not described", m, path)
			}
		}
	}
	if got := doc.Paths["/v1/double"]["post"]["x-vaultmesh-role"]; got != "producer" {
		t.Errorf("role of /v1/double is %v", got)
	}
	for _, path := range []string{"/docs", "/schemas/Problem", "/openapi.yaml"} {
		if resp, _ := do(t, request(t, "GET", base(r)+path, nil)); resp.StatusCode != 404 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}
