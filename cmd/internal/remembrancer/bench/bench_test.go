package bench

import (
	"testing"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/cmd/internal/remembrancer/node"
)

// TestRun runs the whole measurement, small: every event is published, folded,
// sealed, and has its verified receipt.
func TestRun(t *testing.T) {
	res, err := Run(t.Context(), Options{Dir: t.TempDir(), Events: 3000, Size: 600, Rate: 500, Seconds: 1, Layers: []daemon.Layer{node.Layer()}})
	if err != nil {
		t.Fatal(err)
	}
	if res.ReceiptsVerified != 500 || res.PublishedPerSecond <= 0 || res.FoldedPerSecond <= 0 || res.SealedPerSecond <= 0 || res.BaselinePerSecond <= 0 || res.ReceiptP50Seconds <= 0 {
		t.Errorf("%+v", res)
	}
}
