package remembrancer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

func verifyAuditCommand(d Deps) *cobra.Command {
	return &cobra.Command{
		Use:   "verify-audit",
		Short: "Recompute the log from its entries and compare everything",
		Long: `Have the node recompute every leaf, every tile and the root from the stored
entries, and compare them with the stream and with every head it ever signed. If
something differs, it fails with exit code 4 and names the first index.`,
		Example: `remembrancer verify-audit
remembrancer verify-audit -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.withNode(cmd.Context(), func(c *client) error { return d.verifyAudit(cmd.Context(), c) })
		},
	}
}

// auditLine is one line of the node's answer: progress, or the result.
type auditLine struct {
	Phase  string       `json:"phase"`
	Done   int64        `json:"done"`
	Total  int64        `json:"total"`
	Result *auditResult `json:"result"`
}

type auditResult struct {
	OK    bool    `json:"ok"`
	Size  uint64  `json:"size"`
	Root  string  `json:"root"`
	Heads int64   `json:"heads"`
	Index *uint64 `json:"index,omitempty"` // the first that differs
	What  string  `json:"what,omitempty"`
}

// auditSteps names the phases for people.
var auditSteps = map[string]string{
	"store": "recomputing the log", "stream": "comparing the stream", "heads": "comparing signed heads",
}

func (d Deps) verifyAudit(ctx context.Context, c *client) error {
	result, err := d.runAudit(ctx, c)
	if err != nil {
		return err
	}
	t := term.NewTable().Row("size", strconv.FormatUint(result.Size, 10)).Row("root", result.Root).Row("heads", strconv.FormatInt(result.Heads, 10))
	verdict := d.auditVerdict(ctx, c, result)
	if verdict == nil {
		t.Text("").Text("Computed Merkle root matches published root").Text("Audit log integrity verified")
	}
	if err := d.Term.Print(result, t); err != nil {
		return err
	}
	return verdict
}

// auditVerdict adds to the node's word what this machine can check itself: the
// published head is signed and continues the newest one that the user saw.
func (d Deps) auditVerdict(ctx context.Context, c *client, r auditResult) error {
	if !r.OK {
		mend := "keep the data directory as it is and restore from a snapshot or a peer"
		if r.Index != nil {
			return unverified(mend, "index %d: %s", *r.Index, r.What)
		}
		return unverified(mend, "audit failed: %s", r.What)
	}
	if r.Size == 0 {
		return nil
	}
	head, note, vkey, err := c.publishedHead(ctx)
	if err != nil {
		return err
	}
	if head.Size > 0 && head.Size == r.Size && !isRoot(r.Root, head.Root) {
		return unverified("keep the data directory as it is", "the computed root %s is not the published root %x", r.Root, head.Root[:])
	}
	dir, err := d.Dir()
	if err != nil {
		return err
	}
	return c.follow(ctx, dir, vkey, note)
}

// publishedHead fetches the newest checkpoint and checks its signature.
func (c *client) publishedHead(ctx context.Context) (head proof.Checkpoint, note []byte, vkey string, err error) {
	if vkey, err = c.logKey(ctx); err != nil {
		return head, nil, "", err
	}
	if note, err = c.getBytes(ctx, "/checkpoint", proof.MaxCheckpoint); err != nil {
		return head, nil, "", err
	}
	if head, err = proof.OpenCheckpoint(note, vkey); err != nil {
		return head, nil, "", unverified("", "the published checkpoint: %w", err)
	}
	return head, note, vkey, nil
}

// isRoot compares a root in hex or base64.
func isRoot(s string, root proof.Hash) bool {
	return s == root.String() || s == fmt.Sprintf("%x", root[:])
}

// runAudit follows the node's progress to its result.
func (d Deps) runAudit(ctx context.Context, c *client) (auditResult, error) {
	resp, err := c.open(ctx, call{method: http.MethodPost, path: "/v1/audit"})
	if err != nil {
		return auditResult{}, err
	}
	defer resp.Body.Close()
	var bar *term.Bar
	defer func() { bar.Done() }()
	phase := ""
	lines := bufio.NewScanner(io.LimitReader(resp.Body, maxAudit))
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var l auditLine
		if err := decode(lines.Bytes(), &l); err != nil {
			return auditResult{}, fmt.Errorf("audit: the node's answer: %w", err)
		}
		if l.Result != nil {
			return *l.Result, nil
		}
		if l.Phase != phase {
			phase = l.Phase
			bar.Done()
			title := auditSteps[phase]
			if title == "" {
				title = phase
			}
			bar = d.Term.Steps(title, l.Total)
		}
		bar.Set(l.Done, l.Total)
	}
	if ctx.Err() != nil {
		return auditResult{}, context.Cause(ctx)
	}
	return auditResult{}, term.As(term.Unavailable, "look at the node's log, then try again", errors.Join(errors.New("the audit ended without a result"), lines.Err()))
}
