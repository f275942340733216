package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

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
		s.check, s.takeDir, s.secrets, s.broker, s.connect, s.layers, s.listen,
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

// leastStore is what streams need beside the reserve for a start to make sense.
const leastStore = 16 << 20

// broker is step 5.
func (s *starter) broker(ctx context.Context) error {
	if s.clustered() {
		return nil
	}
	dir := filepath.Join(s.Config.Data, BrokerDir)
	used, err := diskUsed(dir)
	if err != nil {
		return err
	}
	free, err := diskFree(dir)
	if err != nil {
		return err
	}
	if used == 0 && free < int64(s.Config.Reserve)+leastStore {
		return term.Errorf(term.Failure, "free some space, or give a smaller --reserve",
			"%s has %s free, less than the reserve of %s", dir, sizeText(free), s.Config.Reserve)
	}
	addr := ""
	if s.Listen {
		addr = literal(s.Config.NATS)
		if err := probe("--nats", addr); err != nil {
			return err
		}
	}
	s.server, err = embedded.Start(ctx, embedded.Options{
		Dir: dir, Addr: addr, TLS: s.tls, Authority: s.authority, Logger: s.Logger.With("part", "broker"), NoSync: s.NoSync,
		// What bounds the disk is each stream's own limit, see streamShare. The
		// server's counts what streams are allowed, not what they hold.
		MaxStore: used + free + fixedStreams(),
	})
	if err != nil {
		return err
	}
	s.did("broker", func(context.Context) error { s.server.Shutdown(); return nil })
	return nil
}

// fixedStreams is the disk that streams with limits of their own may take.
func fixedStreams() (sum int64) {
	for _, st := range events.Streams(1) {
		if !st.Memory {
			sum += st.MaxBytes
		}
	}
	return sum
}

// streamShare divides the disk less the reserve among the streams that keep
// everything. A limit below what a stream holds stops intake and loses nothing,
// because these streams discard new messages.
func streamShare(used, free, reserve int64) func(events.Stream) int64 {
	logs := max(used+free-reserve-min(fixedStreams(), (used+free)/4), 1<<20)
	return func(st events.Stream) int64 {
		switch {
		case !st.Log:
			return 0
		case st.Name == events.HeadsStream || st.Name == events.SealsStream:
			return max(logs/20, 1<<20)
		}
		return max(logs/10*9, 1<<20)
	}
}

// probe says which flag is wrong before the broker only logs that it cannot listen.
func probe(flag, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return listenError(flag, addr, err)
	}
	return l.Close()
}

func listenError(flag, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return term.As(term.Conflict, fmt.Sprintf("stop who uses it, or choose another address: %s 127.0.0.1:0 picks a free port", flag),
			fmt.Errorf("%s %s is in use", flag, addr))
	}
	return term.As(term.Failure, "choose an address of this machine with "+flag, fmt.Errorf("%s %s: %w", flag, addr, err))
}

// connect is step 6.
func (s *starter) connect(ctx context.Context) error {
	o := bus.Options{Name: "node", Logger: s.Logger.With("part", "bus")}
	place := bus.Place{Replicas: 1}
	if s.clustered() {
		o.URLs, o.CredsFile, o.CAFile = s.Config.Cluster.NATS, s.Config.Cluster.Creds, s.Config.Cluster.CA
		place.Replicas = s.Config.Cluster.Replicas
	} else {
		creds, err := s.authority.Issue(embedded.Grant{Name: "node", Role: embedded.Node})
		if err != nil {
			return err
		}
		o.Server, o.Creds = s.server.InProcess(), creds
		dir := filepath.Join(s.Config.Data, BrokerDir)
		used, err := diskUsed(dir)
		if err != nil {
			return err
		}
		free, err := diskFree(dir)
		if err != nil {
			return err
		}
		place.MaxBytes = streamShare(used, free, int64(s.Config.Reserve))
	}
	var err error
	if s.conn, err = bus.Connect(ctx, o); err != nil {
		return term.As(term.Unavailable, "see vaultmesh doctor, and --nats and --creds if the broker is another's", err)
	}
	s.did("bus", func(context.Context) error { s.conn.Close(); return nil })
	if _, err := bus.EnsureStreams(ctx, s.conn, events.Streams(1), place); err != nil {
		return err
	}
	return nil
}

