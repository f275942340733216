package events

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"vaultmesh.cloud/vaultmesh/events/canon"
)

func TestRefuseNothing(t *testing.T) {
	for in, want := range map[string]bool{
		`{"a":1}`:                      true,
		`{"a":null}`:                   false,
		`[null]`:                       false,
		`{"a":[1,null]}`:               false,
		`{"a":""}`:                     false,
		`{"":1}`:                       false,
		`["x",""]`:                     false,
		`{"null":"null"}`:              true,
		`{"a":"\":null,\""}`:           true,
		`{"a":"\""}`:                   true,
		`{"a":"\\"}`:                   true,
		`{"a":"\"","b":""}`:            false,
		`{"a":"\"","b":"null","c":{}}`: true,
		`{"a":"null","b":null}`:        false,
	} {
		if err := RefuseNothing([]byte(in)); (err == nil) != want {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// nothing is the slow twin of RefuseNothing.
func nothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		for _, e := range v {
			if nothing(e) {
				return true
			}
		}
	case map[string]any:
		for name, e := range v {
			if name == "" || nothing(e) {
				return true
			}
		}
	}
	return false
}

func TestRefuseNothingFindsAll(t *testing.T) {
	text := rapid.SampledFrom([]string{"", "a", `"`, `""`, `\`, `\"`, "null", ":null,", `":null`, ",", ":", "é"})
	value := rapid.OneOf(rapid.Map(text, func(s string) any { return s }), rapid.Just[any](true), rapid.Just[any](nil))
	list := rapid.Map(rapid.SliceOfN(value, 0, 3), func(l []any) any { return l })
	object := rapid.MapOfN(text, rapid.OneOf(value, list), 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		v := object.Draw(t, "value")
		b, err := canon.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := RefuseNothing(b); (err != nil) != nothing(v) {
			t.Fatalf("%s: %v", b, err)
		}
	})
}

func TestClipEntity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(0, 300, -1).Draw(t, "name")
		got := ClipEntity(name)
		if len(got) > MaxEntity || !strings.HasPrefix(name, got) || !utf8.ValidString(got) || len(name) > MaxEntity && len(got) <= MaxEntity-utf8.UTFMax || len(name) <= MaxEntity && got != name {
			t.Fatalf("%q (%d bytes) became %q (%d bytes)", name, len(name), got, len(got))
		}
	})
}

func TestCheckerCountsCodePoints(t *testing.T) {
	for _, c := range []struct {
		s        string
		min, max int
		want     bool
	}{
		{"", 0, 2, true}, {"", 1, 2, false}, {"é", 1, 1, true}, {"\U0001F702", 2, 4, false}, {"\U0001F702\U0001F702", 2, 4, true},
		{"\U0001F702\U0001F702\U0001F702", 4, 9, false}, {"ééé", 1, 3, true}, {"éééé", 1, 3, false},
	} {
		var k Checker
		if k.Text("text", c.s, c.min, c.max); (k.Err() == nil) != c.want {
			t.Errorf("%q within %d to %d: %v", c.s, c.min, c.max, k.Err())
		}
	}
}
