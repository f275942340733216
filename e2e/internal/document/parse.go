package document

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Step is one thing to do for a group.
type Step struct {
	Line    int    // in the document
	File    string // to write Text into, or
	Text    string // a command
	Want    string // shown output
	Check   bool   // Want is to be compared
	Exit    int
	NeedsUp bool // a node must run before
}

// Group is a session: blocks of one name in one document.
type Group struct {
	Name  string
	Steps []Step
}

// Error says where a document breaks the rules.
type Error struct {
	Line int
	What string
}

func (e Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.What) }

type block struct {
	line  int // of the fence
	lang  string
	lines []string
}

type marker struct {
	line                      int
	name, needs, output, file string
	optOut                    bool
}

var (
	comment   = regexp.MustCompile(`^\s*<!--\s*((?:no-)?test)\s*:(.*?)-->\s*$`)
	fence     = regexp.MustCompile("^(\\s*)(`{3,}|~{3,})\\s*([^`]*)$")
	groupName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	exitNote  = regexp.MustCompile(`\s+# exit ([0-9]{1,3})\s*$`)
)

// Parse returns the groups of a document in the order of their first blocks,
// and every place where a block of commands has no comment or a comment is
// wrong.
func Parse(text string) ([]Group, []Error) {
	var p parser
	var open *marker
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		if m := comment.FindStringSubmatch(lines[i]); m != nil {
			p.dangling(open)
			open = p.marker(i+1, m[1] == "no-test", m[2])
			continue
		}
		m := fence.FindStringSubmatch(lines[i])
		if m == nil {
			if strings.TrimSpace(lines[i]) != "" {
				p.dangling(open)
				open = nil
			}
			continue
		}
		b := block{line: i + 1}
		b.lang, _, _ = strings.Cut(strings.TrimSpace(m[3]), " ")
		closed := false
		for i++; i < len(lines) && !closed; i++ {
			if end := strings.TrimSpace(lines[i]); strings.HasPrefix(end, m[2]) && strings.Trim(end, m[2][:1]) == "" {
				closed = true
				i--
				continue
			}
			b.lines = append(b.lines, strings.TrimPrefix(lines[i], m[1]))
		}
		if !closed {
			p.fail(b.line, "the block has no end")
		}
		p.block(b, open)
		open = nil
	}
	p.dangling(open)
	slices.SortStableFunc(p.errs, func(a, b Error) int { return cmp.Compare(a.Line, b.Line) })
	return p.groups, p.errs
}

type parser struct {
	groups []Group
	errs   []Error
}

func (p *parser) fail(line int, what string, args ...any) {
	p.errs = append(p.errs, Error{line, fmt.Sprintf(what, args...)})
}

func (p *parser) dangling(m *marker) {
	if m != nil {
		p.fail(m.line, "no block follows this comment")
	}
}

func (p *parser) marker(line int, optOut bool, rest string) *marker {
	m := &marker{line: line, optOut: optOut}
	rest = strings.TrimSpace(rest)
	if optOut {
		if rest == "" {
			p.fail(line, "no-test needs a reason")
		}
		return m
	}
	name, options, _ := strings.Cut(rest, ",")
	if m.name = strings.TrimSpace(name); !groupName.MatchString(m.name) {
		p.fail(line, "a group is named with a-z, 0-9 and -, not %q", m.name)
	}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, ":")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case key == "" && value == "":
		case key == "needs" && value == "node":
			m.needs = value
		case key == "output" && value == "any":
			m.output = value
		case key == "file" && value != "":
			m.file = value
		default:
			p.fail(line, "unknown option %q", strings.TrimSpace(option))
		}
	}
	return m
}

func (p *parser) block(b block, m *marker) {
	kind := ""
	switch b.lang {
	case "console", "shell-session", "shellsession", "terminal":
		kind = "console"
	case "sh", "bash", "shell", "zsh":
		kind = "sh"
	case "", "text", "txt":
		if slices.ContainsFunc(b.lines, func(l string) bool { return strings.HasPrefix(l, "$ ") }) && m == nil {
			p.fail(b.line, "a block with commands is a console block")
		}
	}
	switch {
	case m == nil && kind != "":
		p.fail(b.line, "a block of commands needs <!-- test: NAME --> or <!-- no-test: REASON --> before it")
		return
	case m == nil || m.optOut:
		return
	}
	var steps []Step
	switch {
	case m.file != "":
		steps = []Step{{Line: b.line, File: m.file, Text: strings.Join(b.lines, "\n") + "\n"}}
	case kind == "console":
		steps = p.console(b)
	case kind == "sh":
		steps = []Step{{Line: b.line, Text: "set -e\n" + strings.Join(b.lines, "\n") + "\n"}}
	default:
		p.fail(b.line, "a %q block cannot be run; say file: NAME if it is one", b.lang)
	}
	for i := range steps {
		steps[i].NeedsUp = m.needs != ""
		steps[i].Check = steps[i].Want != "" && m.output == ""
	}
	i := slices.IndexFunc(p.groups, func(g Group) bool { return g.Name == m.name })
	if i < 0 {
		i = len(p.groups)
		p.groups = append(p.groups, Group{Name: m.name})
	}
	p.groups[i].Steps = append(p.groups[i].Steps, steps...)
}

func (p *parser) console(b block) []Step {
	var steps []Step
	var s *Step
	more := false // the command goes on
	for i, l := range b.lines {
		line := b.line + 1 + i
		command, isCommand := strings.CutPrefix(l, "$ ")
		next, isNext := strings.CutPrefix(l, "> ")
		if l == ">" {
			next, isNext = "", true
		}
		switch {
		case s != nil && s.Want == "" && (more || isNext):
			if !isNext {
				next = l
			}
			s.Text += next + "\n"
		case isCommand:
			steps = append(steps, Step{Line: line, Text: command + "\n"})
			s = &steps[len(steps)-1]
			next = command
		case s == nil:
			if strings.TrimSpace(l) != "" {
				p.fail(line, "a console block begins with \"$ command\"")
			}
			continue
		default:
			s.Want += l + "\n"
			continue
		}
		more = strings.HasSuffix(next, `\`)
	}
	if len(steps) == 0 {
		p.fail(b.line, "no command in this block")
	}
	for i := range steps {
		s := &steps[i]
		if strings.TrimSpace(s.Want) == "" {
			s.Want = "" // blank lines between two commands
		}
		text := strings.TrimSuffix(s.Text, "\n")
		if m := exitNote.FindStringSubmatch(text); m != nil {
			_, _ = fmt.Sscan(m[1], &s.Exit)
			s.Text = strings.TrimSuffix(text, m[0]) + "\n"
		}
	}
	return steps
}
