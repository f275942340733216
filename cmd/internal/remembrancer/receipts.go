package remembrancer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events"
)

func receiptCommand(d Deps) *cobra.Command {
	var source string
	var wait time.Duration
	var stamped bool
	cmd := &cobra.Command{
		Use:   "receipt EVENT-ID",
		Short: "Show and verify the receipt of an event",
		Long: `Show the receipt of an event: where it stands in the log, and the checkpoint
that seals it. The receipt is verified with the log's key before it is shown.
With -o json it is the whole receipt, which anyone can verify again.`,
		Example: `remembrancer receipt 0199d3b2-7c1e-7a52-9d1f-0c1f6f1f2a3b
remembrancer receipt 0199d3b2-7c1e-7a52-9d1f-0c1f6f1f2a3b --stamped --wait 1m -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.withNode(cmd.Context(), func(c *client) error {
				return d.showReceipt(cmd.Context(), c, events.ID(args[0]), events.Source(source), wait, stamped)
			})
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "the event's source, if two have the same id")
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait if it is not there yet")
	cmd.Flags().BoolVar(&stamped, "stamped", false, "want a checkpoint with a time-stamp token")
	cmd.AddCommand(receiptExportCommand(d))
	return cmd
}

func (d Deps) showReceipt(ctx context.Context, c *client, id events.ID, source events.Source, wait time.Duration, stamped bool) error {
	vkey, err := c.logKey(ctx)
	if err != nil {
		return err
	}
	var r receipt
	if wait > 0 {
		r, err = c.waitReceipt(ctx, recorded{ID: id, Source: source}, wait, stamped)
	} else {
		r, err = c.receipt(ctx, id, source, 0, stamped)
	}
	if err != nil {
		return err
	}
	p, err := checkReceipt(r, id, vkey)
	if err != nil {
		return err
	}
	dir, err := d.Dir()
	if err != nil {
		return err
	}
	if r.Latest != nil {
		if err := c.follow(ctx, dir, vkey, []byte(r.Latest.Checkpoint)); err != nil {
			return err
		}
	}
	t := term.NewTable().
		Row("id", string(id)).
		Row("type", string(p.event.Type)).
		Row("source", string(p.event.Source)).
		Row("subject", p.event.Subject).
		Row("index", strconv.FormatUint(r.Index, 10)).
		Row("leaf", r.LeafHash).
		Row("log", r.Origin).
		Row("checkpoint", fmt.Sprintf("%d entries, root %s", p.head.Size, r.Root)).
		Row("newest", fmt.Sprintf("%d entries, consistent", p.newest.Size))
	if r.GenTime != nil {
		t.Row("stamped", r.GenTime.Format(time.RFC3339)+" by "+r.TSA)
	} else {
		t.Row("stamped", "not yet")
	}
	t.Row("receipt", "verified")
	return d.Term.Print(json.RawMessage(r.raw), t)
}

func receiptExportCommand(d Deps) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "export --dir DIR",
		Short: "Write the receipt of every record into a folder",
		Long: `Write receipts as files: DIR/deploy, DIR/adr, DIR/artifact, DIR/incident and
DIR/federation. A run adds what is new and replaces a receipt once, when its
checkpoint has a time-stamp; everything else stays as it is. Each receipt is
verified before it is written.`,
		Example: "remembrancer receipt export --dir receipts/",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.withNode(cmd.Context(), func(c *client) error { return d.exportReceipts(cmd.Context(), c, dir) })
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "receipts", "folder to write into")
	return cmd
}

// receiptFolders maps an event's domain to its folder.
var receiptFolders = map[events.Domain]string{
	"deploy": "deploy", "decision": "adr", "artifact": "artifact", "incident": "incident", "federation": "federation",
}

// exported is what receipt export prints.
type exported struct {
	Dir       string `json:"dir"`
	Written   int    `json:"written"`
	Unchanged int    `json:"unchanged"`
	Pending   int    `json:"pending"` // not sealed yet
}

func (d Deps) exportReceipts(ctx context.Context, c *client, dir string) error {
	vkey, err := c.logKey(ctx)
	if err != nil {
		return err
	}
	out := exported{Dir: dir}
	err = c.list(ctx, "all", url.Values{}, func(it item) error {
		folder, ok := receiptFolders[it.Type.Domain()]
		if !ok {
			return nil
		}
		file := filepath.Join(dir, folder, receiptName(it))
		state, err := d.exportReceipt(ctx, c, it, file, vkey)
		switch {
		case term.KindOf(err) == term.NotFound || term.KindOf(err) == term.Unavailable && ctx.Err() == nil:
			out.Pending++
			return nil
		case err != nil:
			return err
		case state:
			out.Written++
		default:
			out.Unchanged++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if out.Pending > 0 {
		d.Term.Warn("%d records are not sealed yet; run this again", out.Pending)
	}
	return d.Term.Print(out, term.NewTable().Row("dir", dir).Row("written", strconv.Itoa(out.Written)).
		Row("unchanged", strconv.Itoa(out.Unchanged)).Row("pending", strconv.Itoa(out.Pending)))
}

// receiptName has the leaf index at its end, so that no two records share a file
// whatever they are called.
func receiptName(it item) string {
	var p struct {
		Number    int64  `json:"number"`
		Component string `json:"component"`
		Version   string `json:"version"`
		Title     string `json:"title"`
	}
	name := it.Subject
	if json.Unmarshal(it.Detail, &p) == nil {
		switch it.Type.Domain() {
		case "decision":
			name = fmt.Sprintf("%04d-%s", p.Number, p.Title)
		case "deploy":
			name = p.Component + "-" + p.Version
		case "incident":
			name = p.Title
		case "artifact":
			name = it.Subject + "-" + strings.TrimPrefix(it.Type.Name(), "artifact.")
		}
	}
	return safeName(name) + "-" + strconv.FormatUint(it.Index, 10) + ".json"
}

// exportReceipt writes one file and reports whether it changed.
func (d Deps) exportReceipt(ctx context.Context, c *client, it item, file, vkey string) (bool, error) {
	if old, err := readBeside(file, maxAnswer); err != nil {
		return false, err
	} else if old != nil {
		var r receipt
		if decode(old, &r) == nil && r.EventID == it.ID && len(r.Token) > 0 {
			return false, nil // it is final
		}
	}
	r, err := c.receipt(ctx, it.ID, it.Source, 0, true)
	if k := term.KindOf(err); k == term.NotFound || k == term.Unavailable {
		r, err = c.receipt(ctx, it.ID, it.Source, 0, false)
	}
	if err != nil {
		return false, err
	}
	if _, err := checkReceipt(r, it.ID, vkey); err != nil {
		return false, err
	}
	// The newest head is another one each time; the receipt holds without it.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(r.raw, &members); err != nil {
		return false, err
	}
	delete(members, "latest")
	b, err := json.MarshalIndent(members, "", "  ")
	if err != nil {
		return false, err
	}
	b = append(b, '\n')
	if old, err := readBeside(file, maxAnswer); err == nil && bytes.Equal(old, b) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // receipts are for everyone
		return false, fileError(err)
	}
	return true, writeFile(file, b, 0o644, true)
}
