package document

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// doc writes ”' for the fence, so that the text stays readable in Go.
func doc(text string) string { return strings.ReplaceAll(text, "'''", "```") }

func TestParse(t *testing.T) {
	groups, errs := Parse(doc(`# Start

<!-- test: start, needs: node -->

'''console
$ vaultmesh status
ok 1

$ echo one \
  two
one two
$ cat > f <<'EOF'
> line
>
> EOF
$ vaultmesh verify-full x   # exit 4
'''

<!-- test: other -->
'''sh
cd /tmp
make
'''

  <!-- test: start, file: a.yaml -->
  '''yaml
  a:
    b: 1
  '''

<!-- test: start, output: any -->
~~~~console title="x"
$ date
Monday
~~~~

'''json
{"not": "run"}
'''

<!-- no-test: needs a cloud account -->
'''bash
terraform apply
'''
`))
	if len(errs) > 0 {
		t.Fatalf("errors: %v", errs)
	}
	want := []Group{
		{"start", []Step{
			{Line: 6, Text: "vaultmesh status\n", Want: "ok 1\n\n", Check: true, NeedsUp: true},
			{Line: 9, Text: "echo one \\\n  two\n", Want: "one two\n", Check: true, NeedsUp: true},
			{Line: 12, Text: "cat > f <<'EOF'\nline\n\nEOF\n", NeedsUp: true},
			{Line: 16, Text: "vaultmesh verify-full x\n", Exit: 4, NeedsUp: true},
			{Line: 26, File: "a.yaml", Text: "a:\n  b: 1\n"},
			{Line: 33, Text: "date\n", Want: "Monday\n"},
		}},
		{"other", []Step{{Line: 20, Text: "set -e\ncd /tmp\nmake\n"}}},
	}
	if fmt.Sprintf("%+v", groups) != fmt.Sprintf("%+v", want) {
		t.Errorf("got\n%+v\nwant\n%+v", groups, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		line int
		what string
	}{
		"console without comment":  {"a\n'''console\n$ x\n'''\n", 2, "needs <!-- test"},
		"sh without comment":       {"'''sh\nx\n'''\n", 1, "needs <!-- test"},
		"in a list":                {"- a\n\n  '''bash\n  x\n  '''\n", 3, "needs <!-- test"},
		"commands without name":    {"'''\n$ x\n'''\n", 1, "is a console block"},
		"text between":             {"<!-- test: a -->\nword\n'''sh\nx\n'''\n", 1, "no block follows"},
		"comment at the end":       {"<!-- test: a -->\n", 1, "no block follows"},
		"two comments":             {"<!-- test: a -->\n<!-- test: b -->\n'''sh\nx\n'''\n", 1, "no block follows"},
		"no reason":                {"<!-- no-test: -->\n'''sh\nx\n'''\n", 1, "needs a reason"},
		"bad name":                 {"<!-- test: A b -->\n'''sh\nx\n'''\n", 1, "a group is named"},
		"unknown option":           {"<!-- test: a, wants: b -->\n'''sh\nx\n'''\n", 1, "unknown option"},
		"needs something else":     {"<!-- test: a, needs: luck -->\n'''sh\nx\n'''\n", 1, "unknown option"},
		"not a shell":              {"<!-- test: a -->\n'''go\nx\n'''\n", 2, "cannot be run"},
		"console without a prompt": {"<!-- test: a -->\n'''console\nx\n'''\n", 3, "begins with"},
		"empty console":            {"<!-- test: a -->\n'''console\n'''\n", 2, "no command"},
		"no end":                   {"<!-- test: a -->\n'''sh\nx\n", 2, "no end"},
	} {
		_, errs := Parse(doc(c.text))
		if !slices.ContainsFunc(errs, func(e Error) bool { return e.Line == c.line && strings.Contains(e.What, c.what) }) {
			t.Errorf("%s: %v, want line %d: %s", name, errs, c.line, c.what)
		}
	}
}

func TestParseIgnoresComments(t *testing.T) {
	// A document about documents: the fence is longer than what it shows.
	groups, errs := Parse("````markdown\n<!-- test: a -->\n```console\n$ x\n```\n````\n")
	if len(groups) != 0 || len(errs) != 0 {
		t.Errorf("%v, %v", groups, errs)
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"a\nb\n", "a\nb", true},
		{"a  \nb\n\n\n", "a\nb\n", true},
		{"a\n", "b\n", false},
		{"a\n", "a\nb\n", false},
		{"a\nb\n", "a\n", false},
		{"leaf … of …\n", "leaf 3 of 17\n", true},
		{"leaf ...\n", "leaf 3\nmore\n", false},
		{"a\n...\nz\n", "a\nb\nc\nz\n", true},
		{"a\n…\nz\n", "a\nz\n", true},
		{"a\n…\n", "a\nb\n", true},
		{"…\n", "", true},
		{"a.c (x)\n", "abc (x)\n", false},
	} {
		if Match(c.want, c.got) != c.ok {
			t.Errorf("Match(%q, %q) = %v", c.want, c.got, !c.ok)
		}
	}
}

func TestScript(t *testing.T) {
	g := Group{"a", []Step{
		{Line: 1, Text: "echo 1\n", Want: "1\n", Check: true},
		{Line: 2, Text: "vaultmesh up --name x.example/log &\n"},
		{Line: 3, File: "t.yaml", Text: "a: 1\n"},
		{Line: 4, Text: "vaultmesh up --help | head\n", Exit: 2},
		{Line: 5, Text: "vaultmesh up --data b --http 127.0.0.1:0\n", NeedsUp: true},
	}}
	want := `# README.md:1
document 000 0
# README.md:2
startnode --name x.example/log
# README.md:3
cp .doc/002.file t.yaml
# README.md:4
document 003 2
# README.md:5
startnode -as node2 --data b --http 127.0.0.1:0
-- .doc/000.sh --
echo 1
-- .doc/000.out --
1
-- .doc/002.file --
a: 1
-- .doc/003.sh --
vaultmesh up --help | head
`
	if got := string(g.Script("README.md")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
