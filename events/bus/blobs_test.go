package bus_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vaultmesh.cloud/vaultmesh/events/bus"
)

func TestBlobs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	s, err := bus.OpenBlobs(dir, nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "hello", strings.Repeat("x", 100)} {
		for range 2 {
			d, err := s.Put(t.Context(), []byte(text))
			if err != nil || d != bus.DigestOf([]byte(text)) {
				t.Fatal(d, err)
			}
			if b, err := s.Get(t.Context(), d); err != nil || string(b) != text {
				t.Errorf("%q, %v", b, err)
			}
			if ok, err := s.Has(t.Context(), d); err != nil || !ok {
				t.Error(ok, err)
			}
		}
	}
	d := bus.DigestOf([]byte("hello"))
	path := filepath.Join(dir, string(d[:2]), string(d))
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700, dir: 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Error(p, info.Mode(), err)
		}
	}
	if err := os.WriteFile(path, []byte("hellx"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), d); !errors.Is(err, bus.ErrCorrupt) {
		t.Error(err)
	}
	if _, err := s.Put(t.Context(), []byte("hello")); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), d); err != nil {
		t.Error("Put did not mend a damaged blob:", err)
	}
	if _, err := s.Put(t.Context(), make([]byte, 101)); !errors.Is(err, bus.ErrTooLarge) {
		t.Error(err)
	}
	for _, d := range []bus.Digest{"", "../../etc/passwd", bus.DigestOf([]byte("none")), bus.Digest(strings.ToUpper(string(d)))} {
		if _, err := s.Get(t.Context(), d); !errors.Is(err, bus.ErrNoBlob) {
			t.Errorf("%q: %v", d, err)
		}
		if ok, err := s.Has(t.Context(), d); err != nil || ok {
			t.Errorf("%q: %t %v", d, ok, err)
		}
	}
}

// TestBlobsCrash cuts the power at random: what Put promised is whole, and what it
// did not promise is whole or absent.
func TestBlobsCrash(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		fs := newFaultFS()
		s, err := bus.OpenBlobs("blobs", fs, 0)
		if err != nil {
			t.Fatal(err)
		}
		fs.failSync, fs.failWrite = r.IntN(12), r.IntN(12)
		promised := map[bus.Digest]bool{}
		for range 10 {
			b := make([]byte, r.IntN(500))
			for i := range b {
				b[i] = byte(r.Int())
			}
			d, err := s.Put(t.Context(), b)
			promised[bus.DigestOf(b)] = err == nil
			if err != nil && d != "" {
				t.Error("a digest with an error")
			}
		}
		if s, err = bus.OpenBlobs("blobs", fs.crash(r, r.Float64()), 0); err != nil {
			t.Fatal(err)
		}
		for d, kept := range promised {
			if _, err := s.Get(t.Context(), d); err != nil && (kept || !errors.Is(err, bus.ErrNoBlob)) {
				t.Fatalf("seed %d: promised %t: %v", seed, kept, err)
			}
		}
	}
}
