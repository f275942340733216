package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"vaultmesh.cloud/vaultmesh/internal/redact"
)

// Bounds of the HTTP server: with them the memory that strangers can make it use is
// under 100 MiB whatever they send.
const (
	maxBody       = 1 << 20 // of a route that does not say otherwise
	maxHeader     = 32 << 10
	maxConns      = 1024
	maxRequests   = 256 // in flight, streams not counted
	maxStreams    = 256
	headerTimeout = 10 * time.Second
	bodyTimeout   = 60 * time.Second
	writeTimeout  = 30 * time.Second // of one write: a stream may last, a slow reader may not
	idleTimeout   = 2 * time.Minute
)

// A router finds the route of a request and answers 404 and 405 as problems.
type router struct {
	mux    *http.ServeMux
	mu     sync.RWMutex
	routes map[string]*route // by the mux's pattern; guarded by mu
}

type route struct {
	need    Role
	maxBody int64
	handler http.Handler
}

func newRouter() *router { return &router{mux: http.NewServeMux(), routes: map[string]*route{}} }

func (rt *router) add(pattern string, r *route) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.mux.Handle(pattern, r.handler)
	rt.routes[pattern] = r
}

// find returns the route of a request and its pattern; nil and "" if there is none.
func (rt *router) find(r *http.Request) (*route, string) {
	_, pattern := rt.mux.Handler(r)
	rt.mu.RLock()
	defer rt.mu.RUnlock()
	return rt.routes[pattern], pattern
}

// handle mounts a route and documents it.
func (c *core) handle(pattern string, need Role, h http.Handler, doc ...huma.Operation) {
	r := &route{need: need, maxBody: maxBody, handler: h}
	if len(doc) > 0 && doc[0].MaxBodyBytes > 0 {
		r.maxBody = doc[0].MaxBodyBytes
	}
	c.router.add(pattern, r)
	c.document(pattern, need, doc...)
}

// handler is the one chain that every request goes through, over TCP, the socket
// and from this process.
func (c *core) handler(auth *authenticator, hosts hostList) http.Handler {
	var h http.Handler = http.HandlerFunc(c.dispatch)
	h = c.withRole(h)
	h = c.withPrincipal(h, auth)
	h = c.withOrigin(h)
	h = c.withHost(h, hosts)
	h = c.withBody(h)
	h = c.withCall(h)
	return c.withRecovery(h)
}

// withRecovery turns a panic into a 500 and measures the request.
func (c *core) withRecovery(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w, control: http.NewResponseController(w)}
		local, _ := r.Context().Value(localKey{}).(bool)
		cl := &call{id: newRequestID(), node: c, local: local, release: func() {}}
		r = r.WithContext(context.WithValue(r.Context(), callKey{}, cl))
		begin := c.clock()
		defer func() {
			cl.release()
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler { //nolint:errorlint // the value that net/http panics with, as it is
					panic(v)
				}
				c.log.Error("panic in a handler", "request", cl.id, "route", cl.pattern, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				if rec.status == 0 {
					WriteProblem(rec, r, ProblemOf(r.Context(), errors.New("panic")))
				} else {
					defer panic(http.ErrAbortHandler) // half an answer must not look whole
				}
			}
			took := c.clock().Sub(begin)
			c.metrics.observe(r, cl, rec.status, took)
			c.log.Debug("request", "request", cl.id, "method", r.Method, "path", r.URL.Path, "query", redact.Query(r.URL.RawQuery),
				"status", rec.status, "bytes", rec.bytes, "took", took, "principal", cl.principal.Name, "remote", r.RemoteAddr)
		}()
		next.ServeHTTP(rec, r)
	})
}

// withCall gives the request an id and its route, bounds how many are in flight,
// and sets the headers that every answer has unless its handler says otherwise.
func (c *core) withCall(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cl := callOf(r.Context())
		h := w.Header()
		h.Set("X-Request-Id", cl.id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		select {
		case c.slots <- struct{}{}:
			cl.release = sync.OnceFunc(func() { <-c.slots })
		default:
			WriteProblem(w, r, NewProblem(http.StatusServiceUnavailable, "try again", "%d requests are in flight already", maxRequests))
			return
		}
		if rt, pattern := c.router.find(r); rt != nil {
			cl.pattern = pattern
			r = r.WithContext(context.WithValue(r.Context(), routeKey{}, rt))
		}
		next.ServeHTTP(w, r)
	})
}

type routeKey struct{}

func routeOf(r *http.Request) *route {
	rt, _ := r.Context().Value(routeKey{}).(*route)
	return rt
}

// withBody caps the body before anything reads it, in size and in time.
func (c *core) withBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		limit := int64(maxBody)
		if rt := routeOf(r); rt != nil {
			limit = rt.maxBody
		}
		if r.ContentLength > limit {
			w.Header().Set("Connection", "close") // rather than read what nobody wants
			WriteError(w, r, &http.MaxBytesError{Limit: limit})
			return
		}
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // a connection without deadlines is local
		r.Body = &timedBody{http.MaxBytesReader(w, r.Body, limit), rc}
		next.ServeHTTP(w, r)
	})
}

