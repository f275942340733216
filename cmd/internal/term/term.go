package term

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
	xterm "golang.org/x/term"
)

// A Format is the form of the data on stdout.
type Format string

// The formats of -o.
const (
	TableFormat Format = "table"
	JSONFormat  Format = "json"
	YAMLFormat  Format = "yaml"
)

// A Term is the two outputs of one command run. Its methods are safe for
// concurrent use once the flags are parsed.
type Term struct {
	stdout, stderr io.Writer
	env            func(string) string // os.Getenv, or a test's
	format         Format
	quiet          bool // --quiet: no notes, no progress; warnings and errors stay
	noColor        bool

	mu sync.Mutex // one line at a time
}

// New returns a Term. A nil env knows no variables.
func New(stdout, stderr io.Writer, env func(string) string) *Term {
	if env == nil {
		env = func(string) string { return "" }
	}
	return &Term{stdout: stdout, stderr: stderr, env: env, format: TableFormat}
}

// AddFlags adds -o, --quiet and --no-color.
func (t *Term) AddFlags(flags *pflag.FlagSet) {
	flags.VarP(&t.format, "output", "o", "form of the data: table, json or yaml")
	flags.BoolVarP(&t.quiet, "quiet", "q", false, "print data and errors only")
	flags.BoolVar(&t.noColor, "no-color", false, "no colours (also NO_COLOR)")
}

// String implements pflag.Value.
func (f *Format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *Format) Type() string { return "FORMAT" }

// Set implements pflag.Value.
func (f *Format) Set(s string) error {
	switch Format(s) {
	case TableFormat, JSONFormat, YAMLFormat:
		*f = Format(s)
		return nil
	}
	return fmt.Errorf("use table, json or yaml")
}

// Format returns the form that the user asked for.
func (t *Term) Format() Format { return t.format }

// Quiet reports whether the user asked for data only.
func (t *Term) Quiet() bool { return t.quiet }

// Stdout is for data that is neither table nor object, such as a key file.
func (t *Term) Stdout() io.Writer { return t.stdout }

// Stderr is for everything else.
func (t *Term) Stderr() io.Writer { return t.stderr }

// Getenv reads the environment that the Term was made with.
func (t *Term) Getenv(name string) string { return t.env(name) }

// Interactive reports whether a person watches stderr, so that progress helps.
func (t *Term) Interactive() bool { return !t.quiet && isTerminal(t.stderr) && t.env("TERM") != "dumb" }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && xterm.IsTerminal(int(f.Fd()))
}

func (t *Term) colored(w io.Writer) bool {
	return !t.noColor && t.env("NO_COLOR") == "" && t.env("TERM") != "dumb" && isTerminal(w)
}

// Print writes data to stdout: v as JSON or YAML, or else the table. The JSON
// form is one object or one array; its field names are an interface.
func (t *Term) Print(v any, table *Table) error {
	var out []byte
	var err error
	switch t.format {
	case JSONFormat:
		out, err = toJSON(v)
	case YAMLFormat:
		out, err = toYAML(v)
	default:
		out = table.render(t.colored(t.stdout))
	}
	if err != nil {
		return fmt.Errorf("print as %s: %w", t.format, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.stdout.Write(out); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}

func toJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return safeJSON(b.Bytes()), nil
}

// toYAML goes by way of JSON, so that both forms have the same names and order.
func toYAML(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var n yaml.Node
	b = escapeHostile(b, false)
	if err := yaml.Unmarshal(b, &n); err != nil {
		return nil, err
	}
	block(&n)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&n); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return escapeHostile(out.Bytes(), true), nil
}

// block turns JSON's flow style into YAML's usual one. Strings with characters
// that a terminal might obey stay in double quotes, where they are escaped.
func block(n *yaml.Node) {
	oneLine := strings.ReplaceAll(n.Value, "\n", "")
	if n.Kind != yaml.ScalarNode || Safe(oneLine) == oneLine {
		n.Style = 0
	}
	for _, c := range n.Content {
		block(c)
	}
}

// Note tells a person what happens. --quiet hides it.
func (t *Term) Note(format string, args ...any) {
	if !t.quiet {
		t.line(Safe(fmt.Sprintf(format, args...)))
	}
}

// Warn tells a person what they should know.
func (t *Term) Warn(format string, args ...any) {
	t.line(paint("warning: ", yellow, t.colored(t.stderr)) + Safe(fmt.Sprintf(format, args...)))
}

// line writes one line to stderr; nobody could be told if that fails.
func (t *Term) line(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintln(t.stderr, s)
}
