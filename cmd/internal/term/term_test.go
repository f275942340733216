package term

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

func tree(t *Term) *cobra.Command {
	root := &cobra.Command{Use: "tool", Short: "a tool"}
	record := &cobra.Command{Use: "record", Short: "record things"}
	deploy := &cobra.Command{
		Use: "deploy", Short: "record a deployment", Args: cobra.NoArgs, Example: "tool record deploy --component api",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _ := cmd.Flags().GetString("component")
			if c == "gone" {
				return Errorf(NotFound, "look again", "no component %q", c)
			}
			return t.Print(map[string]string{"component": c}, NewTable().Row("component", c))
		},
	}
	deploy.Flags().String("component", "", "its `NAME`")
	_ = deploy.MarkFlagRequired("component")
	plain := &cobra.Command{Use: "plain", Short: "fails", RunE: func(*cobra.Command, []string) error { return errors.New("boom") }}
	record.AddCommand(deploy)
	root.AddCommand(record, plain)
	return root
}

func run(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	t := New(&out, &err, nil)
	code = t.Run(context.Background(), tree(t), args)
	return code, out.String(), err.String()
}

func TestRun(t *testing.T) {
	tests := []struct {
		args   string
		code   int
		stdout string // all of it, unless it begins with "~": then a part
		stderr string
	}{
		{"record deploy --component api", 0, "component  api\n", ""},
		{"record deploy --component api -o json", 0, "{\n  \"component\": \"api\"\n}\n", ""},
		{"record deploy --component api -oyaml", 0, "component: api\n", ""},
		{"record deploy --component gone", 3, "", "tool: no component \"gone\"\n  mend: look again\n"},
		{"plain", 1, "", "tool: boom\n"},
		{"record", 2, "", "tool: tool record: say which: deploy\n  mend: see tool record --help\n"},
		{"recrod", 2, "", "tool: unknown command \"recrod\" for \"tool\"\n  mend: did you mean tool record?\n"},
		{"record deplyo", 2, "", "tool: unknown command \"deplyo\" for \"tool record\"\n  mend: did you mean tool record deploy?\n"},
		{"record deploy --componet x", 2, "", "tool: tool record deploy: unknown flag: --componet\n  mend: did you mean --component?\n"},
		{"record deploy", 2, "", "~required flag"},
		{"record deploy --component a b", 2, "", "~mend: see tool record deploy --help"},
		{"record deploy --component a -o xml", 2, "", "~use table, json or yaml"},
		{"record deploy --nope -o json", 2, "", `~"type":"urn:vaultmesh:problem:usage"`},
		{"record deploy --help", 0, "~tool record deploy --component api", ""},
		{"record deploy --help ", 0, "~Its NAME", ""},
		{"--version", 0, "~tool version", ""},
		{"completion bash", 0, "~bash completion", ""},
		{"", 0, "~a tool", ""},
	}
	match := func(t *testing.T, name, got, want string) {
		t.Helper()
		if part, ok := strings.CutPrefix(want, "~"); ok {
			if !strings.Contains(got, part) {
				t.Errorf("%s = %q, want %q in it", name, got, part)
			}
		} else if got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			code, stdout, stderr := run(strings.Fields(test.args)...)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			match(t, "stdout", stdout, test.stdout)
			match(t, "stderr", stderr, test.stderr)
			if strings.Contains(stdout+stderr, "\x1b") {
				t.Error("escape sequence in a pipe")
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	want := map[Kind]int{Failure: 1, Usage: 2, NotFound: 3, Unverified: 4, Conflict: 5, Findings: 6, NotAllowed: 7, Unavailable: 8}
	for kind, code := range want {
		err := fmt.Errorf("around: %w", Errorf(kind, "", "inside"))
		if got := ExitCode(err); got != code || len(want) != len(exitCodes) {
			t.Errorf("ExitCode(%s) = %d, want %d", kind, got, code)
		}
	}
	if ExitCode(nil) != 0 || ExitCode(errors.New("x")) != 1 {
		t.Error("nil is 0 and an error without kind is 1")
	}
	err := As(Conflict, "", Errorf(NotFound, "do this", "x"))
	if KindOf(err) != Conflict || MendOf(err) != "do this" {
		t.Errorf("outermost kind %s, mend %q", KindOf(err), MendOf(err))
	}
	if As(Conflict, "", nil) != nil {
		t.Error("As(nil) is an error")
	}
}

func TestHostileText(t *testing.T) {
	evil := "a\x1b]0;owned\x07\x9b31m\u009b2J\u202eabc\u2066\r\nb\xff\t\u200b\U000e0041"
	for _, f := range []Format{TableFormat, JSONFormat, YAMLFormat} {
		var out, errs bytes.Buffer
		tm := New(&out, &errs, nil)
		tm.format = f
		if err := tm.Print(map[string]string{"x": evil}, NewTable("x").Row(evil)); err != nil {
			t.Fatal(err)
		}
		tm.Note("%s", evil)
		tm.Warn("%s", evil)
		tm.printError("tool", errors.New(evil))
		for _, s := range []string{out.String(), errs.String()} {
			for _, r := range s {
				if r != '\n' && hostile(r) {
					t.Errorf("%s: %U in %q", f, r, s)
				}
			}
		}
		if f == TableFormat && strings.Count(out.String(), "\n") != 2 {
			t.Errorf("table has other lines: %q", out.String())
		}
	}
	if got, want := Safe("héllo 日本"), "héllo 日本"; got != want {
		t.Errorf("Safe changed %q to %q", want, got)
	}
	b, err := toJSON(map[string]string{"x": "\u202e\U000e0041"})
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]string
	if err := json.Unmarshal(b, &back); err != nil || back["x"] != "\u202e\U000e0041" {
		t.Errorf("JSON means something else now: %q, %v", back, err)
	}
}

func TestYAMLMeansTheSame(t *testing.T) {
	in := map[string]any{"s": []any{"yes", "1", "null", "", "a: b", "two\nlines", "tab\t\x1b", "2025-10-01", "# no"}, "n": 12, "t": true, "e": map[string]any{}}
	b, err := toYAML(in)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := yaml.Unmarshal(b, &out); err != nil {
		t.Fatalf("%v in\n%s", err, b)
	}
	if fmt.Sprint(in) != fmt.Sprint(out) {
		t.Errorf("\n%v became\n%v by way of\n%s", in, out, b)
	}
	if strings.Contains(string(b), "[") && !strings.Contains(string(b), "[]") {
		t.Errorf("flow style in\n%s", b)
	}
}

func TestTable(t *testing.T) {
	table := NewTable("id", "title", "n").Row("1", "日本", "x").Text("").Text("day").Cells(Cell{"22", Good}, Cell{"", Plain}, Cell{"y", Bad})
	want := "ID  TITLE  N\n1   日本   x\n\nday\n22         y\n"
	if got := string(table.render(false)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := string(table.render(true)); !strings.Contains(got, "\x1b[32m22\x1b[0m") {
		t.Errorf("no colour in %q", got)
	}
	if got := NewTable("a").Row("x", "").render(false); strings.HasSuffix(string(got), " \n") {
		t.Errorf("spaces at the end: %q", got)
	}
}

func TestQuiet(t *testing.T) {
	var out, errs bytes.Buffer
	tm := New(&out, &errs, nil)
	tm.quiet = true
	tm.Note("a note")
	tm.Warn("a warning")
	if errs.String() != "warning: a warning\n" {
		t.Errorf("stderr = %q", errs.String())
	}
	bar := tm.Bytes("hashing", 10)
	bar.Add(1)
	bar.Set(1, 2)
	bar.Done()
	bar.Done()
	if out.Len() > 0 || errs.Len() != len("warning: a warning\n") {
		t.Error("a bar was shown without a terminal")
	}
}
