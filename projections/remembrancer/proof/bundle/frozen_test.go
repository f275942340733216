package bundle

import (
	"bytes"
	"context"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("freeze", false, "write testdata/app.tar.proof.tgz anew")

// A bundle that an earlier release wrote must verify for ever. Never update the
// file because this test fails; it is for a first version only.
func TestFrozenBundleStillVerifies(t *testing.T) {
	const path = "testdata/app.tar.proof.tgz"
	if *update {
		must(t, os.WriteFile(path, write(t, newWorld(t, "a").standard()), 0o644))
	}
	raw, err := os.ReadFile(path)
	must(t, err)
	r, err := Verify(context.Background(), read(t, raw), Subject{Data: bytes.NewReader(artifact)}, Trust{})
	must(t, err)
	if !r.Verified {
		t.Error(r.Err())
	}
}
