package eventstest

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/canon"
	"vaultmesh.cloud/vaultmesh/schemas"
)

// SchemaAgrees tests a layer's subjects: every one has a schema file and every
// file a subject, the schema has exactly the fields of the Go type, its examples
// are valid and survive Go unchanged, and no change to an example makes the two
// verdicts differ.
func SchemaAgrees(t *testing.T, layer string, subjects []Subject) {
	files, err := fs.Glob(schemas.Files, layer+"/*.json")
	if err != nil {
		t.Fatal(err)
	}
	want := make([]string, 0, len(subjects))
	for _, s := range subjects {
		want = append(want, s.Schema)
	}
	slices.Sort(want)
	if !slices.Equal(files, want) {
		t.Fatalf("schemas/%s holds %v, the layer defines %v", layer, files, want)
	}
	for _, s := range subjects {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(s.Schema, layer+"/"), ".json"), func(t *testing.T) {
			sch := load(t, s)
			sch.shape(t)
			sch.valid(t)
			sch.mutate(t)
			sch.random(t)
		})
	}
}

// shape compares the file with the Go type.
func (s schema) shape(t *testing.T) {
	if got, want := s.doc["$id"], events.SchemaBase+s.Schema; got != want {
		t.Errorf("$id is %v, want %s", got, want)
	}
	if got := s.doc["$schema"]; got != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("$schema is %v", got)
	}
	if title, _ := s.doc["title"].(string); title == "" {
		t.Error("the schema has no title")
	}
	compare(t, "", s.doc, reflect.TypeOf(s.Value))
}

func compare(t *testing.T, at string, node map[string]any, typ reflect.Type) {
	t.Helper()
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if d, _ := node["description"].(string); d == "" || !strings.HasSuffix(d, ".") {
		t.Errorf("%s has no sentence as its description", at)
	}
	want := ""
	switch typ.Kind() {
	case reflect.String:
		want = "string"
		if _, ok := node["enum"]; !ok && node["const"] == nil && node["pattern"] == nil && node["maxLength"] == nil {
			t.Errorf("%s has no bound", at)
		}
	case reflect.Int64, reflect.Uint64:
		want = "integer"
		if node["minimum"] == nil || node["maximum"] == nil {
			t.Errorf("%s has no bounds", at)
		}
	case reflect.Bool:
		want = "boolean"
	case reflect.Slice:
		if typ == reflect.TypeFor[json.RawMessage]() {
			want = "object"
			break
		}
		want = "array"
		if node["maxItems"] == nil {
			t.Errorf("%s has no bound", at)
		}
		compare(t, at+"[]", object(node["items"]), typ.Elem())
	case reflect.Struct:
		want = "object"
		if node["additionalProperties"] != false {
			t.Errorf("%s allows additional properties", at)
		}
		fields, required := fieldsOf(t, typ)
		props := object(node["properties"])
		if got, want := slices.Sorted(maps.Keys(props)), slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
			t.Errorf("%s has properties %v, %s has fields %v", at, got, typ, want)
			return
		}
		if got := names(node["required"]); !slices.Equal(got, required) {
			t.Errorf("%s requires %v, %s always writes %v", at, got, typ, required)
		}
		for name, field := range fields {
			compare(t, at+"."+name, object(props[name]), field)
		}
	default:
		t.Errorf("%s: a payload should not hold a %s", at, typ)
	}
	if node["type"] != want {
		t.Errorf("%s has type %v, %s needs %s", at, node["type"], typ, want)
	}
}

// fieldsOf returns the JSON members of a struct, and those that it always writes.
func fieldsOf(t *testing.T, typ reflect.Type) (map[string]reflect.Type, []string) {
	t.Helper()
	fields, required := map[string]reflect.Type{}, []string(nil)
	for i := range typ.NumField() {
		f := typ.Field(i)
		tag, ok := f.Tag.Lookup("json")
		if f.Anonymous && !ok {
			inner, req := fieldsOf(t, f.Type)
			maps.Copy(fields, inner)
			required = append(required, req...)
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if name == "" || strings.ToLower(name) != name || strings.Contains(name, "-") {
			t.Errorf("field %s of %s has no name in snake_case", f.Name, typ)
		}
		fields[name] = f.Type
		switch {
		case options == "":
			required = append(required, name)
		case options == "omitempty" && (f.Type.Kind() == reflect.Int64 || f.Type.Kind() == reflect.Uint64 || f.Type.Kind() == reflect.Bool):
			t.Errorf("field %s of %s: omitempty writes 0 and false, use omitzero", f.Name, typ)
		}
	}
	slices.Sort(required)
	return fields, required
}

// valid checks the examples, which must also come out of Go as they went in.
func (s schema) valid(t *testing.T) {
	seen := map[string]bool{}
	for i, data := range s.examples {
		typed, generic := s.verdicts(t, data)
		if typed != nil || generic != nil {
			t.Fatalf("example %d: typed: %v; schema: %v", i, typed, generic)
		}
		v := reflect.New(reflect.Indirect(reflect.ValueOf(s.Value)).Type())
		if err := canon.Unmarshal(data, v.Interface()); err != nil {
			t.Fatal(err)
		}
		again, err := canon.Marshal(v.Interface())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, data) {
			t.Errorf("example %d comes back from Go as\n%s, it was\n%s", i, again, data)
		}
		for name := range object(decode(t, data)) {
			seen[name] = true
		}
	}
	for name := range object(s.doc["properties"]) {
		if !seen[name] {
			t.Errorf("no example has %s", name)
		}
	}
}
