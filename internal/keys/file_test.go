package keys

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestSecretRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := WriteSecret(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if err := WriteSecret(path, []byte("two")); !errors.Is(err, ErrExists) {
		t.Errorf("overwrites unasked: %v", err)
	}
	if got, err := ReadSecret(path); err != nil || string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
	if err := ReplaceSecret(path, []byte("three")); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadSecret(path); err != nil || string(got) != "three" {
		t.Errorf("%q, %v", got, err)
	}
	left, _ := os.ReadDir(filepath.Dir(path))
	if len(left) != 1 {
		t.Errorf("temporary files stay: %v", left)
	}
}

func TestOneOfManyWritersWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			switch err := WriteSecret(path, bytes.Repeat([]byte{byte('a' + i)}, 1000)); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, ErrExists):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := ReadSecret(path)
	if err != nil || won.Load() != 1 || !bytes.Equal(got, bytes.Repeat(got[:1], 1000)) {
		t.Errorf("%d writers won, %v", won.Load(), err)
	}
}

func TestSecretsAreRefused(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode fs.FileMode, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", 0o400, []byte("x"))
	link := filepath.Join(dir, "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		want       error
	}{
		{"read-only", good, nil},
		{"group may read", file("group", 0o640, []byte("x")), ErrExposed},
		{"all may read", file("all", 0o604, []byte("x")), ErrExposed},
		{"group may write", file("write", 0o620, []byte("x")), ErrExposed},
		{"link", link, ErrNotPlain},
		{"directory", dir, ErrNotPlain},
		{"device", os.DevNull, ErrNotPlain},
		{"empty", file("empty", 0o600, nil), ErrSize},
		{"large", file("large", 0o600, make([]byte, MaxSecretBytes+1)), ErrSize},
		{"missing", filepath.Join(dir, "none"), fs.ErrNotExist},
	} {
		if _, err := ReadSecret(c.path); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	_, err := ReadSecret(filepath.Join(dir, "group"))
	if !strings.Contains(err.Error(), "chmod 600 ") || strings.Contains(err.Error(), "\"x\"") {
		t.Errorf("does not say how to mend it: %v", err)
	}
	for name, data := range map[string][]byte{"empty": nil, "large": make([]byte, MaxSecretBytes+1)} {
		if err := WriteSecret(filepath.Join(dir, "new"), data); !errors.Is(err, ErrSize) {
			t.Errorf("writes %s: %v", name, err)
		}
	}
	if err := WriteSecret(filepath.Join(dir, "none", "key"), []byte("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
