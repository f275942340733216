package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/cmd/internal/remembrancer"
	"vaultmesh.cloud/vaultmesh/cmd/internal/remembrancer/bench"
	"vaultmesh.cloud/vaultmesh/cmd/internal/remembrancer/node"
	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
)

var _ = register(layer{
	rank: 2,
	node: node.Layer,
	checks: func(p *program) []daemon.Check {
		return node.Checks(p.clock)
	},
	commands: func(p *program) []*cobra.Command {
		d := remembrancer.Live(p.term, p.root, p.node())
		d.Stdin = p.stdin
		group := &cobra.Command{
			Use:     "remembrancer",
			Short:   "Record, sign, time-stamp and prove what you did",
			Example: "vaultmesh remembrancer record deploy --component api --version v1.0",
			RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		}
		group.AddCommand(remembrancer.Commands(d)...)
		return []*cobra.Command{group, p.ledgerCommand(), bench.Command(p.term, p.node)}
	},
})

func (p *program) ledgerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ledger",
		Short:   "Look after the ledger's store",
		Example: "vaultmesh ledger rebuild",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "rebuild",
		Short: "Make the ledger anew from the stream of events",
		Long: `Rebuild folds the stream of events into a new directory, compares it leaf by leaf
with the old ledger if that can be opened, and swaps the two; the old one stays
beside it as ledger.old. Nothing is swapped if they differ. Stop the node first.`,
		Example: `vaultmesh ledger rebuild
vaultmesh ledger rebuild --data /var/lib/vaultmesh -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.rebuild(cmd) },
	})
	return cmd
}

// rebuilt is what rebuild prints.
type rebuilt struct {
	Size     uint64 `json:"size"`     // leaves
	Root     string `json:"root"`     // base64
	Position string `json:"position"` // of the last message folded
}

func (p *program) rebuild(cmd *cobra.Command) (err error) {
	c, err := p.config(cmd)
	if err != nil {
		return err
	}
	var bar *term.Bar
	var head ledger.Head
	layer := node.RebuildLayer(func(done, total uint64) {
		if bar == nil {
			bar = p.term.Steps("fold", int64(total))
		}
		bar.Set(int64(done), int64(total))
	}, func(h ledger.Head) { head = h })
	running, err := daemon.Start(cmd.Context(), daemon.Options{Config: c, Layers: []daemon.Layer{layer}, Logger: slog.New(slog.DiscardHandler)})
	bar.Done()
	var d *ledger.Divergence
	if errors.As(err, &d) {
		return term.As(term.Unverified, "keep both: the old ledger is in place, the new one in ledger.new; run `remembrancer verify-audit` to see which one the checkpoints confirm", err)
	}
	if err != nil {
		return err
	}
	if err := running.Stop(context.WithoutCancel(cmd.Context())); err != nil {
		return fmt.Errorf("stop after rebuilding: %w", err)
	}
	r := rebuilt{head.Size, head.Root.String(), head.Position.String()}
	return p.term.Print(r, term.NewTable("SIZE", "ROOT", "POSITION").Row(fmt.Sprint(r.Size), r.Root, r.Position))
}
