package eventstest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// place is one value within a document, with the node of the schema for it.
type place struct {
	path []any // of string and int
	node map[string]any
}

func (p place) String() string {
	var b strings.Builder
	for _, step := range p.path {
		fmt.Fprintf(&b, "/%v", step)
	}
	return b.String()
}

// places lists every value in v, the document itself first.
func places(v any, node map[string]any, path []any) []place {
	out := []place{{path, node}}
	step := func(s any) []any { return append(slices.Clone(path), s) }
	switch v := v.(type) {
	case map[string]any:
		props := object(node["properties"])
		for _, name := range sortedKeys(v) {
			out = append(out, places(v[name], object(props[name]), step(name))...)
		}
	case []any:
		for i, e := range v {
			out = append(out, places(e, object(node["items"]), step(i))...)
		}
	}
	return out
}

func sortedKeys(m map[string]any) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// drop is the mutation that removes a member or element.
type drop struct{}

// put replaces the value at the path in v, or drops it, and returns the document.
func put(v any, path []any, with any) any {
	if len(path) == 0 {
		return with
	}
	switch step := path[0].(type) {
	case string:
		m := v.(map[string]any)
		if _, gone := with.(drop); gone && len(path) == 1 {
			delete(m, step)
		} else {
			m[step] = put(m[step], path[1:], with)
		}
		return m
	case int:
		l := v.([]any)
		if _, gone := with.(drop); gone && len(path) == 1 {
			return slices.Delete(l, step, step+1)
		}
		l[step] = put(l[step], path[1:], with)
	}
	return v
}

func get(v any, path []any) any {
	for _, step := range path {
		switch s := step.(type) {
		case string:
			v = v.(map[string]any)[s]
		case int:
			v = v.([]any)[s]
		}
	}
	return v
}

