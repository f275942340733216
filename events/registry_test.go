package events

import (
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"
)

// The two versions of a fact that learned to count.
type countV1 struct {
	Number string `json:"number"`
}

func (*countV1) EventType() Type { return "cloud.vaultmesh.slo.counted.v1" }
func (*countV1) Entity() string  { return "count" }
func (p *countV1) Check() error {
	if p.Number == "" {
		return errors.New("number is missing")
	}
	return nil
}

type countV2 struct {
	Number int64 `json:"number"`
}

func (*countV2) EventType() Type { return "cloud.vaultmesh.slo.counted.v2" }
func (*countV2) Entity() string  { return "count" }
func (p *countV2) Check() error  { return nil }

func registry(t *testing.T) *Registry {
	t.Helper()
	r, err := NewRegistry([]Definition{
		{Type: "cloud.vaultmesh.slo.counted.v1", Schema: "x/counted.v1.json", New: func() Payload { return new(countV1) },
			Upcast: func(data json.RawMessage) (Type, json.RawMessage, error) {
				var old countV1
				if err := json.Unmarshal(data, &old); err != nil {
					return "", nil, err
				}
				n, err := strconv.ParseInt(old.Number, 10, 64)
				if err != nil {
					return "", nil, err
				}
				b, err := json.Marshal(countV2{n})
				return "cloud.vaultmesh.slo.counted.v2", b, err
			}},
		{Type: "cloud.vaultmesh.slo.counted.v2", Schema: "x/counted.v2.json", New: func() Payload { return new(countV2) }},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestUpcast reads an old version as the newest; the stored bytes do not change.
func TestUpcast(t *testing.T) {
	r := registry(t)
	e, err := r.New(&countV1{"42"}, Origin{ID: "a", Source: "/observe", Time: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	before := string(e.Data)
	p, err := r.Decode(e)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := p.(*countV2); !ok || got.Number != 42 || string(e.Data) != before {
		t.Errorf("decoded %#v, data now %s", p, e.Data)
	}
	e.Data = json.RawMessage(`{"number":"many"}`)
	if _, err := r.Decode(e); err == nil {
		t.Error("what cannot be upcast was decoded")
	}
	if err := r.Check(e); err != nil {
		t.Errorf("the verdict is about the version that was published: %v", err)
	}
	e.Data = json.RawMessage(`{"number":"42","colour":"red"}`)
	if _, err := r.Decode(e); !errors.Is(err, ErrInvalidData) {
		t.Errorf("an unknown member: %v", err)
	}
	e.Type = "cloud.vaultmesh.slo.counted.v3"
	if _, err := r.Decode(e); !errors.Is(err, ErrUnknownType) {
		t.Errorf("a version of the future: %v", err)
	}
}

func TestRegistryRefusesBadDefinitions(t *testing.T) {
	good := Definition{Type: "cloud.vaultmesh.slo.counted.v2", Schema: "s", New: func() Payload { return new(countV2) }}
	for name, defs := range map[string][]Definition{
		"twice":     {good, good},
		"no schema": {{Type: good.Type, New: good.New}},
		"no type":   {{Schema: "s", New: good.New}},
		"no New":    {{Type: good.Type, Schema: "s"}},
	} {
		if _, err := NewRegistry(defs); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