// timedBody takes the deadline away at the end of the body: left standing, it would
// cancel a handler that works for longer.
type timedBody struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// withHost refuses names that are not this node's: a page whose name was rebound to
// 127.0.0.1 still sends its own name.
func (c *core) withHost(next http.Handler, hosts hostList) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !callOf(r.Context()).local && !hosts.allows(r.Host) {
			WriteProblem(w, r, NewProblem(http.StatusForbidden, "use a name that was configured with --host, or 127.0.0.1 on the node's own machine",
				"the Host of the request is not a name of this node"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostList is the names that a Host header may have, in lower case, without ports:
// a forwarded port is another than ours.
type hostList map[string]bool

func newHostList(c Config) hostList {
	hosts := hostList{"localhost": true, "127.0.0.1": true, "::1": true}
	for _, h := range c.Host {
		hosts[strings.ToLower(h)] = true
	}
	if host, _, err := net.SplitHostPort(c.HTTP); err == nil && host != "" {
		if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
			hosts[ip.String()] = true
		}
	}
	return hosts
}

func (l hostList) allows(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	} else {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	}
	return l[strings.ToLower(name)]
}

// withOrigin refuses what a page of another origin makes a browser send. Reading is
// refused too, except that a link may be followed to a page.
func (c *core) withOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !callOf(r.Context()).local && (protection.Check(r) != nil || foreign(r)) {
			WriteProblem(w, r, NewProblem(http.StatusForbidden, "open the node's own address in the browser, or use the command line",
				"the request comes from a page of another origin"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func foreign(r *http.Request) bool {
	if origins := r.Header.Values("Origin"); len(origins) > 0 {
		_, host, _ := strings.Cut(origins[0], "://")
		return len(origins) > 1 || host == "" || !strings.EqualFold(host, r.Host)
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Sec-Fetch-Dest") != "document"
}

// withPrincipal finds out who asks.
func (c *core) withPrincipal(next http.Handler, auth *authenticator) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cl := callOf(r.Context())
		p, problem := auth.authenticate(r, cl.local)
		if problem != nil {
			WriteProblem(w, r, problem)
			return
		}
		cl.principal = p
		next.ServeHTTP(w, r)
	})
}

// withRole asks whether they may.
func (c *core) withRole(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cl, rt := callOf(r.Context()), routeOf(r)
		switch {
		case rt == nil || cl.principal.Role.Meets(rt.need):
			next.ServeHTTP(w, r)
		case cl.principal.Anonymous():
			WriteProblem(w, r, NewProblem(http.StatusUnauthorized, "send a bearer token; creds/ in the data directory has some, vaultmesh creds add makes more",
				"this needs the role %s", rt.need))
		default:
			WriteProblem(w, r, NewProblem(http.StatusForbidden, fmt.Sprintf("use a token with the role %s", rt.need),
				"%s has the role %s, this needs %s", cl.principal.Name, cl.principal.Role, rt.need))
		}
	})
}

// dispatch calls the route's handler by way of the mux, which sets path values.
func (c *core) dispatch(w http.ResponseWriter, r *http.Request) {
	if routeOf(r) != nil {
		c.router.mux.ServeHTTP(w, r)
		return
	}
	h, pattern := c.router.mux.Handler(r)
	if pattern != "" { // a redirect to the clean path
		h.ServeHTTP(w, r)
		return
	}
	probe := &discard{header: http.Header{}}
	h.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		allow := probe.header.Get("Allow")
		w.Header().Set("Allow", allow)
		WriteProblem(w, r, NewProblem(http.StatusMethodNotAllowed, "use one of "+allow, "the method %s is not for this path", clip(r.Method, 16)))
		return
	}
	WriteProblem(w, r, NewProblem(http.StatusNotFound, "GET /openapi.json lists the paths", "nothing is at %s", clip(r.URL.Path, 200)))
}

func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(status int) {
	if d.status == 0 {
		d.status = status
	}
}
func (d *discard) Write(b []byte) (int, error) { d.WriteHeader(http.StatusOK); return len(b), nil }

// recorder remembers the status and gives each write its own deadline, so that an
// answer may last for ever and a reader that stalls may not.
type recorder struct {
	http.ResponseWriter
	control *http.ResponseController
	status  int
	bytes   int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	_ = r.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

// Flush implements http.Flusher for handlers that ask for it by type.
func (r *recorder) Flush() {
	_ = r.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	_ = r.control.Flush()
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Stream tells that the answer to a request is a stream: it no longer counts as a
// request in flight but against the bound for streams. The context ends with the
// client or when the node begins to stop; call done at the end. Each write to w has
// its own deadline, which cuts slow readers off. The error is a *Problem.
func Stream(r *http.Request) (ctx context.Context, done func(), err error) {
	ctx, cancel := context.WithCancel(r.Context())
	cl := callOf(ctx)
	if cl == nil || cl.node == nil {
		return ctx, cancel, nil
	}
	c := cl.node
	select {
	case c.streams <- struct{}{}:
	default:
		cancel()
		return nil, nil, NewProblem(http.StatusServiceUnavailable, "close a stream, or try again", "%d streams are open already", maxStreams)
	}
	cl.streaming = true
	cl.release()
	go func() { // ends with the stream
		select {
		case <-c.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, sync.OnceFunc(func() { cancel(); <-c.streams }), nil
}

// RequireType reports whether the body has one of the media types, and answers 415
// if not.
func RequireType(w http.ResponseWriter, r *http.Request, types ...string) bool {
	got, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	got = strings.ToLower(strings.TrimSpace(got))
	for _, t := range types {
		if got == t {
			return true
		}
	}
	w.Header().Set("Accept-Post", strings.Join(types, ", "))
	WriteProblem(w, r, NewProblem(http.StatusUnsupportedMediaType, "set Content-Type to "+strings.Join(types, " or "),
		"the body's media type is %q", clip(got, 100)))
	return false
}

// WriteJSON answers a request with a value as JSON.
func WriteJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		WriteError(w, r, fmt.Errorf("encode the answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client may be gone
}

func newRequestID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
