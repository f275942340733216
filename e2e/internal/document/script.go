package document

import (
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/tools/txtar"
)

// up is a command that would not return.
var up = regexp.MustCompile(`^vaultmesh\s+up\b([^|;<>'"$]*?)(?:\s*&)?\s*$`)

// Script makes a testscript of a group, for the commands of package harness.
// name says where the group comes from.
func (g Group) Script(name string) []byte {
	var a txtar.Archive
	script := &strings.Builder{}
	nodes := 0
	for i, s := range g.Steps {
		fmt.Fprintf(script, "# %s:%d\n", name, s.Line)
		if s.NeedsUp && nodes == 0 {
			script.WriteString("startnode\n")
			nodes++
		}
		if m := up.FindStringSubmatch(s.Text); m != nil && s.File == "" {
			name := "" // the second is node2: its variables are NODE2_HTTP, ...
			if nodes++; nodes > 1 {
				name = fmt.Sprintf(" -as node%d", nodes)
			}
			fmt.Fprintf(script, "startnode%s%s\n", name, strings.TrimRight(m[1], " \n"))
			continue
		}
		n := fmt.Sprintf("%03d", i)
		if s.File != "" {
			fmt.Fprintf(script, "cp .doc/%s.file %s\n", n, s.File)
			a.Files = append(a.Files, txtar.File{Name: ".doc/" + n + ".file", Data: []byte(s.Text)})
			continue
		}
		fmt.Fprintf(script, "document %s %d\n", n, s.Exit)
		a.Files = append(a.Files, txtar.File{Name: ".doc/" + n + ".sh", Data: []byte(s.Text)})
		if s.Check {
			a.Files = append(a.Files, txtar.File{Name: ".doc/" + n + ".out", Data: []byte(s.Want)})
		}
	}
	a.Comment = []byte(script.String())
	return txtar.Format(&a)
}

// Match reports whether an output is the shown one: "…" or "..." stands for any
// text in a line, alone on a line for any number of lines. Space at the end of
// a line and empty lines at the end do not count.
func Match(want, got string) bool {
	pattern := &strings.Builder{}
	pattern.WriteString(`^`)
	for line := range strings.SplitSeq(tidy(want), "\n") {
		line = strings.ReplaceAll(line, "...", "…")
		if strings.TrimSpace(line) == "…" {
			pattern.WriteString(`(?:.*\n)*`)
			continue
		}
		for i, part := range strings.Split(line, "…") {
			if i > 0 {
				pattern.WriteString(`.*`)
			}
			pattern.WriteString(regexp.QuoteMeta(part))
		}
		pattern.WriteString(`\n`)
	}
	pattern.WriteString(`$`)
	return regexp.MustCompile(pattern.String()).MatchString(tidy(got) + "\n")
}

func tidy(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " \t\r")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}
