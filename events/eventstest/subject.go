package eventstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/canon"
	"vaultmesh.cloud/vaultmesh/schemas"
)

// A Subject is something that has both a schema and a typed check.
type Subject struct {
	Schema string                  // path below schemas/
	Value  any                     // a zero value of the Go type
	Check  func(data []byte) error // the typed verdict on canonical bytes
}

// Definitions returns the subjects of event types, checked as the registry does.
func Definitions(t testing.TB, defs []events.Definition) []Subject {
	t.Helper()
	r, err := events.NewRegistry(defs)
	if err != nil {
		t.Fatal(err)
	}
	var out []Subject
	for _, d := range defs {
		p := d.New()
		if p.EventType() != d.Type {
			t.Errorf("definition of %s makes a payload of %s", d.Type, p.EventType())
		}
		if _, file, _ := strings.Cut(d.Schema, "/"); "cloud.vaultmesh."+strings.TrimSuffix(file, ".json") != string(d.Type) {
			t.Errorf("%s has the schema %s: the file's name must be that of the type", d.Type, d.Schema)
		}
		out = append(out, Subject{d.Schema, p, func(data []byte) error {
			return r.Check(&events.Event{Type: d.Type, Data: data})
		}})
	}
	return out
}

// schema is a compiled schema and what its file says.
type schema struct {
	Subject
	compiled *jsonschema.Schema
	doc      map[string]any
	examples [][]byte // canonical
}

// noNetwork refuses every reference that is not in the file itself.
type noNetwork struct{}

func (noNetwork) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is not in the file: schemas stand alone", url)
}

func load(t testing.TB, s Subject) schema {
	t.Helper()
	raw, err := fs.ReadFile(schemas.Files, s.Schema)
	if err != nil {
		t.Fatalf("%T has no schema: %v", s.Value, err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%s: %v", s.Schema, err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(noNetwork{})
	url := events.SchemaBase + s.Schema
	if err := c.AddResource(url, doc); err != nil {
		t.Fatalf("%s: %v", s.Schema, err)
	}
	compiled, err := c.Compile(url)
	if err != nil {
		t.Fatalf("%s: %v", s.Schema, err)
	}
	out := schema{Subject: s, compiled: compiled, doc: doc.(map[string]any)}
	for i, e := range list(out.doc["examples"]) {
		b, err := encode(e)
		if err != nil {
			t.Fatalf("%s: example %d: %v", s.Schema, i, err)
		}
		out.examples = append(out.examples, b)
	}
	if len(out.examples) == 0 {
		t.Fatalf("%s has no examples", s.Schema)
	}
	return out
}

// verdicts returns both verdicts on canonical data.
func (s schema) verdicts(t testing.TB, data []byte) (typed, generic error) {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%s: %v in %s", s.Schema, err, data)
	}
	return s.Check(data), s.compiled.Validate(v)
}

// agree fails unless both verdicts on v are the same. What is not I-JSON is not
// data of an event at all.
func (s schema) agree(t testing.TB, what string, v any) {
	t.Helper()
	data, err := encode(v)
	if err != nil {
		return
	}
	typed, generic := s.verdicts(t, data)
	if (typed == nil) != (generic == nil) {
		t.Errorf("%s: %s:\ntyped:  %v\nschema: %v\ndata:   %.2000s", s.Schema, what, typed, generic, data)
	}
}

func encode(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return canon.Canonicalize(raw)
}

// decode reads a fresh, mutable copy.
func decode(t testing.TB, data []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func list(v any) []any { l, _ := v.([]any); return l }

func object(v any) map[string]any { m, _ := v.(map[string]any); return m }

func names(v any) []string {
	var out []string
	for _, s := range list(v) {
		out = append(out, s.(string))
	}
	slices.Sort(out)
	return out
}
