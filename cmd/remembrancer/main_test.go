package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHelpAndUsage(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for args, want := range map[string]int{
		"--help":                    0,
		"--version":                 0,
		"record deploy --help":      0,
		"nonsense":                  2,
		"record":                    2,
		"record deploy":             2,
		"verify-full":               2,
		"verify-full x --nope":      2,
		"verify-full not-there.txt": 3,
	} {
		var out, errs bytes.Buffer
		code := run(context.Background(), strings.Fields(args+" --data "+data), strings.NewReader(""), &out, &errs, nil)
		if code != want {
			t.Errorf("remembrancer %s: exit code %d, want %d: %s", args, code, want, errs.String())
		}
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("a data directory was made: %v", err)
	}
}

// TestOriginalVectors verifies what the original project left, with the program
// as a stranger would run it: without a node.
func TestOriginalVectors(t *testing.T) {
	dir := "../../projections/remembrancer/proof/testdata/original/"
	data := filepath.Join(t.TempDir(), "data")
	for _, file := range []string{"SOVEREIGN_LORE_CODEX_V1.md", "test-app.tar.gz"} {
		var out, errs bytes.Buffer
		code := run(context.Background(), []string{
			"verify-full", dir + file, "--data", data, "--allow-missing", "inclusion",
			"--key-file", dir + "recovered-pubkey-6E4082C6A410F340.asc", "--tsa-ca", dir + "freetsa-root-from-token.pem",
		}, nil, &out, &errs, nil)
		if code != 0 || !strings.Contains(out.String(), "verified: "+file) {
			t.Errorf("verify-full %s: exit code %d\n%s%s", file, code, out.String(), errs.String())
		}
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("a data directory was made: %v", err)
	}
}
