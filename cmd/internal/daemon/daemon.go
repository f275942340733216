package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/embedded"
)

// Options of a node.
type Options struct {
	Config Config
	Layers []Layer
	// Listen opens TCP addresses and the socket. Without it the node serves only
	// this process, by Running.Dial.
	Listen  bool
	Logger  *slog.Logger     // nil discards
	Clock   func() time.Time // nil is time.Now
	Rand    io.Reader        // nil is crypto/rand
	Version string
	// NoSync leaves the broker's writes to the operating system. Only for tests
	// that do not look at durability.
	NoSync bool
	// DiskFree returns the bytes that may still be written below dir; nil asks the
	// system.
	DiskFree func(dir string) (int64, error)
}

// grace is how long requests in flight, and then each layer, may take to stop.
const grace = 5 * time.Second

// Running is a node that was started.
type Running struct {
	core   *core
	addrs  addresses
	pipes  *pipes
	ending []step // in order of start
	failed chan error
	once   sync.Once
	err    error // of Stop, set once
}

// A step is what Stop undoes of one step of Start.
type step struct {
	name string
	stop func(context.Context) error
}

// Start runs a node until Stop. On an error everything that was started is stopped
// again. The context bounds the start, not the node's life.
func Start(ctx context.Context, o Options) (*Running, error) {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.DiskFree == nil {
		o.DiskFree = diskFree
	}
	s := &starter{Options: o, r: &Running{failed: make(chan error, 8)}}
	if err := s.start(ctx); err != nil {
		// A start that failed is undone in full, whatever ended the context.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*grace)
		defer cancel()
		return nil, errors.Join(err, s.r.Stop(undo))
	}
	return s.r, nil
}

// A starter holds what the steps of one start hand to each other.
type starter struct {
	Options
	r         *Running
	types     *events.Registry
	tls       *tls.Config
	authority *embedded.Authority
	server    *embedded.Server
	conn      *bus.Conn
	registry  *prometheus.Registry
	node      *Node
}

func (s *starter) did(name string, stop func(context.Context) error) {
	s.r.ending = append(s.r.ending, step{name, stop})
}

// start follows this order, each step guarding against a fault:
//
//  1. Configuration, before anything is touched: a node that would listen to
//     strangers without authentication never starts.
//  2. Data directory with its permissions: secrets that others can read are
//     nobody's secrets.
//  3. Lock: two nodes on one directory destroy it. Everything after this may
//     assume that it is alone, and that node.json and node.sock are stale.
//  4. Tokens and credentials, complete before anybody can ask to use them.
//  5. Broker, with synced writes and a bound below the disk's: an acknowledged
//     event survives power loss, and a full disk stops intake before it breaks
//     a store.
//  6. Connection and streams: a stream with other promises is refused before a
//     layer relies on it.
//  7. Layers, low to high: they find what they build on.
//  8. Socket and HTTP, after the layers: no request meets half a node.
//  9. node.json last: who finds it finds every address in it bound.
func (s *starter) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.check, s.takeDir, s.free, s.secrets, s.broker, s.connect, s.layers, s.listen,
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// check is step 1.
func (s *starter) check(context.Context) (err error) {
	if s.Listen {
		if err := s.Config.Check(); err != nil {
			return err
		}
		if s.Config.Tokens != "" {
			if _, err := tokenFile(s.Config.Tokens); err != nil {
				return term.As(term.Usage, "correct the file, or leave out --tokens", err)
			}
		}
	}
	for name := range s.Config.Layers {
		if !slices.ContainsFunc(s.Layers, func(l Layer) bool { return l.Name == name }) {
			return term.Errorf(term.Usage, "remove it from the configuration file", "layers.%s is the configuration of no layer of this program", name)
		}
	}
	known := s.knownRoles()
	for _, role := range s.Config.Cluster.Roles {
		if !slices.Contains(known, role) {
			return term.Errorf(term.Usage, fmt.Sprintf("choose from %v", known), "--roles: no layer of this program has the role %q", role)
		}
	}
	var definitions [][]events.Definition
	for _, l := range s.Layers {
		definitions = append(definitions, l.Definitions)
	}
	if s.types, err = events.NewRegistry(definitions...); err != nil {
		return err
	}
	s.tls, err = newTLS(s.Config, s.Clock, s.Logger)
	return err
}

