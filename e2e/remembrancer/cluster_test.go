package remembrancer

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/e2e/internal/harness"
)

// TestFoldingBesideASealer runs a second node on the broker of the first, with
// the log's public key only: it computes the same root, serves the same
// checkpoint, and signs nothing.
func TestFoldingBesideASealer(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	sealer := start(t, a, "127.0.0.1:0", "127.0.0.1:0")
	if err := os.Mkdir(filepath.Join(b, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"log.vkey", "operator.asc", "node.asc"} {
		key, err := os.ReadFile(filepath.Join(a, "keys", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b, "keys", name), key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(b, 0o700); err != nil {
		t.Fatal(err)
	}
	folder := run(t, "run", "--data", b, "--http", "127.0.0.1:0", "--nats", sealer.NATS, "--creds", filepath.Join(a, "creds", "admin.creds"), "--roles", "fold,serve", "--replicas", "1")
	for range 3 {
		out, err := exec.CommandContext(t.Context(), filepath.Join(harness.Binaries(t), "remembrancer"), "record", "deploy", "--component", "api", "--version", "v1", "--data", a).CombinedOutput()
		if err != nil {
			t.Fatalf("record: %v\n%s", err, out)
		}
	}
	for range 200 {
		if bytes.Equal(get(t, sealer.HTTP+"/checkpoint"), get(t, folder.HTTP+"/checkpoint")) && root(t, sealer) == root(t, folder) {
			if _, err := os.Stat(filepath.Join(b, "keys", "signed.json")); !os.IsNotExist(err) {
				t.Errorf("the folding node signed: %v", err)
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("roots differ: %s and %s", root(t, sealer), root(t, folder))
}

func root(t *testing.T, n *node) string {
	t.Helper()
	var s struct {
		Root string `json:"root"`
	}
	if err := json.Unmarshal(get(t, n.HTTP+"/v1/node"), &s); err != nil || s.Root == "" {
		t.Fatalf("no root: %v", err)
	}
	return s.Root
}
