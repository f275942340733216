package spawn

import (
	"testing"

	"vaultmesh.cloud/vaultmesh/events/eventstest"
)

func TestDocumented(t *testing.T) {
	eventstest.Documented(t, "spawn", Definitions())
}
