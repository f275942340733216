package canon

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gowebpki/jcs"
)

func TestCanonicalize(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"b":1,"a":[ true , null ]}`, `{"a":[true,null],"b":1}`},
		{`{"numbers":[333333333.33333329,1E15,4.50,2e-3,0.000000000000000000000000001]}`, `{"numbers":[333333333.3333333,1000000000000000,4.5,0.002,1e-27]}`},
		{`"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/"`, `"€$\u000f\nA'B\"\\\\\"/"`},
		{`{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`,
			"{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u0080\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}"},
		{`-0`, `0`},
		{` 9007199254740991 `, `9007199254740991`},
	} {
		got, err := Canonicalize([]byte(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("Canonicalize(%s) = %s, %v; want %s", c.in, got, err, c.want)
		}
		again, err := Canonicalize(got)
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("not idempotent: %s then %s, %v", got, again, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, in := range map[string]string{
		"duplicate name":         `{"a":1,"a":2}`,
		"duplicate after escape": `{"a":1,"\u0061":2}`,
		"lone surrogate":         `"\ud800"`,
		"swapped surrogates":     `"\ude00\ud83d"`,
		"invalid UTF-8":          "\"\xff\"",
		"noncharacter":           `"\ufffe"`,
		"noncharacter raw":       "\"\ufdd0\"",
		"20 digits":              `12345678901234567890`,
		"2^53":                   `9007199254740992`,
		"overflow":               `1e999`,
		"underflow":              `1e-999`,
		"18 digits":              `0.123456789012345678`,
		"NaN":                    `NaN`,
		"Infinity":               `-Infinity`,
		"leading zero":           `01`,
		"trailing comma":         `[1,]`,
		"trailing bytes":         `{} {}`,
		"empty":                  ``,
		"blank":                  `  `,
		"comment":                `{}//`,
		"control character":      "\"\x01\"",
		"byte order mark":        "\ufeff{}",
		"open":                   `{"a":`,
		"depth":                  strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Canonicalize([]byte(in))
			var se *SyntaxError
			if !errors.As(err, &se) {
				t.Fatalf("got %s, %v; want a *SyntaxError", got, err)
			}
		})
	}
	deep := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	if _, err := Canonicalize([]byte(deep)); err != nil {
		t.Errorf("depth %d refused: %v", MaxDepth, err)
	}
}

func TestMembers(t *testing.T) {
	var got []string
	ok := Members([]byte(`{"a":{"x":[1,"y"]},"b":"c","n":null}`), func(name, value []byte) {
		got = append(got, string(name)+"="+string(value))
	})
	if want := `[a={"x":[1,"y"]} b="c" n=null]`; !ok || fmt.Sprint(got) != want {
		t.Errorf("got %v %v, want %s", ok, got, want)
	}
	for _, in := range []string{`[]`, ``, `{"b":1,"a":2}`, `{"a":1 }`, `{"a":1.0}`} {
		if Members([]byte(in), func(_, _ []byte) {}) {
			t.Errorf("Members(%s) = true", in)
		}
	}
}

// FuzzCanonical holds the scanner and jsontext to the reference implementation
// of RFC 8785.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{
		`{"a":1,"b":[true,false,null],"c":"x\n\u001f\\"}`, `{"\ue000":1,"😀":2}`, `1e21`, `-0.0`, `[1.5,100,-7]`,
		`{"id":"018f","time":"2026-01-01T00:00:00Z"}`, `"\u007f"`, `0.1e-6`, `123456789012345`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		strict := check(raw)
		fast := IsCanonical(raw)
		if fast && strict != nil {
			t.Fatalf("scanner accepts %q, strict check says %v", raw, strict)
		}
		if strict != nil {
			return
		}
		got, err := Canonicalize(raw)
		if err != nil {
			t.Fatalf("strict check accepts %q, Canonicalize says %v", raw, err)
		}
		// The reference takes only arrays and objects at the top.
		ref, err := jcs.Transform(append(append([]byte("["), raw...), ']'))
		if err != nil {
			t.Fatalf("reference refuses %q: %v", raw, err)
		}
		if want := ref[1 : len(ref)-1]; !bytes.Equal(got, want) {
			t.Fatalf("%q: got %q, reference %q", raw, got, want)
		}
		if again, err := Canonicalize(got); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("not idempotent: %q then %q, %v", got, again, err)
		}
	})
}

var sample = []byte(`{"data":{"component":"api","evidence":{"name":"api.tar.gz","sha256":"31b058bb72430e722442165d1e22d4a0786448073ea52d29ef61ac689964a726","size":1048576},"version":"v1.2.3"},"datacontenttype":"application/json","dataschema":"https://vaultmesh.cloud/schemas/remembrancer/deploy.recorded.v1.json","id":"0193a5c2-7d1e-7b9a-9c1f-3f1f5b7f8c2d","source":"/ci","specversion":"1.0","subject":"api","time":"2026-11-23T03:19:00Z","type":"cloud.vaultmesh.deploy.recorded.v1"}`)

func BenchmarkIsCanonical(b *testing.B) {
	b.SetBytes(int64(len(sample)))
	b.ReportAllocs()
	for b.Loop() {
		if !IsCanonical(sample) {
			b.Fatal("not canonical")
		}
	}
}

func BenchmarkCanonicalize(b *testing.B) {
	messy := bytes.Replace(sample, []byte(`{"data"`), []byte(`{ "data"`), 1)
	b.SetBytes(int64(len(messy)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Canonicalize(messy); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReference(b *testing.B) {
	b.SetBytes(int64(len(sample)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := jcs.Transform(sample); err != nil {
			b.Fatal(err)
		}
	}
}