func (s *starter) knownRoles() []string {
	var roles []string
	for _, l := range s.Layers {
		roles = append(roles, l.Roles...)
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// takeDir is steps 2 and 3.
func (s *starter) takeDir(context.Context) error {
	dir := s.Config.Data
	if err := openDir(dir); err != nil {
		return err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	s.did("lock", func(context.Context) error { return lock.Close() })
	if err := removeIfThere(filepath.Join(dir, NodeFile)); err != nil {
		return err
	}
	return removeIfThere(filepath.Join(dir, SocketFile))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *starter) clustered() bool { return len(s.Config.Cluster.NATS) > 0 }

// secrets is step 4.
func (s *starter) secrets(context.Context) (err error) {
	if !s.clustered() {
		s.authority, err = embedded.OpenAuthority(filepath.Join(s.Config.Data, authorityDir), embedded.AuthorityOptions{Now: s.Clock})
		if err != nil {
			return err
		}
	}
	return ensureCreds(filepath.Join(s.Config.Data, CredsDir), s.authority, s.Rand)
}

// layers is step 7.
func (s *starter) layers(ctx context.Context) error {
	var problems []Mapping
	for _, l := range s.Layers {
		problems = append(problems, l.Problems...)
	}
	roles := s.Config.Cluster.Roles
	if len(roles) == 0 {
		roles = s.knownRoles()
	}
	blobs, err := bus.OpenBlobs(filepath.Join(s.Config.Data, BlobsDir), nil, 0)
	if err != nil {
		return err
	}
	s.registry = prometheus.NewRegistry()
	c := &core{
		log: s.Logger, clock: s.Clock, mappings: append(problems, mappings...), started: s.Clock(), version: cmp.Or(s.Version, "(devel)"),
		roles: append([]string{}, roles...), router: newRouter(), stopping: make(chan struct{}),
		origin: cmp.Or(s.Config.Name, DefaultOrigin()), checks: map[string]func(context.Context) error{},
		slots: make(chan struct{}, maxRequests), streams: make(chan struct{}, maxStreams),
	}
	slices.Sort(c.roles)
	c.metrics = newMetrics(s.registry, func() float64 { return float64(len(c.streams)) })
	c.api = newAPI(c)
	c.baseRoutes(s.registry)
	s.r.core = c
	s.node = &Node{
		Dir: s.Config.Data, Config: s.Config, Registry: s.types, Conn: s.conn, Authority: s.authority, Blobs: blobs,
		Metrics: s.registry, Clock: s.Clock, Rand: s.Rand, Listens: s.Listen, core: c,
	}
	s.node.Ready("broker", func(ctx context.Context) error {
		if !s.conn.NATS().IsConnected() {
			return bus.ErrUnavailable
		}
		// After an error of the disk the server goes on without JetStream.
		_, err := s.conn.JetStream().AccountInfo(ctx)
		return err
	})
	for _, l := range s.Layers {
		if err := s.startLayer(ctx, l); err != nil {
			return fmt.Errorf("start layer %s: %w", l.Name, err)
		}
	}
	c.running.Store(true)
	return nil
}

func (s *starter) startLayer(ctx context.Context, l Layer) error {
	n := *s.node
	n.scope = newScope(context.WithoutCancel(ctx))
	n.Logger = s.Logger.With("layer", l.Name)
	abandon := context.AfterFunc(ctx, n.scope.cancel) // while it starts
	defer abandon()
	var stop func(context.Context) error
	s.did("layer "+l.Name, func(ctx context.Context) error {
		n.scope.end()
		if stop == nil {
			return nil
		}
		return stop(ctx)
	})
	if l.Start == nil {
		return nil
	}
	var err error
	stop, err = l.Start(n.scope.ctx, &n)
	return err
}

// Addresses returns where the node is: base URLs of HTTP and NATS and the log's
// origin; the URLs are "" in a command's own process.
func (r *Running) Addresses() (httpURL, natsURL, origin string) {
	r.core.mu.Lock()
	defer r.core.mu.Unlock()
	return r.core.addrs.HTTP, r.core.addrs.NATS, r.core.origin
}

// AwaitReady waits until every check passes, and returns what does not when the
// context ends.
func (r *Running) AwaitReady(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, _ := r.core.ready(ctx); ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			_, checks := r.core.ready(context.WithoutCancel(ctx))
			var errs []error
			for name, says := range checks {
				if says != "ok" {
					errs = append(errs, fmt.Errorf("%s: %s", name, says))
				}
			}
			return term.As(term.Unavailable, "see the node's log", fmt.Errorf("not ready: %w", errors.Join(errs...)))
		}
	}
}

// Wait returns when the context ends, with nil, or a listener fails.
func (r *Running) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-r.failed:
		return err
	}
}

// Stop undoes the start in reverse order: first nobody finds the node, then requests
// end, then layers, broker and lock. Further calls return the first one's error.
func (r *Running) Stop(ctx context.Context) error {
	r.once.Do(func() {
		if r.core != nil {
			close(r.core.stopping) // streams end, so that the servers can
		}
		var errs []error
		for _, step := range slices.Backward(r.ending) {
			if err := step.stop(ctx); err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", step.name, err))
			}
		}
		r.err = errors.Join(errs...)
	})
	return r.err
}

// sizeText is a size as people read it.
func sizeText(n int64) string {
	for i := 3; i >= 0; i-- {
		if u := units[i]; n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
