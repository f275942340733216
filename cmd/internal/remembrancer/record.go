package remembrancer

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
)

func recordCommand(d Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "record",
		Short: "Record a deployment, a decision or an incident",
		Long: `Record a fact in the log. A record waits for its receipt, the log's signed
promise that the fact stands in it, and checks it; --no-wait returns at once.`,
		Example: `remembrancer record deploy --component api --version v1.2.0 --evidence api.tar.gz
remembrancer record decision --title "Use NATS" --body decision.md
remembrancer record incident --title "Router down" --severity high`,
	}
	cmd.AddCommand(recordDeployCommand(d), recordDecisionCommand(d), recordIncidentCommand(d))
	return cmd
}

// waiting is the flags that all verbs share which record something.
type waiting struct {
	noWait bool
	within time.Duration
	key    string
}

func (w *waiting) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.noWait, "no-wait", false, "do not wait for the receipt")
	cmd.Flags().DurationVar(&w.within, "wait", time.Minute, "how long to wait for the receipt")
	cmd.Flags().StringVar(&w.key, "idempotency-key", "", "`KEY` that makes a repeat of this command record nothing new")
}

func recordDeployCommand(d Deps) *cobra.Command {
	var w waiting
	var p remembrancer.DeployRecorded
	var evidence, sum string
	var private bool
	cmd := &cobra.Command{
		Use:   "deploy --component NAME --version VERSION",
		Short: "Record that a version was deployed",
		Long: `Record that a version of a component was deployed. The evidence is the file
that was deployed; only its SHA-256, name and size leave this machine.`,
		Example: `remembrancer record deploy --component my-service --version v1.0 --evidence ~/repos/my-service.tar.gz
remembrancer record deploy --component api --version "$GITHUB_SHA" --environment staging --no-wait`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case evidence != "":
				h, size, err := d.hashFile(evidence)
				if err != nil {
					return err
				}
				p.Evidence = &remembrancer.Evidence{SHA256: h.String(), Name: filepath.Base(evidence), Size: size}
			case sum != "":
				p.Evidence = &remembrancer.Evidence{SHA256: sum}
			}
			return d.record(cmd.Context(), "deploy", &p, private, w)
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.Component, "component", "", "what was deployed")
	f.StringVar(&p.Version, "version", "", "which version of it")
	f.StringVar(&p.Environment, "environment", "", "where to, such as staging")
	f.StringVar(&evidence, "evidence", "", "`FILE` that was deployed")
	f.StringVar(&sum, "sha256", "", "the evidence's SHA-256 in `HEX`, if the file is not here")
	f.StringVar(&p.Notes, "notes", "", "free text")
	f.BoolVar(&private, "private", false, "keep the notes out of the log, which then holds a commitment to them")
	w.addFlags(cmd)
	require(cmd, "component", "version")
	cmd.MarkFlagsMutuallyExclusive("evidence", "sha256")
	return cmd
}

func recordDecisionCommand(d Deps) *cobra.Command {
	var w waiting
	var p remembrancer.DecisionRecorded
	var body string
	var private bool
	cmd := &cobra.Command{
		Use:   "decision --title TITLE --body FILE",
		Short: "Record an architectural decision",
		Long: `Record an architectural decision (ADR). The log gives it the next number.
With --private the log holds only a salted commitment to the text, which can be
deleted later while every proof stays valid.`,
		Example: `remembrancer record decision --title "Use NATS JetStream" --body docs/adr/0007.md --tag bus
echo "We chose FastAPI because ..." | remembrancer record decision --title "FastAPI" --body - --supersedes 3`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if p.Body, err = d.readText(body, 4*remembrancer.MaxBody); err != nil {
				return err
			}
			return d.record(cmd.Context(), "decision", &p, private, w)
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.Title, "title", "", "what was decided, in one line")
	f.StringVar(&body, "body", "", "`FILE` with the text, - for standard input")
	f.StringVar(&p.Status, "status", "accepted", "proposed, accepted, rejected, deprecated or superseded")
	f.StringArrayVar(&p.Tags, "tag", nil, "a word to find it by (repeatable)")
	f.Int64SliceVar(&p.Supersedes, "supersedes", nil, "`NUMBER` of a decision that this one replaces (repeatable)")
	f.BoolVar(&private, "private", false, "keep the text out of the log, which then holds a commitment to it")
	w.addFlags(cmd)
	require(cmd, "title", "body")
	return cmd
}

func recordIncidentCommand(d Deps) *cobra.Command {
	var w waiting
	var p remembrancer.IncidentReported
	var body string
	var private bool
	cmd := &cobra.Command{
		Use:   "incident --title TITLE",
		Short: "Record that something went wrong",
		Long:  `Record an incident. --body takes the report, which --private keeps out of the log.`,
		Example: `remembrancer record incident --title "Router down" --severity high --component router
remembrancer record incident --title "Disk full" --body report.md --started-at 2026-01-02T03:04:05Z`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if body != "" {
				if p.Body, err = d.readText(body, 4*remembrancer.MaxBody); err != nil {
					return err
				}
			}
			return d.record(cmd.Context(), "incident", &p, private, w)
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.Title, "title", "", "what happened, in one line")
	f.StringVar(&p.Severity, "severity", "medium", "low, medium, high or critical")
	f.StringVar(&p.Component, "component", "", "what it happened to")
	f.StringVar(&body, "body", "", "`FILE` with the report, - for standard input")
	f.StringVar(&p.StartedAt, "started-at", "", "RFC 3339 `TIME`")
	f.StringVar(&p.EndedAt, "ended-at", "", "RFC 3339 `TIME`")
	f.StringArrayVar(&p.Tags, "tag", nil, "a word to find it by (repeatable)")
	f.BoolVar(&private, "private", false, "keep the report out of the log, which then holds a commitment to it")
	w.addFlags(cmd)
	require(cmd, "title")
	return cmd
}

