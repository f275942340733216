package eventstest

import (
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/schemas"
)

// A ref points to another part of the AsyncAPI document, or to a schema file.
type ref struct {
	To string `yaml:"$ref"`
}

// document is the part of schemas/asyncapi.yaml that the Go types can be
// compared with.
type document struct {
	Channels   map[string]channel `yaml:"channels"`
	Operations map[string]struct {
		Action  string `yaml:"action"`
		Channel ref    `yaml:"channel"`
	} `yaml:"operations"`
	Components struct {
		Messages map[string]message `yaml:"messages"`
	} `yaml:"components"`
}

type channel struct {
	Address     string         `yaml:"address"`
	Description string         `yaml:"description"`
	Messages    map[string]ref `yaml:"messages"`
	Parameters  map[string]struct {
		Enum []string `yaml:"enum"`
	} `yaml:"parameters"`
	JetStream struct {
		Stream     string   `yaml:"stream"`
		Subjects   []string `yaml:"subjects"`
		Storage    string   `yaml:"storage"`
		Log        bool     `yaml:"log"`
		MaxAge     string   `yaml:"max_age"`
		MaxMsgSize int32    `yaml:"max_msg_size"`
		MaxBytes   int64    `yaml:"max_bytes"`
	} `yaml:"x-jetstream"`
}

type message struct {
	Name      string   `yaml:"name"`
	Title     string   `yaml:"title"`
	Summary   string   `yaml:"summary"`
	Producers []string `yaml:"x-producers"`
	Traits    []ref    `yaml:"traits"`
	Payload   struct {
		ref   `yaml:",inline"`
		AllOf []struct {
			ref        `yaml:",inline"`
			Required   []string `yaml:"required"`
			Properties struct {
				Type struct {
					Const string `yaml:"const"`
				} `yaml:"type"`
				Data ref `yaml:"data"`
			} `yaml:"properties"`
		} `yaml:"allOf"`
	} `yaml:"payload"`
}

// schema returns the path of the schema file of the message's own part, or "".
func (m message) schema() string {
	to := m.Payload.To
	if len(m.Payload.AllOf) == 2 {
		to = m.Payload.AllOf[1].Properties.Data.To
	}
	if !strings.HasPrefix(to, "./") {
		return ""
	}
	return path.Clean(to)
}

func readDocument(t testing.TB) document {
	t.Helper()
	raw, err := fs.ReadFile(schemas.Files, "asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc document
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		t.Fatalf("asyncapi.yaml: %v", err)
	}
	return doc
}

// Documented holds schemas/asyncapi.yaml to the event types of a layer: each is
// a message of the channel "events", with the producers that fold-v1 allows, and
// the document names no other type of the layer.
func Documented(t testing.TB, layer string, defs []events.Definition) {
	t.Helper()
	doc := readDocument(t)
	defined := map[string]events.Definition{}
	for _, d := range defs {
		defined[d.Schema] = d
	}
	found := map[string]bool{}
	for key, m := range doc.Components.Messages {
		schema := m.schema()
		if path.Dir(schema) != layer || m.Payload.To != "" { // another layer's, or no event
			continue
		}
		d, ok := defined[schema]
		if !ok {
			t.Errorf("asyncapi.yaml: message %s has the schema %s, which no type of the layer has", key, schema)
			continue
		}
		found[schema] = true
		m.event(t, key, d, doc)
	}
	for _, d := range defs {
		if !found[d.Schema] {
			t.Errorf("asyncapi.yaml: no message has the schema %s of %s", d.Schema, d.Type)
		}
	}
}

func (m message) event(t testing.TB, key string, d events.Definition, doc document) {
	t.Helper()
	if m.Title == "" || m.Summary == "" {
		t.Errorf("asyncapi.yaml: message %s has no title or no summary", key)
	}
	own := m.Payload.AllOf[1]
	if m.Name != string(d.Type) || own.Properties.Type.Const != string(d.Type) {
		t.Errorf("asyncapi.yaml: message %s is named %s, its type is %s; want %s for both", key, m.Name, own.Properties.Type.Const, d.Type)
	}
	if m.Payload.AllOf[0].To != "./envelope/envelope.v1.json" || !slices.Contains(own.Required, "data") {
		t.Errorf("asyncapi.yaml: message %s is not an envelope with data", key)
	}
	if len(m.Traits) != 1 || m.Traits[0].To != "#/components/messageTraits/event" {
		t.Errorf("asyncapi.yaml: message %s lacks the trait of events", key)
	}
	in := doc.Channels["events"]
	if in.Messages[key].To != "#/components/messages/"+key {
		t.Errorf("asyncapi.yaml: channel events lacks message %s", key)
	}
	if domain := string(d.Type.Domain()); !slices.Contains(in.Parameters["domain"].Enum, domain) {
		t.Errorf("asyncapi.yaml: channel events lacks domain %s", domain)
	}
	const anyone = "a-producer-that-no-table-names"
	if events.MaySay(anyone, d.Type) != (len(m.Producers) == 0) {
		t.Errorf("asyncapi.yaml: message %s: x-producers is %v, but that anyone may say it is %v", key, m.Producers, len(m.Producers) != 0)
	}
	for _, p := range m.Producers {
		if !events.MaySay(events.Producer(p), d.Type) {
			t.Errorf("asyncapi.yaml: message %s: fold-v1 does not let %s say it", key, p)
		}
	}
}
