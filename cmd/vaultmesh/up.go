package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

const (
	startWithin = 2 * time.Minute // opening a large store takes a while
	readyWithin = 10 * time.Second
	stopWithin  = 30 * time.Second
)

func (p *program) upCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a node with its own broker",
		Long: `Up runs a node until SIGTERM or SIGINT: broker, log and HTTP interface, all in the
data directory. It listens on loopback; another address needs TLS and
configured authentication.

When everything works it prints one line with the addresses (with -o json one
object {http, nats, origin, pid}). The same addresses stand in node.json in the
data directory while the node runs, tokens and broker credentials in creds/.

Every flag can be set as VAULTMESH_<FLAG> or in the configuration file; see
vaultmesh config explain.`,
		Example: `# Everything in one process, on free ports
vaultmesh up --data ./data --http 127.0.0.1:0 --nats 127.0.0.1:0

# With a time-stamp authority
vaultmesh up --tsa https://freetsa.org/tsr --tsa-ca freetsa-root.pem

# For other machines
vaultmesh up --http 0.0.0.0:8420 --host ledger.example.org \
  --tls-cert chain.pem --tls-key key.pem \
  --oidc-issuer https://idp.example.org --oidc-audience vaultmesh`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serve(cmd) },
	}
	daemon.AddUpFlags(cmd.Flags())
	return cmd
}

func (p *program) runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run parts of a node on a NATS cluster of others",
		Long: `Run starts the parts of a node that --roles names, on a NATS cluster with
JetStream that somebody else operates. The data directory, HTTP interface and
all other rules are those of vaultmesh up.`,
		Example: `# A node that folds and serves, beside others that seal
vaultmesh run --nats tls://nats-0:4222 --nats tls://nats-1:4222 \
  --creds node.creds --roles fold,serve`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.config(cmd)
			if err != nil {
				return err
			}
			if len(c.Cluster.NATS) == 0 {
				return term.Errorf(term.Usage, "give --nats URL, or use vaultmesh up for a node with its own broker", "no broker is named")
			}
			return p.serve(cmd)
		},
	}
	daemon.AddRunFlags(cmd.Flags())
	return cmd
}

// serve runs a node until the command's context ends.
func (p *program) serve(cmd *cobra.Command) (err error) {
	ctx := cmd.Context()
	c, err := p.config(cmd)
	if err != nil {
		return err
	}
	if cmd.Name() == "up" {
		c.Cluster = daemon.Cluster{} // of run alone, if the file has one
	}
	log := p.logger(c.LogLevel)
	starting, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	node, err := daemon.Start(starting, daemon.Options{Config: c, Layers: p.node(), Listen: true, Logger: log, Clock: p.clock, Rand: p.rand, Version: p.root.Version})
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil // asked to stop while starting, and stopped
		}
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		err = errors.Join(err, node.Stop(stopping))
	}()
	ready, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := node.AwaitReady(ready); err != nil && ctx.Err() == nil {
		log.Warn("listening, but not everything works yet; see /readyz", "err", err)
	}
	if ctx.Err() == nil {
		if err := p.announce(node); err != nil {
			return err
		}
	}
	return node.Wait(ctx)
}

// announce prints the ready line: one line in every form, so that a script can read
// it while the node runs.
func (p *program) announce(node *daemon.Running) error {
	httpURL, natsURL, origin := node.Addresses()
	facts := struct {
		HTTP   string `json:"http"`
		NATS   string `json:"nats"`
		Origin string `json:"origin"`
		PID    int    `json:"pid"`
	}{httpURL, natsURL, origin, os.Getpid()}
	var line []byte
	switch p.term.Format() {
	case term.JSONFormat:
		b, err := json.Marshal(facts)
		if err != nil {
			return err
		}
		line = fmt.Appendf(nil, "%s\n", b)
	case term.YAMLFormat:
		return p.term.Print(facts, nil)
	default:
		line = fmt.Appendf(nil, "vaultmesh is ready: http=%s nats=%s origin=%s\n", httpURL, natsURL, origin)
	}
	if _, err := p.term.Stdout().Write(line); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}
