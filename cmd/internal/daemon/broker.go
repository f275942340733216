package daemon

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"syscall"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/embedded"
)

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
	free, err := s.DiskFree(dir)
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
	}
	s.server, err = embedded.Start(ctx, embedded.Options{
		Dir: dir, Addr: addr, TLS: s.tls, Authority: s.authority, Logger: s.Logger.With("part", "broker"), NoSync: s.NoSync,
		// What bounds the disk is each stream's own limit, see streamShare. The
		// server's counts what streams are allowed, not what they hold: with less
		// disk free than at the last start it would refuse to load them.
		MaxStore: math.MaxInt64 / 2,
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

// free says which flag is wrong before anything is started, and before the broker
// only logs that it cannot listen.
func (s *starter) free(context.Context) error {
	if !s.Listen {
		return nil
	}
	if err := probe("--http", literal(s.Config.HTTP)); err != nil || s.clustered() {
		return err
	}
	return probe("--nats", literal(s.Config.NATS))
}

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
		free, err := s.DiskFree(dir)
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
