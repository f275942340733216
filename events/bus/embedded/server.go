package embedded

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"vaultmesh.cloud/vaultmesh/events/bus"
)

// Options of a server.
type Options struct {
	Dir       string       // of the store; made with mode 0700
	Addr      string       // to listen on, such as "127.0.0.1:0"; empty serves this process only
	TLS       *tls.Config  // needed unless Addr is a loopback address
	MaxStore  int64        // bytes that all streams may take on disk; 0 is what the server finds free
	MaxMemory int64        // bytes of streams in memory; 0 is 256 MiB
	Name      string       // of the server; empty is "vaultmesh"
	Authority *Authority   // who may say what; nil lets everyone do everything, for tests
	Logger    *slog.Logger // nil discards
	// NoSync leaves writes to the operating system's cache. Only for tests that do
	// not look at durability.
	NoSync bool
}

// A Server is a running NATS server. Its goroutines end with Shutdown.
type Server struct {
	ns   *server.Server
	addr string // "" if it does not listen
	tls  bool
	lock io.Closer
	once sync.Once
}

// maxPayload fits the largest message of the catalogue, receipts of 512 KiB, with
// its headers.
const maxPayload = 1 << 20

// maxControlLine fits the longest CONNECT, which holds the permissions of a reader.
const maxControlLine = 32 << 10

// ErrLocked means that another process uses the store directory; the error names it.
var ErrLocked = bus.ErrLocked

// ErrNotLoopback means that the address needs TLS.
var ErrNotLoopback = errors.New("only a loopback address may be served without TLS")

// Start runs a server and waits until it is ready. Streams of an earlier run of
// the same directory are there again.
func Start(ctx context.Context, o Options) (*Server, error) {
	s, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, o Options) (*Server, error) {
	opts, err := serverOptions(o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := bus.Disk().Lock(filepath.Join(o.Dir, "vaultmesh.lock")) // NATS takes no lock
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, tls: o.TLS != nil}
	s.ns, err = server.NewServer(opts)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	s.ns.SetLoggerV2(&slogger{cmp.Or(o.Logger, slog.New(slog.DiscardHandler))}, false, false, false)
	s.ns.Start()
	if err := s.waitReady(ctx); err != nil {
		s.Shutdown()
		return nil, err
	}
	if !opts.DontListen {
		s.addr = s.ns.Addr().String()
	}
	return s, nil
}

func serverOptions(o Options) (*server.Options, error) {
	opts := &server.Options{
		ServerName: cmp.Or(o.Name, "vaultmesh"), StoreDir: o.Dir,
		JetStream: true, JetStreamMaxMemory: cmp.Or(o.MaxMemory, 256<<20), JetStreamMaxStore: o.MaxStore,
		SyncAlways: !o.NoSync, MaxPayload: maxPayload, MaxControlLine: maxControlLine, WriteDeadline: 10 * time.Second,
		// A slow follower is cut off by the deadline, not by a queue without bound.
		MaxPending: 64 << 20,
		NoSigs:     true, DisableJetStreamBanner: true, DontListen: o.Addr == "",
		// Intake is bounded by the publishers' windows; this is the broker's own bound.
		StreamMaxBufferedMsgs: 20_000, StreamMaxBufferedSize: 128 << 20,
	}
	if o.Dir == "" {
		return nil, errors.New("a store directory is needed")
	}
	if o.Addr != "" {
		host, port, err := net.SplitHostPort(o.Addr)
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port %q: %w", port, err)
		}
		ip, err := netip.ParseAddr(host)
		if loopback := err == nil && ip.IsLoopback(); !loopback && o.TLS == nil {
			return nil, fmt.Errorf("%w: %s", ErrNotLoopback, o.Addr)
		}
		opts.Host, opts.Port = host, int(n)
		if n == 0 {
			opts.Port = server.RANDOM_PORT
		}
	}
	if o.TLS != nil {
		opts.TLSConfig, opts.TLS, opts.TLSTimeout = o.TLS, true, 5
	}
	if a := o.Authority; a != nil {
		resolver := &server.MemAccResolver{}
		for _, acc := range a.accounts {
			if err := resolver.Store(acc.id, acc.token); err != nil {
				return nil, err
			}
		}
		opts.TrustedOperators = []*jwt.OperatorClaims{a.claims}
		opts.SystemAccount, opts.AccountResolver = a.accounts[systemAccount].id, resolver
	}
	return opts, nil
}

func (s *Server) waitReady(ctx context.Context) error {
	const step = 50 * time.Millisecond
	for !s.ns.ReadyForConnections(step) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("not ready: %w", err)
		}
		if !s.ns.Running() {
			return errors.New("it stopped while starting, see its log")
		}
	}
	if !s.ns.JetStreamEnabled() {
		return errors.New("JetStream did not start, see its log")
	}
	return nil
}

// ClientURL returns where clients connect, or "" if the server does not listen.
func (s *Server) ClientURL() string {
	if s.addr == "" {
		return ""
	}
	scheme := "nats"
	if s.tls {
		scheme = "tls"
	}
	return scheme + "://" + s.addr
}

// InProcess returns what bus.Options.Server takes.
func (s *Server) InProcess() nats.InProcessConnProvider { return provider{s.ns} }

// Shutdown stops the server, waits until its streams are on disk, and frees the
// directory. Further calls do nothing.
func (s *Server) Shutdown() {
	s.once.Do(func() {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
		_ = s.lock.Close() // closing frees the lock
	})
}

// slogger writes the server's log to slog.
type slogger struct{ log *slog.Logger }

func (l *slogger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *slogger) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *slogger) Fatalf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *slogger) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *slogger) Debugf(string, ...any)           {}
func (l *slogger) Tracef(string, ...any)           {}
