package eventstest

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"vaultmesh.cloud/vaultmesh/events"
)

// TestEnvelope compares the schema of the envelope with fold-v1. fold-v1 counts
// the bytes of two attributes, of which a schema can only count the characters.
func TestEnvelope(t *testing.T) {
	s := load(t, Subject{Schema: "envelope/envelope.v1.json", Check: func(data []byte) error {
		_, _, err := events.Parse(data)
		return err
	}})
	strict := s.Check
	s.Check = func(data []byte) error {
		// The schema sees characters: give fold-v1 as many bytes.
		var e map[string]any
		if json.Unmarshal(data, &e) != nil {
			return strict(data)
		}
		for _, name := range []string{"subject", "tracestate"} {
			if v, ok := e[name].(string); ok && v != "" {
				e[name] = strings.Repeat("x", utf8.RuneCountInString(v))
			}
		}
		same, err := json.Marshal(e)
		if err != nil {
			return err
		}
		return strict(same)
	}
	for i, data := range s.examples {
		if err := strict(data); err != nil {
			t.Errorf("example %d: %v", i, err)
		}
	}
	s.mutate(t)
	s.random(t)
}
