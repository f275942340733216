package daemon

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// baseRoutes mounts what every node answers.
func (c *core) baseRoutes(registry *prometheus.Registry) {
	c.handle("GET /health", Public, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		WriteJSON(w, r, http.StatusOK, map[string]string{"status": "ok"})
	}), huma.Operation{Summary: "Whether the process answers", Tags: []string{"node"}})
	c.handle("GET /readyz", Public, http.HandlerFunc(c.serveReady),
		huma.Operation{Summary: "Whether every part of the node works; readers see why one does not", Tags: []string{"node"}})
	c.handle("GET /metrics", Reader, promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry, MaxRequestsInFlight: 4, Timeout: 20 * time.Second}),
		huma.Operation{Summary: "Metrics for Prometheus", Tags: []string{"node"}})
	c.handle("GET /openapi.json", Reader, http.HandlerFunc(c.serveOpenAPI),
		huma.Operation{Summary: "This description", Tags: []string{"node"}})
	c.handle("GET /v1/node", Reader, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		WriteJSON(w, r, http.StatusOK, c.describe())
	}), huma.Operation{Summary: "What this node is: origin, addresses, roles, log and keys", Tags: []string{"node"}})
}

func (c *core) serveReady(w http.ResponseWriter, r *http.Request) {
	ok, checks := c.ready(r.Context())
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	if !PrincipalOf(r.Context()).Role.Meets(Reader) {
		for name, says := range checks { // reasons may name paths and addresses
			if says != "ok" {
				checks[name] = "failing"
			}
		}
	}
	WriteJSON(w, r, status, map[string]any{"ready": ok, "checks": checks})
}

// describe joins what the layers know about the node.
func (c *core) describe() map[string]any {
	c.mu.Lock()
	out := map[string]any{
		"origin": c.origin, "version": c.version, "go": runtime.Version(), "roles": c.roles,
		"http": c.addrs.HTTP, "nats": c.addrs.NATS, "started_at": c.started.UTC().Format(time.RFC3339Nano),
	}
	info := c.info
	c.mu.Unlock()
	for _, i := range info {
		switch v := i.get().(type) {
		case nil:
		case map[string]any:
			if i.name != "" {
				out[i.name] = v
				continue
			}
			for name, field := range v {
				out[name] = field
			}
		default:
			out[i.name] = v
		}
	}
	return out
}

// adapter mounts huma's operations on the node's own router, so that they go through
// the same chain as all routes.
type adapter struct{ core *core }

func (a *adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	need, ok := op.Metadata[needKey].(Role)
	if !ok {
		need = Admin
	}
	r := &route{need: need, maxBody: maxBody, handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler(humago.NewContext(op, r, w))
	})}
	if op.MaxBodyBytes > 0 {
		r.maxBody = op.MaxBodyBytes
	}
	a.core.router.add(op.Method+" "+op.Path, r)
	secure(op, need)
}

func (a *adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.core.router.mux.ServeHTTP(w, r)
}

var problemType = reflect.TypeFor[Problem]()

const bearer = "bearer"

func newAPI(c *core) huma.API {
	config := huma.DefaultConfig("VaultMesh node", c.version)
	config.Info.Description = "A provenance ledger. Errors are problems (RFC 9457) with a member mend that says what to do."
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil // the default one links schemas, which are not served
	config.Transformers = []huma.Transformer{transform}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		bearer: {Type: "http", Scheme: "bearer", Description: "A static token or a JWT. Reading needs none while the node listens on loopback only."},
	}
	return huma.NewAPI(config, &adapter{c})
}

// secure says in the document who may call an operation.
func secure(op *huma.Operation, need Role) {
	if need != Public && op.Security == nil {
		op.Security = []map[string][]string{{bearer: {string(need)}}}
	}
	if op.Extensions == nil {
		op.Extensions = map[string]any{}
	}
	op.Extensions["x-vaultmesh-role"] = string(need)
}

// document adds a plain route to the OpenAPI document.
func (c *core) document(pattern string, need Role, doc ...huma.Operation) {
	method, path, ok := strings.Cut(pattern, " ")
	if !ok {
		return // a pattern without a method is a subtree of something else, such as MCP
	}
	var op huma.Operation
	if len(doc) > 0 {
		op = doc[0]
	}
	if op.Hidden {
		return
	}
	op.Method = method
	op.Path = strings.NewReplacer("...}", "}", "{$}", "").Replace(path)
	if op.OperationID == "" {
		op.OperationID = strings.ToLower(method) + strings.Map(func(r rune) rune {
			if strings.ContainsRune("{}/.", r) {
				return '-'
			}
			return r
		}, op.Path)
	}
	for name := range strings.SplitSeq(op.Path, "{") {
		name, _, inside := strings.Cut(name, "}")
		if inside && !hasParam(op, name) {
			op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "path", Required: true, Schema: &huma.Schema{Type: "string"}})
		}
	}
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{"200": {Description: "OK"}}
	}
	if op.Responses["default"] == nil {
		op.Responses["default"] = &huma.Response{Description: "A problem", Content: map[string]*huma.MediaType{
			ProblemType: {Schema: c.api.OpenAPI().Components.Schemas.Schema(problemType, true, "Problem")},
		}}
	}
	secure(&op, need)
	c.api.OpenAPI().AddOperation(&op)
}

func hasParam(op huma.Operation, name string) bool {
	for _, p := range op.Parameters {
		if p.Name == name {
			return true
		}
	}
	return false
}

func (c *core) serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	b, err := json.Marshal(c.api.OpenAPI())
	if err != nil {
		WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = w.Write(b) // the client may be gone
}

// httpMetrics counts requests by route, never by path: the number of series is
// bounded by the routes.
type httpMetrics struct {
	duration *prometheus.HistogramVec
	failures prometheus.Counter
}

func newMetrics(registry *prometheus.Registry, streams func() float64) *httpMetrics {
	m := &httpMetrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "vaultmesh_http_request_duration_seconds", Help: "Time to answer a request, streams not counted.",
			Buckets:                     []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 30},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, []string{"method", "route", "code"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vaultmesh_http_authentication_failures_total", Help: "Requests with a token that is not accepted.",
		}),
	}
	registry.MustRegister(m.duration, m.failures,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vaultmesh_http_streams", Help: "Event streams that are open."}, streams))
	return m
}

func (m *httpMetrics) observe(r *http.Request, cl *call, status int, took time.Duration) {
	if cl.streaming {
		return
	}
	method, route := r.Method, "other"
	if cl.pattern != "" {
		_, path, ok := strings.Cut(cl.pattern, " ")
		if route = path; !ok {
			route = cl.pattern
		}
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions:
	default:
		method = "other"
	}
	if status == 0 {
		status = http.StatusOK
	}
	m.duration.WithLabelValues(method, route, code(status)).Observe(took.Seconds())
}

func code(status int) string { return string([]byte{byte('0' + status/100%10), 'x', 'x'}) }

type localKey struct{}

// asLocal marks what comes over a listener that only this user can reach.
func asLocal(ctx context.Context) context.Context {
	return context.WithValue(ctx, localKey{}, true)
}
