package e2e

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"vaultmesh.cloud/vaultmesh/e2e/internal/harness"
)

var update = flag.Bool("update", false, "write what the programs print into the scripts")

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// TestScripts runs the command lines. A layer's scripts stand in a folder of
// its own, which goes when the layer goes.
func TestScripts(t *testing.T) {
	var files []string
	for _, pattern := range []string{"testdata/script/*.txtar", "*/testdata/*.txtar"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) > 0 {
		harness.Run(t, harness.Options{Files: files, Update: *update})
	}
}
