package remembrancer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// Markers between which publish-root owns the text.
const (
	rootBegin = "<!-- vaultmesh:root -->"
	rootEnd   = "<!-- /vaultmesh:root -->"
)

// maxDocument is the largest document that publish-root edits, in bytes.
const maxDocument = 16 << 20

func publishRootCommand(d Deps) *cobra.Command {
	return &cobra.Command{
		Use:   "publish-root FILE",
		Short: "Write the newest Merkle root into a document",
		Long: `Write the newest checkpoint's root, size and date, and the way to its proof,
between the markers

  ` + rootBegin + `
  ` + rootEnd + `

of a Markdown file. Without markers they are added at its end; without a file it
is created. Nothing else in the file changes, and nothing at all without a new
checkpoint.`,
		Example: "remembrancer publish-root docs/REMEMBRANCER.md",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.withNode(cmd.Context(), func(c *client) error { return d.publishRoot(cmd.Context(), c, args[0]) })
		},
	}
}

// headInfo is what verbs need of GET /v1/checkpoint.
type headInfo struct {
	Checkpoint string    `json:"checkpoint"`
	Time       time.Time `json:"time"` // by the signer's clock
}

func (d Deps) publishRoot(ctx context.Context, c *client, file string) error {
	vkey, err := c.logKey(ctx)
	if err != nil {
		return err
	}
	var info headInfo
	if err := c.get(ctx, "/v1/checkpoint", nil, &info); err != nil {
		return err
	}
	head, err := proof.OpenCheckpoint([]byte(info.Checkpoint), vkey)
	if err != nil {
		return unverified("", "the node's checkpoint: %w", err)
	}
	dir, err := d.Dir()
	if err != nil {
		return err
	}
	if err := c.follow(ctx, dir, vkey, []byte(info.Checkpoint)); err != nil {
		return err
	}
	changed, err := editDocument(file, rootText(head, info.Time, vkey))
	if err != nil {
		return err
	}
	state := "unchanged"
	if changed {
		state = "written"
	}
	root := fmt.Sprintf("%x", head.Root[:])
	return d.Term.Print(struct {
		File    string `json:"file"`
		Changed bool   `json:"changed"`
		Origin  string `json:"origin"`
		Size    uint64 `json:"size"`
		Root    string `json:"root"`
	}{file, changed, head.Origin, head.Size, root},
		term.NewTable().Row("file", file+" ("+state+")").Row("log", head.Origin).Row("size", strconv.FormatUint(head.Size, 10)).Row("root", root))
}

// rootText depends on the checkpoint alone, so that it changes with it alone.
func rootText(head proof.Checkpoint, at time.Time, vkey string) string {
	return fmt.Sprintf(`| Merkle root | %s |
|---|---|
| SHA-256 root | %s |
| entries | %d |
| date | %s |
| log key | %s |
| proof | `+"`GET /v1/checkpoint?size=%d`"+` of the node, or `+"`remembrancer verify-audit`"+` |`,
		cell(head.Origin), cell(fmt.Sprintf("%x", head.Root[:])), head.Size, cell(at.UTC().Format(time.RFC3339)), cell(vkey), head.Size)
}

// cell makes text from outside one plain cell: code, without a way out of it.
func cell(s string) string {
	return "`" + strings.NewReplacer("`", "'", "|", "¦", "<", "‹", ">", "›").Replace(term.Safe(s)) + "`"
}

// editDocument puts text between the markers and reports whether that changed
// the file.
func editDocument(file, text string) (bool, error) {
	perm := fs.FileMode(0o644)
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, fileError(err)
	case !info.Mode().IsRegular():
		return false, term.Errorf(term.Conflict, "name a plain file", "%s is not a regular file", file)
	default:
		perm = info.Mode().Perm()
	}
	old := []byte(nil)
	if info != nil {
		if old, err = readFile(file, maxDocument); err != nil {
			return false, err
		}
	}
	updated, err := between(string(old), text)
	if err != nil {
		return false, term.Errorf(term.Conflict, "repair the markers by hand", "%s: %w", file, err)
	}
	if info != nil && updated == string(old) {
		return false, nil
	}
	return true, writeFile(file, []byte(updated), perm, true)
}

func between(doc, text string) (string, error) {
	block := rootBegin + "\n" + text + "\n" + rootEnd
	begins, ends := strings.Count(doc, rootBegin), strings.Count(doc, rootEnd)
	from, to := strings.Index(doc, rootBegin), strings.Index(doc, rootEnd)
	switch {
	case begins == 0 && ends == 0:
		if doc != "" {
			doc = strings.TrimRight(doc, "\n") + "\n\n"
		}
		return doc + block + "\n", nil
	case begins != 1 || ends != 1 || to < from:
		return "", fmt.Errorf("want one %s and then one %s", rootBegin, rootEnd)
	}
	return doc[:from] + block + doc[to+len(rootEnd):], nil
}
