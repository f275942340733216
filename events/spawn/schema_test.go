package spawn

import (
	"testing"

	"vaultmesh.cloud/vaultmesh/events/eventstest"
)

func TestSchemas(t *testing.T) {
	eventstest.SchemaAgrees(t, "spawn", eventstest.Definitions(t, Definitions()))
}

func FuzzSchemas(f *testing.F) {
	eventstest.FuzzSchema(f, eventstest.Definitions(f, Definitions()))
}

func BenchmarkCheck(b *testing.B) {
	eventstest.BenchmarkCheck(b, eventstest.Definitions(b, Definitions()))
}
