package remembrancer

import (
	"testing"

	"vaultmesh.cloud/vaultmesh/events/eventstest"
)

func TestDocumented(t *testing.T) {
	eventstest.Documented(t, "remembrancer", Definitions())
}
