package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/embedded"
)

// A Layer is what one layer adds to a node. cmd/vaultmesh/layer_*.go builds the list.
type Layer struct {
	Name        string
	Definitions []events.Definition
	Roles       []string  // names that `run --roles` accepts
	Problems    []Mapping // how the layer's errors look over HTTP
	// Start runs the layer's part on a node whose bus is connected: it opens
	// stores, mounts routes and starts goroutines with n.Go. Its context lives as
	// long as the layer runs. The returned function, which may be nil, is called
	// when HTTP has stopped and the layer's n.Go functions have returned, in
	// reverse order of start. It is called only if Start returned no error.
	Start func(ctx context.Context, n *Node) (stop func(context.Context) error, err error)
}

// ErrFatal ends a supervised function for good; the node stays unready.
var ErrFatal = errors.New("cannot go on without help")

// A Node is what a layer sees of the node it runs on. Its fields are set before
// layers start and do not change.
type Node struct {
	Dir       string // the data directory
	Config    Config
	Registry  *events.Registry
	Conn      *bus.Conn           // as the node itself
	Authority *embedded.Authority // nil on a broker of others
	Blobs     *bus.Blobs
	Logger    *slog.Logger
	Metrics   *prometheus.Registry
	Clock     func() time.Time
	Rand      io.Reader
	Listens   bool // false in a command's own process: no TCP, no socket

	core  *core
	scope *scope
}

// core is what all layers' views of a node share.
type core struct {
	log      *slog.Logger
	clock    func() time.Time
	mappings []Mapping
	started  time.Time
	version  string
	roles    []string // that run here, sorted
	router   *router
	api      huma.API
	stopping chan struct{} // closed when the node begins to stop

	mu      sync.Mutex
	origin  string                                 // guarded by mu
	addrs   addresses                              // guarded by mu
	checks  map[string]func(context.Context) error // guarded by mu
	info    []namedInfo                            // guarded by mu
	running atomic.Bool                            // all layers have started
	metrics *httpMetrics
	slots   chan struct{} // one per request in flight
	streams chan struct{} // one per stream
}

type namedInfo struct {
	name string
	get  func() any
}

// A scope is the goroutines of one layer.
type scope struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newScope(ctx context.Context) *scope {
	ctx, cancel := context.WithCancel(ctx)
	return &scope{ctx: ctx, cancel: cancel}
}

func (s *scope) end() {
	s.cancel()
	s.wg.Wait()
}

// HasRole reports whether this node runs the role.
func (n *Node) HasRole(role string) bool { return slices.Contains(n.core.roles, role) }

// SetOrigin says the name of this node's log.
func (n *Node) SetOrigin(origin string) {
	n.core.mu.Lock()
	defer n.core.mu.Unlock()
	n.core.origin = origin
}

// Origin returns the name of this node's log.
func (n *Node) Origin() string {
	n.core.mu.Lock()
	defer n.core.mu.Unlock()
	return n.core.origin
}

// Ready adds a check to /readyz. It is called with a short deadline and must not
// block beyond it.
func (n *Node) Ready(name string, check func(context.Context) error) {
	n.core.mu.Lock()
	defer n.core.mu.Unlock()
	n.core.checks[name] = check
}

// Info adds a field to /v1/node. Under the name "" the value is a map[string]any,
// whose entries are the fields; nil adds nothing.
func (n *Node) Info(name string, get func() any) {
	n.core.mu.Lock()
	defer n.core.mu.Unlock()
	n.core.info = append(n.core.info, namedInfo{name, get})
}

// Handle mounts a handler at a pattern of http.ServeMux with a method, such as
// "GET /v1/things/{id}". Principals whose role does not meet the need get 401 or
// 403. An operation documents the route, and its MaxBodyBytes replaces the cap of
// 1 MiB. Call it from Start only.
func (n *Node) Handle(pattern string, need Role, h http.Handler, doc ...huma.Operation) {
	n.core.handle(pattern, need, h, doc...)
}

// API returns the huma API of the node, for operations with typed bodies. Who may
// call one is in its metadata, see [Needs]; without, only admins may. Return errors
// through [ProblemOf].
func (n *Node) API() huma.API { return n.core.api }

// Needs is the metadata of an operation of n.API that needs a role.
func Needs(r Role) map[string]any { return map[string]any{needKey: r} }

const needKey = "need"

// Backoff of supervised functions.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 30 * time.Second
	calmAfter    = time.Minute // a function that ran so long starts from firstBackoff
)

// Go runs fn until the layer stops, and again if it fails: the node is unready
// meanwhile, and waits longer each time, with jitter. An error that wraps ErrFatal
// ends it for good. A function that returns nil is done.
func (n *Node) Go(name string, fn func(context.Context) error) {
	h := &health{}
	n.Ready(name, func(context.Context) error { return h.get() })
	s, log := n.scope, n.Logger.With("part", name)
	s.wg.Go(func() {
		wait := firstBackoff
		for {
			begin, attempt := n.Clock(), h.attempt()
			// A function that failed is taken to work again only after it has run
			// for as long as it last waited.
			settled := time.AfterFunc(wait, func() { h.settle(attempt) })
			err := protect(s.ctx, fn)
			settled.Stop()
			if s.ctx.Err() != nil {
				if err != nil && !errors.Is(err, context.Canceled) {
					log.Warn("failed while stopping", "err", err)
				}
				return
			}
			h.set(err)
			switch {
			case err == nil:
				return
			case errors.Is(err, ErrFatal):
				log.Error("stopped for good; the node stays unready", "err", err)
				return
			}
			if n.Clock().Sub(begin) > calmAfter {
				wait = firstBackoff
			}
			pause := wait/2 + rand.N(wait/2)
			log.Warn("failed; starting it again", "err", err, "in", pause)
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(pause):
			}
			wait = min(2*wait, lastBackoff)
		}
	})
}

// health is the last error of a supervised function.
type health struct {
	mu       sync.Mutex
	last     error
	attempts int
}

func (h *health) get() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func (h *health) attempt() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts++
	return h.attempts
}

func (h *health) set(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = err
	h.attempts++ // a timer that fires late no longer counts
}

func (h *health) settle(attempt int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.attempts == attempt {
		h.last = nil
	}
}

// protect turns a panic into an error, so that one part does not take the log down.
func protect(ctx context.Context, fn func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return fn(ctx)
}

// ready runs all checks at once and returns what each says.
func (c *core) ready(ctx context.Context) (bool, map[string]string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c.mu.Lock()
	checks := make(map[string]func(context.Context) error, len(c.checks))
	for name, check := range c.checks {
		checks[name] = check
	}
	c.mu.Unlock()
	out := map[string]string{"started": "ok"}
	all := true
	if !c.running.Load() {
		out["started"], all = "layers are starting", false
	}
	type answer struct {
		name string
		err  error
	}
	answers := make(chan answer, len(checks))
	for name, check := range checks {
		go func() { answers <- answer{name, protect(ctx, check)} }() // ends with the check
	}
	for range len(checks) {
		select {
		case a := <-answers:
			if out[a.name] = "ok"; a.err != nil {
				out[a.name], all = a.err.Error(), false
			}
			delete(checks, a.name)
		case <-ctx.Done():
			for name := range checks {
				out[name] = "no answer in time"
			}
			return false, out
		}
	}
	return all, out
}