// anywhere are values that may be wrong wherever they stand.
var anywhere = []any{
	nil, "", " ", "x", "X", "é", "\u2028", "a\x00b", "a\nb", "a\n", "\x7f", "\\", `"`, `\"`, "null", ":null,", true, false,
	json.Number("0"), json.Number("-0"), json.Number("1"), json.Number("-1"), json.Number("1.0"), json.Number("1.5"), json.Number("1e3"), json.Number("2"),
	json.Number("9007199254740991"), json.Number("-9007199254740991"), json.Number("9007199254740992"), json.Number("1e300"),
	map[string]any{}, []any{}, []any{nil}, []any{""}, []any{"a", "a"}, []any{json.Number("1"), json.Number("1")},
	[]any{json.Number("0")}, []any{map[string]any{}}, map[string]any{"": "x"}, map[string]any{"x": nil}, map[string]any{"x": ""},
	map[string]any{"x": []any{map[string]any{"y": nil}}}, map[string]any{"x": []any{"null", `""`, `\`}},
	"2026-11-23T03:19:00Z", "2026-11-23T03:19:00.Z", "2026-11-23T03:19:00.123456789Z", "2026-11-23T03:19:00.1234567890Z", "2026-11-23T03:19:00,5Z",
	"2026-11-23t03:19:00z", "2026-11-23T03:19:00+00:00", "2026-11-23 03:19:00Z", "2026-11-23T3:19:00Z", "2026-11-23T03:19Z", "2026-11-23T24:00:00Z",
	"2026-11-23T23:59:60Z", "2026-02-29T00:00:00Z", "2028-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "0000-02-29T00:00:00Z",
	"2100-02-29T00:00:00Z", "2200-02-29T00:00:00Z", "2400-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "2096-02-29T00:00:00Z", "2110-02-29T00:00:00Z",
	"2026-04-31T00:00:00Z", "2026-00-10T00:00:00Z", "2026-13-10T00:00:00Z", "2026-12-00T00:00:00Z", "2026-12-32T00:00:00Z", "12026-12-01T00:00:00Z",
	"2026-11-23T03:19:00+23:59", "2026-11-23T03:19:00-24:00", "2026-11-23T03:19:00+24:00", "2026-11-23T03:19:00+01:60", "2026-11-23T03:19:00.5+1:00", "2026-11-23T3:19:00+01:00",
	"2026-11-23", "2026-02-29", "2028-02-29", "2026-2-09", "2026-06-31", "0000-01-01", "9999-12-31",
	"A===", "AA==", "AAA=", "AAAA", "AAAAA", "AA=A", "====", "AA-_", "AAAA\n",
}

// around returns values that are nearly as the schema wants them.
func around(node map[string]any, old any) []any {
	var out []any
	if s, ok := old.(string); ok {
		out = append(out, s+"\n", "\n"+s, s+" ", s+s, strings.ToUpper(s), strings.ToLower(s), s+"é")
		if s != "" {
			out = append(out, s[1:], s[:len(s)-1], "\uff11"+s[1:], s[:len(s)-1]+"=", s[:len(s)-1]+"B")
			if node["pattern"] != nil || node["const"] != nil {
				for c := range 0x80 {
					out = append(out, string(rune(c))+s[1:], s[:len(s)-1]+string(rune(c)))
				}
			}
		}
	}
	if most, ok := number(node["maxLength"]); ok {
		for _, c := range []string{"a", "é", "\U0001F702", "A"} {
			out = append(out, strings.Repeat(c, most-1), strings.Repeat(c, most), strings.Repeat(c, most+1))
		}
		if most%4 == 0 {
			out = append(out, strings.Repeat("A", most+4), strings.Repeat("A", most-2)+"==")
		}
	}
	for _, n := range []int{39, 40, 41, 47, 48, 49, 63, 64, 65, 127, 128, 129} {
		out = append(out, strings.Repeat("a", n), strings.Repeat("A", n), strings.Repeat("0", n))
	}
	for _, bound := range []any{node["minimum"], node["maximum"]} {
		if n, ok := number(bound); ok {
			for d := -1; d <= 1; d++ {
				out = append(out, json.Number(strconv.Itoa(n+d)))
			}
		}
	}
	for _, e := range list(node["enum"]) {
		out = append(out, e, e.(string)+" ", strings.ToUpper(e.(string)))
	}
	return out
}

func number(v any) (int, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := n.Int64()
	return int(i), err == nil
}

// mutate makes one change at a time, at every place of every example.
func (s schema) mutate(t testing.TB) {
	for i, data := range s.examples {
		for _, p := range places(decode(t, data), s.doc, nil) {
			try := func(what string, with any) {
				s.agree(t, fmt.Sprintf("example %d: %s at %q", i, what, p), put(decode(t, data), p.path, with))
			}
			if len(p.path) > 0 {
				try("nothing", drop{})
			}
			old := get(decode(t, data), p.path)
			for _, v := range slices.Concat(anywhere, around(p.node, old)) {
				try(fmt.Sprintf("%.40q", v), v)
			}
			switch old := old.(type) {
			case map[string]any:
				for _, extra := range []string{"extra", "", "Extra", "$ref", "a\u0000"} {
					for _, v := range []any{nil, "x", ""} {
						m := object(get(decode(t, data), p.path))
						m[extra] = v
						try(fmt.Sprintf("%q added", extra), m)
					}
				}
				for _, other := range s.examples {
					for name, v := range object(decode(t, other)) {
						m := object(get(decode(t, data), p.path))
						m[name] = v
						try(fmt.Sprintf("%q of another example", name), m)
					}
				}
				for name, v := range old {
					m := object(get(decode(t, data), p.path))
					delete(m, name)
					m[strings.ToUpper(name)] = v
					try(fmt.Sprintf("%q in upper case", name), m)
				}
			case []any:
				most, _ := number(p.node["maxItems"])
				for _, n := range []int{0, 2, most, most + 1} {
					try(fmt.Sprintf("%d equal elements", n), slices.Repeat(old[:1], n))
					try(fmt.Sprintf("%d elements", n), distinct(old[0], n))
				}
			}
			if t.Failed() {
				return
			}
		}
	}
}

// distinct makes n elements like e, of which no two are equal.
func distinct(e any, n int) []any {
	out := make([]any, n)
	for i := range out {
		switch e := e.(type) {
		case string:
			out[i] = e + strconv.Itoa(i)
		case json.Number:
			out[i] = json.Number(strconv.Itoa(i + 1))
		default:
			out[i] = e
		}
	}
	return out
}

// random makes several changes at once.
func (s schema) random(t *testing.T) {
	if t.Failed() { // rapid would panic
		return
	}
	rapid.Check(t, func(rt *rapid.T) {
		v := decode(t, rapid.SampledFrom(s.examples).Draw(rt, "example"))
		for range rapid.IntRange(1, 4).Draw(rt, "changes") {
			all := places(v, s.doc, nil)
			p := all[rapid.IntRange(0, len(all)-1).Draw(rt, "place")]
			switch rapid.IntRange(0, 3).Draw(rt, "kind") {
			case 0:
				if len(p.path) > 0 {
					v = put(v, p.path, drop{})
				}
			case 1:
				v = put(v, p.path, rapid.SampledFrom(anywhere).Draw(rt, "value"))
			case 2:
				if values := around(p.node, get(v, p.path)); len(values) > 0 {
					v = put(v, p.path, rapid.SampledFrom(values).Draw(rt, "near"))
				}
			case 3:
				v = put(v, p.path, rapid.String().Draw(rt, "text"))
			}
		}
		data, err := encode(v)
		if err != nil {
			return
		}
		typed, generic := s.verdicts(t, data)
		if (typed == nil) != (generic == nil) {
			rt.Fatalf("%s:\ntyped:  %v\nschema: %v\ndata:   %.2000s", s.Schema, typed, generic, data)
		}
	})
}