// require marks flags that a command cannot do without.
func require(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // a misspelt flag in this file
		}
	}
}

// checkPayload says what is wrong with the user's words before anything is sent.
func checkPayload(p events.Payload) error {
	err := p.Check()
	if dec, ok := p.(*remembrancer.DecisionRecorded); ok {
		numbered := *dec
		numbered.Number = 1 // the node gives the real one
		err = numbered.Check()
	}
	return term.As(term.Usage, "", err)
}

// A recordResult is what verbs print that record something.
type recordResult struct {
	ID       events.ID       `json:"id"`
	Type     events.Type     `json:"type"`
	Index    *uint64         `json:"index,omitempty"`
	Sealed   bool            `json:"sealed"`         // true: a receipt was checked
	Size     *uint64         `json:"size,omitempty"` // of the checkpoint
	Root     string          `json:"root,omitempty"` // of the checkpoint, hex
	Origin   string          `json:"origin,omitempty"`
	Payload  json.RawMessage `json:"payload,omitempty"`
	SHA256   string          `json:"sha256,omitempty"`
	Wrote    string          `json:"wrote,omitempty"`    // file
	Signer   string          `json:"signer,omitempty"`   // fingerprint
	GenTime  *time.Time      `json:"gen_time,omitempty"` // of the token
	TSA      string          `json:"tsa,omitempty"`
	Evidence string          `json:"evidence,omitempty"` // SHA-256 of the deployment's file
}

func (d Deps) record(ctx context.Context, what string, p events.Payload, private bool, w waiting) error {
	if err := checkPayload(p); err != nil {
		return err
	}
	body, err := bodyOf(p, private)
	if err != nil {
		return err
	}
	return d.withNode(ctx, func(c *client) error {
		var out recordResult
		if dep, ok := p.(*remembrancer.DeployRecorded); ok && dep.Evidence != nil {
			out.Evidence = dep.Evidence.SHA256
		}
		if err := d.recordAndWait(ctx, c, what, body, w, &out); err != nil {
			return err
		}
		return d.printRecord(out)
	})
}

// bodyOf is the payload's members with the ones that are the node's to give left
// out.
func bodyOf(p events.Payload, private bool) (map[string]any, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", p, err)
	}
	body := map[string]any{}
	if err := json.Unmarshal(b, &body); err != nil {
		return nil, fmt.Errorf("encode %T: %w", p, err)
	}
	if _, ok := p.(*remembrancer.DecisionRecorded); ok {
		delete(body, "number")
	}
	if private {
		body["private"] = true
	}
	return body, nil
}

// recordAndWait posts, waits for the receipt unless told not to, and checks it.
func (d Deps) recordAndWait(ctx context.Context, c *client, what string, body any, w waiting, out *recordResult) error {
	r, err := c.record(ctx, what, body, w.key)
	if err != nil {
		return err
	}
	out.ID, out.Type, out.Index, out.Payload = r.ID, r.Type, r.Index, r.Payload
	if w.noWait {
		return nil
	}
	vkey, err := c.logKey(ctx)
	if err != nil {
		return err
	}
	rec, err := c.waitReceipt(ctx, r, w.within, false)
	if err != nil {
		return err
	}
	p, err := checkReceipt(rec, r.ID, vkey)
	if err != nil {
		return err
	}
	out.Sealed, out.Index, out.Origin = true, &rec.Index, p.head.Origin
	out.Size, out.Root = &p.head.Size, rec.Root
	return nil
}

func (d Deps) printRecord(r recordResult) error {
	t := term.NewTable().Row("id", string(r.ID))
	if n := decisionNumber(r.Payload); n > 0 {
		t.Row("decision", strconv.FormatInt(n, 10))
	}
	row := func(name, value string) {
		if value != "" {
			t.Row(name, value)
		}
	}
	row("sha256", r.SHA256+r.Evidence)
	row("signer", r.Signer)
	if r.GenTime != nil {
		row("stamped", r.GenTime.Format(time.RFC3339))
	}
	row("tsa", r.TSA)
	row("wrote", r.Wrote)
	if r.Index != nil {
		row("index", strconv.FormatUint(*r.Index, 10))
	}
	if r.Sealed {
		row("checkpoint", fmt.Sprintf("%s at %d entries", r.Origin, *r.Size))
		row("receipt", "sealed; inclusion verified")
	} else {
		row("receipt", "not waited for: remembrancer receipt "+string(r.ID))
	}
	return d.Term.Print(r, t)
}

func decisionNumber(payload json.RawMessage) int64 {
	var p struct {
		Number int64 `json:"number"`
	}
	if json.Unmarshal(payload, &p) != nil {
		return 0
	}
	return p.Number
}
