package bundle

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

// Read must survive anything; what it accepts must stand the whole verification
// and come back as the same bundle.
func FuzzRead(f *testing.F) {
	w := newWorld(f, "a")
	files, err := w.standard().files()
	must(f, err)
	f.Add(gunzip(f, pack(f, entriesOf(files)...)))
	f.Add(gunzip(f, pack(f, file("../x", nil))))
	f.Add(gunzip(f, pack(f, file(manifestPath, files[manifestPath]))))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		Read(bytes.NewReader(content), Limits{}) // as gzip
		b, err := Read(bytes.NewReader(gz(t, content)), Limits{})
		if err != nil {
			if !errors.Is(err, ErrRefused) && !errors.Is(err, ErrVersion) {
				t.Fatalf("%v is neither refused nor a later version", err)
			}
			return
		}
		if _, err := Verify(context.Background(), b, given(), Trust{}); err != nil {
			t.Fatalf("no verdict: %v", err)
		}
		if _, err := open(b.files); err != nil {
			t.Fatalf("does not open again: %v", err)
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	files, err := newWorld(f, "a").standard().files()
	must(f, err)
	f.Add(files[manifestPath])
	f.Add([]byte(`{"format":"vaultmesh.cloud/proof-bundle/v2"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err != nil {
			return
		}
		if again, err := m.marshal(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s comes back as %s, %v", b, again, err)
		}
	})
}