// layers is step 7.
func (s *starter) layers(ctx context.Context) error {
	var definitions [][]events.Definition
	var problems []Mapping
	for _, l := range s.Layers {
		definitions = append(definitions, l.Definitions)
		problems = append(problems, l.Problems...)
	}
	registry, err := events.NewRegistry(definitions...)
	if err != nil {
		return err
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
		Dir: s.Config.Data, Config: s.Config, Registry: registry, Conn: s.conn, Authority: s.authority, Blobs: blobs,
		Metrics: s.registry, Clock: s.Clock, Rand: s.Rand, Listens: s.Listen, core: c,
	}
	s.node.Ready("broker", func(context.Context) error {
		if !s.conn.NATS().IsConnected() {
			return bus.ErrUnavailable
		}
		return nil
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

// listen is steps 8 and 9.
func (s *starter) listen(ctx context.Context) error {
	c, r := s.r.core, s.r
	oidc, err := newOIDC(s.Config.OIDC, s.Clock)
	if err != nil {
		return term.As(term.Usage, "correct --oidc-issuer", err)
	}
	s.did("oidc", func(context.Context) error { oidc.close(); return nil })
	auth := &authenticator{
		dir: filepath.Join(s.Config.Data, CredsDir), file: s.Config.Tokens, anonymous: Reader,
		oidc: oidc, limits: newLimits(), metrics: c.metrics, clock: s.Clock, log: s.Logger.With("part", "auth"),
	}
	if open, err := notLoopback("--http", s.Config.HTTP); s.Listen && (err != nil || open) {
		auth.anonymous = Public
	}
	if s.Config.PublicLog {
		s.Logger.Debug("the log's entries are readable by everybody")
	}
	handler := c.handler(auth, newHostList(s.Config))
	if !s.Listen {
		r.pipes = newPipes()
		return s.serve("in-process", r.pipes, handler, nil, true)
	}
	tcp, err := net.Listen("tcp", literal(s.Config.HTTP))
	if err != nil {
		return listenError("--http", s.Config.HTTP, err)
	}
	scheme := "http"
	if s.tls != nil {
		scheme = "https"
	}
	c.mu.Lock()
	c.addrs = addresses{HTTP: scheme + "://" + tcp.Addr().String(), PID: os.Getpid()}
	if s.clustered() {
		c.addrs.NATS = s.Config.Cluster.NATS[0]
	} else {
		c.addrs.NATS = s.server.ClientURL()
	}
	c.addrs.Origin = c.origin
	r.addrs = c.addrs
	c.mu.Unlock()
	if err := s.serve("http", netutil.LimitListener(tcp, maxConns), handler, s.tls, false); err != nil {
		return err
	}
	socket, err := listenSocket(s.Config.Data)
	if err != nil {
		return err
	}
	s.did("socket file", func(context.Context) error { return removeIfThere(filepath.Join(s.Config.Data, SocketFile)) })
	if err := s.serve("socket", netutil.LimitListener(socket, maxConns), handler, nil, true); err != nil {
		return err
	}
	b, err := json.Marshal(r.addrs)
	if err != nil {
		return err
	}
	path := filepath.Join(s.Config.Data, NodeFile)
	if err := WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return err
	}
	s.did("node.json", func(context.Context) error { return removeIfThere(path) })
	return nil
}

// serve answers requests of a listener until the node stops.
func (s *starter) serve(name string, l net.Listener, h http.Handler, secure *tls.Config, local bool) error {
	base, cancel := context.WithCancel(context.Background())
	if local {
		base = asLocal(base)
	}
	srv := &http.Server{
		Handler: h, TLSConfig: secure, BaseContext: func(net.Listener) context.Context { return base },
		// Bodies and writes have deadlines of their own, see withBody and recorder:
		// one for the whole connection would cut streams.
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.Logger.With("part", name).Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() { // ends when the server is shut down
		defer close(done)
		var err error
		if secure != nil {
			err = srv.ServeTLS(l, "", "")
		} else {
			err = srv.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.r.failed <- fmt.Errorf("%s: %w", name, err)
		}
	}()
	s.did(name, func(ctx context.Context) error {
		ctx, stopWaiting := context.WithTimeout(ctx, grace)
		defer stopWaiting()
		err := srv.Shutdown(ctx)
		cancel() // what did not finish in time is told now
		if errors.Is(err, context.DeadlineExceeded) {
			s.Logger.Warn("requests were cut off", "part", name)
			err = nil
		}
		err = errors.Join(err, srv.Close())
		<-done
		return err
	})
	return nil
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
		ok, checks := r.core.ready(ctx)
		if ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			_, checks = r.core.ready(context.WithoutCancel(ctx))
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
