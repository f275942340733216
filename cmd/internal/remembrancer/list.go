package remembrancer

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

// listKinds are the lists that a node has.
var listKinds = []string{"deployments", "decisions", "artifacts", "incidents", "all"}

// span is the flags that narrow a list.
type span struct {
	since, until, component string
	limit                   int
}

func (s *span) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.since, "since", "", "from this `TIME` on: a date or RFC 3339")
	cmd.Flags().StringVar(&s.until, "until", "", "up to this `TIME`; a date includes its whole day")
	cmd.Flags().StringVar(&s.component, "component", "", "of this component only")
	cmd.Flags().IntVar(&s.limit, "limit", 1000, "at most so many, the oldest first; 0 for all")
}

func (s *span) query() (url.Values, error) {
	q := url.Values{}
	for _, f := range []struct {
		name, value string
		end         bool
	}{{"since", s.since, false}, {"until", s.until, true}} {
		if f.value == "" {
			continue
		}
		at, err := parseTime(f.value, f.end)
		if err != nil {
			return nil, term.Errorf(term.Usage, "write 2025-10-01 or 2025-10-01T12:00:00Z", "--%s: %q is no date and no RFC 3339 time", f.name, f.value)
		}
		q.Set(f.name, at.Format(time.RFC3339Nano))
	}
	if s.component != "" {
		q.Set("component", s.component)
	}
	if s.limit < 0 {
		return nil, term.Errorf(term.Usage, "", "--limit: %d is negative", s.limit)
	}
	return q, nil
}

// parseTime reads a day in UTC or a moment; the end of a day is the next one's
// beginning, which the node excludes.
func parseTime(s string, end bool) (time.Time, error) {
	day, err := time.Parse(time.DateOnly, s)
	if err != nil {
		at, err := time.Parse(time.RFC3339Nano, s)
		return at.UTC(), err
	}
	if end {
		day = day.AddDate(0, 0, 1)
	}
	return day, nil
}

var errEnough = errors.New("enough")

// items returns what the node lists, oldest first by leaf index.
func (d Deps) items(ctx context.Context, kind string, s span) ([]item, error) {
	q, err := s.query()
	if err != nil {
		return nil, err
	}
	out := []item{}
	err = d.withNode(ctx, func(c *client) error {
		return c.list(ctx, kind, q, func(it item) error {
			if s.limit > 0 && len(out) == s.limit {
				return errEnough
			}
			out = append(out, it)
			return nil
		})
	})
	if errors.Is(err, errEnough) {
		d.Term.Warn("only the first %d are shown; see --limit, or narrow with --since", s.limit)
		err = nil
	}
	return out, err
}

func listCommand(d Deps) *cobra.Command {
	var s span
	cmd := &cobra.Command{
		Use:   "list [" + strings.Join(listKinds, "|") + "]",
		Short: "List what the log knows",
		Long:  `List deployments, decisions, artifacts, incidents, or all, oldest first.`,
		Example: `remembrancer list deployments
remembrancer list all --since 2025-10-01 -o json`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: listKinds,
		RunE: func(cmd *cobra.Command, args []string) error {
			kind := "all"
			if len(args) == 1 {
				kind = args[0]
			}
			items, err := d.items(cmd.Context(), kind, s)
			if err != nil {
				return err
			}
			t := term.NewTable("index", "time", "kind", "title", "source", "sealed")
			for _, it := range items {
				t.Row(strconv.FormatUint(it.Index, 10), moment(it.Time, time.RFC3339), it.kind(), it.title(), string(it.Source), yesNo(it.Sealed))
			}
			return d.Term.Print(items, t)
		},
	}
	s.addFlags(cmd)
	return cmd
}

func timelineCommand(d Deps) *cobra.Command {
	var s span
	cmd := &cobra.Command{
		Use:   "timeline",
		Short: "Show what happened, day by day",
		Long:  `Show everything in the order of its own time, grouped by day (UTC).`,
		Example: `remembrancer timeline --since 2025-10-01
remembrancer timeline --since 2025-10-01 --until 2025-10-31T12:00:00Z`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := d.items(cmd.Context(), "all", s)
			if err != nil {
				return err
			}
			// Producers' clocks order a timeline; the log's order settles ties.
			slices.SortStableFunc(items, func(a, b item) int {
				return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Index, b.Index))
			})
			t := term.NewTable()
			day := ""
			for i, it := range items {
				if today := moment(it.Time, time.DateOnly); today != day || i == 0 {
					if i > 0 {
						t.Text("")
					}
					day = today
					t.Heading(cmp.Or(day, "no date"))
				}
				t.Row(moment(it.Time, time.TimeOnly), it.kind(), it.title(), "#"+strconv.FormatUint(it.Index, 10))
			}
			return d.Term.Print(items, t)
		},
	}
	s.addFlags(cmd)
	return cmd
}

func moment(at time.Time, layout string) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(layout)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (it item) kind() string { return cmp.Or(it.Kind, it.Type.Name()) }

func (it item) title() string { return cmp.Or(it.Title, it.Subject) }
