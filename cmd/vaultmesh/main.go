// Command vaultmesh runs a node with every layer, and speaks to one.
package main

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	p := newProgram(registered, term.New(stdout, stderr, getenv), stdin)
	return p.term.Run(ctx, p.root, args)
}

// A program is one run of the command line.
type program struct {
	term   *term.Term
	stdin  io.Reader
	root   *cobra.Command
	layers []layer
	clock  func() time.Time
	rand   io.Reader
}

func newProgram(layers []layer, t *term.Term, stdin io.Reader) *program {
	p := &program{term: t, stdin: stdin, layers: layers, clock: time.Now, rand: rand.Reader}
	p.root = &cobra.Command{
		Use:   "vaultmesh",
		Short: "A provenance ledger: what ran, who decided it, and the proof",
		Long: `VaultMesh records what a platform team does as events, seals them into one
append-only log that is signed, time-stamped and witnessed, and proves any of it
to strangers.

A command speaks to the node of --node, else to the one that runs on the data
directory, else it starts one for itself and stops it at the end.

Exit codes: 0 done, 1 failure, 2 wrong command line, 3 not found, 4 verification
failed, 5 conflict, 6 findings, 7 not allowed, 8 unavailable.`,
		Example: `# A node on this machine, and whether it is well
vaultmesh up
vaultmesh doctor`,
	}
	daemon.AddClientFlags(p.root.PersistentFlags())
	p.root.AddCommand(p.upCommand(), p.runCommand(), p.doctorCommand(), p.credsCommand(), p.configCommand(), p.versionCommand())
	for _, l := range layers {
		if l.commands != nil {
			p.root.AddCommand(l.commands(p)...)
		}
	}
	return p
}

// node is the layers' parts of a node, low to high.
func (p *program) node() []daemon.Layer {
	var out []daemon.Layer
	for _, l := range p.layers {
		if l.node != nil {
			out = append(out, l.node())
		}
	}
	return out
}

// config reads the configuration with the flags of a command.
func (p *program) config(cmd *cobra.Command) (daemon.Config, error) {
	c, _, err := daemon.Load(cmd.Flags(), p.term.Getenv)
	return c, err
}

// logger writes to stderr what the level lets through; --quiet keeps warnings.
func (p *program) logger(level string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // a malformed one is reported by the node's start
	if p.term.Quiet() {
		l = max(l, slog.LevelWarn)
	}
	return slog.New(slog.NewTextHandler(p.term.Stderr(), &slog.HandlerOptions{Level: l}))
}
