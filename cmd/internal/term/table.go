package term

import (
	"strings"

	"charm.land/lipgloss/v2"
)

// A Table is data for people. Cells go through [Safe] when they are shown.
type Table struct {
	header []string
	lines  []line
}

// line is a row of cells, or one line of text across all columns.
type line struct {
	cells   []Cell
	text    string
	heading bool
}

// A Cell is one field of a table.
type Cell struct {
	Text  string
	Color Color
}

// Color is the meaning of a colour; without colours the text must say it too.
type Color int

// The colours.
const (
	Plain Color = iota
	Good
	Bad
	Doubt
	Faint
)

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	faint  = "2"
	bold   = "1"
)

var sgr = map[Color]string{Good: green, Bad: red, Doubt: yellow, Faint: faint}

// NewTable returns a table; without header its rows are facts: a name and a value.
func NewTable(header ...string) *Table { return &Table{header: header} }

// Row adds a row of plain cells.
func (t *Table) Row(cells ...string) *Table {
	row := make([]Cell, len(cells))
	for i, c := range cells {
		row[i].Text = c
	}
	return t.Cells(row...)
}

// Cells adds a row.
func (t *Table) Cells(cells ...Cell) *Table {
	t.lines = append(t.lines, line{cells: cells})
	return t
}

// Heading adds a line across all columns that names what follows.
func (t *Table) Heading(s string) *Table {
	t.lines = append(t.lines, line{text: s, heading: true})
	return t
}

// Text adds a line across all columns; an empty one leaves space.
func (t *Table) Text(s string) *Table {
	t.lines = append(t.lines, line{text: s})
	return t
}

// render aligns the columns. The last one is never padded, so that no line ends
// with spaces.
func (t *Table) render(color bool) []byte {
	if t == nil {
		return nil
	}
	all := t.lines
	if len(t.header) > 0 {
		head := make([]Cell, len(t.header))
		for i, h := range t.header {
			head[i].Text = strings.ToUpper(h)
		}
		all = append([]line{{cells: head}}, all...)
	}
	var width []int
	for _, l := range all {
		for i, c := range l.cells {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], lipgloss.Width(Safe(c.Text)))
		}
	}
	var b strings.Builder
	for n, l := range all {
		if l.cells == nil {
			b.WriteString(paint(Safe(l.text), bold, color && l.heading) + "\n")
			continue
		}
		var row strings.Builder
		pad := 0
		for i, c := range l.cells {
			text := Safe(c.Text)
			if text != "" {
				row.WriteString(strings.Repeat(" ", pad))
				pad = 0
			}
			code, ok := sgr[c.Color]
			if n == 0 && len(t.header) > 0 {
				code, ok = bold, true
			}
			row.WriteString(paint(text, code, color && ok && text != ""))
			pad += width[i] - lipgloss.Width(text) + 2
		}
		b.WriteString(row.String() + "\n")
	}
	return []byte(b.String())
}

func paint(s, code string, color bool) string {
	if !color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
