package e2e

import (
	"path/filepath"
	"testing"

	"vaultmesh.cloud/vaultmesh/e2e/internal/arch"
)

// TestArchitecture holds the whole tree to the rules of CONTRIBUTING.md. That
// each of them can fail is shown in e2e/internal/arch.
func TestArchitecture(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	pkgs, err := arch.Scan(root)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range pkgs {
		seen[p.Path] = true
	}
	// A scan that missed the tree would find nothing wrong with it.
	for _, path := range []string{"events", "events/canon", "e2e/internal/arch"} {
		if !seen[path] {
			t.Errorf("the scan of %s missed %s", root, path)
		}
	}
	for _, f := range arch.Check(pkgs) {
		t.Error(f)
	}
}
