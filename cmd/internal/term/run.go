package term

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"

	"charm.land/fang/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Run executes a command line and returns its exit code. Whatever fails before
// a command's own code runs is the user's command line, so a usage error; a
// command that only groups others refuses to be called alone. Errors are printed
// here and nowhere else.
func (t *Term) Run(ctx context.Context, root *cobra.Command, args []string) int {
	if root.PersistentFlags().Lookup("output") == nil {
		t.AddFlags(root.PersistentFlags())
	}
	if root.Version == "" {
		root.Version = Version()
	}
	t.format = formatIn(args)
	root.SetArgs(args)
	root.SetOut(t.helpWriter(args))
	root.SetErr(t.stderr)
	root.SetFlagErrorFunc(flagError)
	root.SilenceErrors, root.SilenceUsage = true, true
	started := false
	prepare(root, &started)
	var help *cobra.Command
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { help = c })
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil && help != nil {
		err = showHelp(ctx, root, help)
	}
	if err != nil {
		if !started && KindOf(err) == Failure {
			err = As(Usage, seeHelp(cmd), err)
		}
		t.printError(root.Name(), err)
	}
	return ExitCode(err)
}

// showHelp has fang print the help of a command. fang does nothing else here: it
// asks the terminal for its colours, also before it reports an error, and waits
// for an answer that some terminals never give.
func showHelp(ctx context.Context, root, c *cobra.Command) error {
	path := strings.Fields(c.CommandPath())[1:]
	root.SetArgs(append(path, "--help"))
	return fang.Execute(ctx, root, fang.WithoutVersion(), fang.WithoutManpage())
}

// helpWriter hides the terminal from fang if colours are not wanted.
func (t *Term) helpWriter(args []string) io.Writer {
	if t.env("NO_COLOR") != "" || slices.Contains(args, "--no-color") {
		return struct{ io.Writer }{t.stdout}
	}
	return t.stdout
}

// formatIn finds -o before the flags are parsed, so that an error about the
// flags has the wanted form too.
func formatIn(args []string) Format {
	f := TableFormat
	for i, a := range args {
		value, ok := strings.CutPrefix(a, "--output=")
		switch {
		case a == "--":
			return f
		case ok:
		case (a == "-o" || a == "--output") && i+1 < len(args):
			value = args[i+1]
		case strings.HasPrefix(a, "-o"):
			value = strings.TrimPrefix(a[2:], "=")
		default:
			continue
		}
		_ = f.Set(value) // a wrong one is reported when the flags are parsed
	}
	return f
}

// prepare makes groups refuse unknown words, and notes when a command's own code
// starts.
func prepare(c *cobra.Command, started *bool) {
	for _, flags := range []*pflag.FlagSet{c.PersistentFlags(), c.Flags()} {
		// fang prints the quotes that name a flag's value instead of using them.
		flags.VisitAll(func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") })
	}
	if !c.Runnable() {
		c.SuggestionsMinimumDistance = 2 // letters off
		c.Args = cobra.ArbitraryArgs
		c.RunE = group
	} else if run := c.RunE; run != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return run(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		prepare(sub, started)
	}
}

func group(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		mend := seeHelp(cmd)
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			mend = "did you mean " + cmd.CommandPath() + " " + near[0] + "?"
		}
		return Errorf(Usage, mend, "unknown command %q for %q", args[0], cmd.CommandPath())
	}
	if !cmd.HasParent() {
		return cmd.Help()
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return Errorf(Usage, seeHelp(cmd), "%s: say which: %s", cmd.CommandPath(), strings.Join(names, ", "))
}

func seeHelp(cmd *cobra.Command) string { return "see " + cmd.CommandPath() + " --help" }

// flagError adds the nearest flag to the message about an unknown one.
func flagError(cmd *cobra.Command, err error) error {
	mend := seeHelp(cmd)
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		best := 3 // more than two letters off is another word
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if d := distance(unknown.GetSpecifiedName(), f.Name); d < best && !f.Hidden {
				best, mend = d, "did you mean --"+f.Name+"?"
			}
		})
	}
	return As(Usage, mend, fmt.Errorf("%s: %w", cmd.CommandPath(), err))
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// A problem is an error as JSON, in the form of RFC 9457 with the exit code.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Mend   string `json:"mend,omitzero"`
	Exit   int    `json:"exit"`
}

func (t *Term) printError(name string, err error) {
	kind, mend := KindOf(err), MendOf(err)
	if t.format == JSONFormat {
		b, _ := json.Marshal(problem{ // strings and a number cannot fail
			Type:   "urn:vaultmesh:problem:" + strings.ReplaceAll(string(kind), " ", "-"),
			Title:  string(kind),
			Detail: err.Error(),
			Mend:   mend,
			Exit:   ExitCode(err),
		})
		t.line(string(safeJSON(b)))
		return
	}
	text := SafeText(strings.TrimRight(err.Error(), "\n"))
	s := paint(name+": ", red, t.colored(t.stderr)) + strings.ReplaceAll(text, "\n", "\n  ")
	if mend != "" {
		s += "\n  mend: " + Safe(mend)
	}
	t.line(s)
}

// Version returns what the build says about itself.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
