package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vaultmesh.cloud/vaultmesh/e2e/internal/document"
	"vaultmesh.cloud/vaultmesh/e2e/internal/harness"
)

// documents are the texts whose commands readers copy.
func documents(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, top := range []string{"README.md", "CONTRIBUTING.md", "docs"} {
		err := filepath.WalkDir(filepath.Join("..", top), func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && filepath.Ext(name) == ".md" {
				files = append(files, name)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return files
}

// extract writes a script for each group of a document into dir, and returns
// their names with what is wrong with the document.
func extract(file, dir string) ([]string, []string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	shown := strings.TrimPrefix(filepath.ToSlash(file), "../")
	groups, errs := document.Parse(string(text))
	var wrong []string
	for _, e := range errs {
		wrong = append(wrong, fmt.Sprintf("%s:%d: %s", shown, e.Line, e.What))
	}
	var scripts []string
	for _, g := range groups {
		base := strings.NewReplacer("/", "-", ".md", "").Replace(shown)
		name := filepath.Join(dir, base+"-"+g.Name+".txtar")
		if err := os.WriteFile(name, g.Script(shown), 0o600); err != nil {
			return nil, nil, err
		}
		scripts = append(scripts, name)
	}
	return scripts, wrong, nil
}

// TestDocuments runs what README and docs show. How to mark a block is told in
// e2e/internal/document.
func TestDocuments(t *testing.T) {
	var scripts []string
	for _, file := range documents(t) {
		found, wrong, err := extract(file, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range wrong {
			t.Error(w)
		}
		scripts = append(scripts, found...)
	}
	if testing.Short() {
		// The documents are about the whole; -short is for a tree without a layer.
		t.Skip("only the comments were checked")
	}
	if len(scripts) > 0 {
		harness.Run(t, harness.Options{Files: scripts})
	}
}

// TestDocumentFixtures shows that the way from a document to a run works, and
// that it fails where it must.
func TestDocumentFixtures(t *testing.T) {
	scripts, wrong, err := extract("testdata/docs/good.md", t.TempDir())
	if err != nil || len(wrong) > 0 || len(scripts) != 2 {
		t.Fatalf("%v, %v, %v", scripts, wrong, err)
	}
	harness.Run(t, harness.Options{Files: scripts, Bare: true})

	_, wrong, err = extract("testdata/docs/bad.md", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(wrong, "\n")
	for _, want := range []string{"bad.md:5: a block of commands needs", "bad.md:9: no-test needs a reason"} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant %s", got, want)
		}
	}
}
