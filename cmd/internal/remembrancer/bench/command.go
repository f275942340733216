package bench

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

// Command returns `bench`, which measures a node with these layers.
func Command(t *term.Term, layers func() []daemon.Layer) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "Measure this machine",
		Args:    cobra.NoArgs,
		Example: "vaultmesh bench ledger --events 100000",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(ledgerCommand(t, layers))
	return cmd
}

func ledgerCommand(t *term.Term, layers func() []daemon.Layer) *cobra.Command {
	o := Options{}
	var dir string
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Measure events from publication to sealed checkpoint and receipt",
		Long: `Bench starts a node of its own in a temporary directory, exactly as up does, and
publishes to it over TCP like any producer: first as fast as possible, then at a
steady rate to measure receipts. In the same run it measures a bare pipeline, the
least that could be done on this disk, so that the ratio means something on a busy
machine.`,
		Example: `vaultmesh bench ledger --events 200000 --size 300
vaultmesh bench ledger --events 1000000 --rate 20000 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			switch {
			case o.Events < 1:
				return term.Errorf(term.Usage, "give --events 1 or more", "--events %d", o.Events)
			case o.Size < 300 || o.Size > 32<<10:
				return term.Errorf(term.Usage, "give --size 300 to 32768", "--size %d", o.Size)
			case o.Rate < 1 || o.Rate > 1_000_000:
				return term.Errorf(term.Usage, "give --rate 1 to 1000000", "--rate %d", o.Rate)
			case o.Seconds < 0 || o.Seconds > 3600:
				return term.Errorf(term.Usage, "give --seconds 0 to 3600", "--seconds %d", o.Seconds)
			}
			if o.Dir, err = os.MkdirTemp(dir, "vaultmesh-bench-"); err != nil {
				return fmt.Errorf("make a directory to measure in: %w", err)
			}
			defer func() {
				if e := os.RemoveAll(o.Dir); err == nil {
					err = e
				}
			}()
			o.Layers = layers()
			bars := map[string]*term.Bar{}
			o.Progress = func(phase string, done, total int) {
				b := bars[phase]
				if b == nil {
					b = t.Steps(phase, int64(total))
					bars[phase] = b
				}
				if b.Set(int64(done), int64(total)); done >= total {
					b.Done()
				}
			}
			res, err := Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return t.Print(res, table(res))
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Events, "events", 200_000, "events to publish as fast as possible")
	f.IntVar(&o.Size, "size", 300, "`BYTES` of an event, about; the smallest is near 400")
	f.IntVar(&o.Rate, "rate", 20_000, "events a second while receipts are measured")
	f.IntVar(&o.Seconds, "seconds", 5, "how long receipts are measured; 0 leaves that out")
	f.BoolVar(&o.NoBaseline, "no-baseline", false, "do not measure the bare pipeline")
	f.StringVar(&dir, "dir", "", "`DIR` on the disk to measure; default: the system's temporary directory")
	return cmd
}

func table(r Result) *term.Table {
	rate := func(v float64) string { return fmt.Sprintf("%.0f/s", v) }
	ms := func(v float64) string { return fmt.Sprintf("%.0f ms", v*1000) }
	return term.NewTable("WHAT", "MEASURED").
		Row("events", fmt.Sprint(r.Events)).
		Row("published", rate(r.PublishedPerSecond)).
		Row("folded", rate(r.FoldedPerSecond)).
		Row("sealed", rate(r.SealedPerSecond)).
		Row("bare pipeline", rate(r.BaselinePerSecond)).
		Row("sealed to bare", fmt.Sprintf("%.2f", r.SealedToBaseline)).
		Row("receipt p50", ms(r.ReceiptP50Seconds)).
		Row("receipt p99", ms(r.ReceiptP99Seconds)).
		Row("receipts at", rate(r.AchievedLatencyRate)).
		Row("peak memory", fmt.Sprintf("%d MiB", r.PeakRSSBytes>>20)).
		Text(r.Settings)
}
