package daemon

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/net/netutil"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

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
