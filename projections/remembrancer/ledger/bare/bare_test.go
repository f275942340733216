package bare

import (
	"path/filepath"
	"testing"

	"vaultmesh.cloud/vaultmesh/events/bus/bustest"
)

func TestRun(t *testing.T) {
	b := bustest.Start(t)
	took, err := Run(t.Context(), b.Conn, filepath.Join(t.TempDir(), "bare"), 2500, 300)
	if err != nil || took <= 0 {
		t.Fatal(took, err)
	}
	// The stream is gone: it can run again.
	if _, err := Run(t.Context(), b.Conn, filepath.Join(t.TempDir(), "bare"), 10, 300); err != nil {
		t.Fatal(err)
	}
}
