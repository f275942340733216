package remembrancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
)

func adrCommand(d Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "adr",
		Short: "Read architectural decisions",
		Long:  `Read the decisions that record decision wrote.`,
		Example: `remembrancer adr list
remembrancer adr show 7`,
	}
	var s span
	list := &cobra.Command{
		Use: "list", Short: "List the decisions", Long: "List the decisions by number.", Args: cobra.NoArgs,
		Example: "remembrancer adr list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := d.items(cmd.Context(), "decisions", s)
			if err != nil {
				return err
			}
			t := term.NewTable("number", "date", "status", "title", "tags")
			for _, it := range items {
				var p remembrancer.DecisionRecorded
				_ = json.Unmarshal(it.Detail, &p) // what does not decode shows as empty
				t.Row(strconv.FormatInt(p.Number, 10), moment(it.Time, time.DateOnly), p.Status, it.title(), strings.Join(p.Tags, ", "))
			}
			return d.Term.Print(items, t)
		},
	}
	s.addFlags(list)
	show := &cobra.Command{
		Use: "show NUMBER", Short: "Show a decision", Long: "Show a decision with its text.", Args: cobra.ExactArgs(1),
		Example: "remembrancer adr show 7",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || n < 1 {
				return term.Errorf(term.Usage, "give a number such as 7", "%q is no decision's number", args[0])
			}
			return d.withNode(cmd.Context(), func(c *client) error { return d.showDecision(cmd.Context(), c, n) })
		},
	}
	cmd.AddCommand(list, show)
	return cmd
}

// decision is what adr show prints.
type decision struct {
	remembrancer.DecisionRecorded
	ID    events.ID     `json:"id"`
	Index uint64        `json:"index"`
	Time  time.Time     `json:"time,omitzero"`
	By    events.Source `json:"source"`
	Text  string        `json:"text"` // "public", "private" (shown), "withheld" or "redacted"
}

func (d Deps) showDecision(ctx context.Context, c *client, n int64) error {
	var out decision
	err := c.list(ctx, "decisions", url.Values{}, func(it item) error {
		var p remembrancer.DecisionRecorded
		if json.Unmarshal(it.Detail, &p) == nil && p.Number == n {
			out = decision{p, it.ID, it.Index, it.Time, it.Source, "public"}
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if out.Number == 0 {
		return term.Errorf(term.NotFound, "remembrancer adr list shows the numbers", "no decision %d", n)
	}
	if out.Body == "" {
		if out.Body, out.Text, err = c.privateText(ctx, out.ID, out.By, "body"); err != nil {
			return err
		}
	}
	t := term.NewTable().Row("decision", strconv.FormatInt(n, 10)).Row("title", out.Title).Row("status", out.Status)
	if len(out.Tags) > 0 {
		t.Row("tags", strings.Join(out.Tags, ", "))
	}
	if len(out.Supersedes) > 0 {
		t.Row("supersedes", strings.Trim(fmt.Sprint(out.Supersedes), "[]"))
	}
	t.Row("time", moment(out.Time, time.RFC3339)).Row("by", string(out.By)).Row("index", strconv.FormatUint(out.Index, 10)).Row("text", out.Text).Text("")
	for line := range strings.SplitSeq(strings.TrimRight(out.Body, "\n"), "\n") {
		t.Text(strings.TrimSuffix(line, "\r"))
	}
	return d.Term.Print(out, t)
}

// privateText asks for text that the log only commits to, and checks that it is
// that text.
func (c *client) privateText(ctx context.Context, id events.ID, source events.Source, field string) (text, state string, err error) {
	var answer struct {
		Event json.RawMessage `json:"event"`
	}
	if err := c.get(ctx, "/v1/events/"+url.PathEscape(string(id)), url.Values{"source": {string(source)}}, &answer); err != nil {
		return "", "", err
	}
	e, _, err := events.Parse(answer.Event)
	if err != nil {
		return "", "", unverified("", "event %s: %w", id, err)
	}
	if e.Private == "" {
		return "", "public", nil
	}
	var p events.Private
	err = c.get(ctx, "/v1/private/"+url.PathEscape(e.Private), nil, &p)
	switch term.KindOf(err) {
	case term.NotFound:
		return "", "redacted", nil
	case term.NotAllowed:
		return "", "withheld", nil
	case "":
	default:
		return "", "", err
	}
	if err := p.Open(e.Private); err != nil {
		return "", "", unverified("", "event %s: %w", id, err)
	}
	return p.Fields[field], "private", nil
}
