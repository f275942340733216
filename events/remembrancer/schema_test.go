package remembrancer

import (
	"testing"

	"vaultmesh.cloud/vaultmesh/events/eventstest"
)

// subjects are the layer's events and the messages of HEADS and SEALS.
func subjects(t testing.TB) []eventstest.Subject {
	return append(eventstest.Definitions(t, Definitions()),
		eventstest.Subject{Schema: "remembrancer/head.v1.json", Value: Head{}, Check: func(b []byte) error { _, err := ParseHead(b); return err }},
		eventstest.Subject{Schema: "remembrancer/seal.v1.json", Value: Seal{}, Check: func(b []byte) error { _, err := ParseSeal(b); return err }},
	)
}

func TestSchemas(t *testing.T) { eventstest.SchemaAgrees(t, "remembrancer", subjects(t)) }

func FuzzSchemas(f *testing.F) { eventstest.FuzzSchema(f, subjects(f)) }

func BenchmarkCheck(b *testing.B) { eventstest.BenchmarkCheck(b, subjects(b)) }
