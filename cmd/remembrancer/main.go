// Command remembrancer records, signs, time-stamps and proves: the second layer
// of VaultMesh as a program of its own.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/cmd/internal/remembrancer"
	"vaultmesh.cloud/vaultmesh/cmd/internal/remembrancer/node"
	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	t := term.New(stdout, stderr, getenv)
	root := &cobra.Command{
		Use:   "remembrancer",
		Short: "Record, sign, time-stamp and prove what you did",
		Long: `Remembrancer records deployments, decisions and artifacts in an append-only log
that is signed, time-stamped and verifiable by strangers.

A command speaks to the node of --node, else to the one that runs on the data
directory, else it starts one for itself and stops it at the end.`,
		Example: `remembrancer record deploy --component api --version v1.0 --evidence api.tar.gz
remembrancer sign api.tar.gz && remembrancer timestamp api.tar.gz
remembrancer verify-full api.tar.gz`,
	}
	daemon.AddClientFlags(root.PersistentFlags())
	d := remembrancer.Live(t, root, []daemon.Layer{node.Layer()})
	d.Stdin = stdin
	root.AddCommand(remembrancer.Commands(d)...)
	return t.Run(ctx, root, args)
}
