// Package asyncapi parses the AsyncAPI document of the bus with the reference
// parser, which runs on Node. That the document says what the Go types say is
// for the tests of events/.
package asyncapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"vaultmesh.cloud/vaultmesh/consumers"
	"vaultmesh.cloud/vaultmesh/schemas"
)

const document = "asyncapi.yaml"

// A verdict is what check.mjs prints of a document.
type verdict struct {
	Diagnostics []struct {
		Code     string `json:"code"`
		Message  string `json:"message"`
		Path     string `json:"path"`
		Severity int    `json:"severity"` // 0 is an error, 1 a warning
	} `json:"diagnostics"`
	Channels []string `json:"channels"` // addresses
	Messages []string `json:"messages"` // names
}

func (v verdict) errors() (out []string) {
	for _, d := range v.Diagnostics {
		if d.Severity == 0 {
			out = append(out, d.Path+": "+d.Message+" ["+d.Code+"]")
		}
	}
	return out
}

// TestDocument parses the document of whatever layers are there.
func TestDocument(t *testing.T) {
	modules := install(t)
	v := parse(t, modules, copyTree(t, nil))[0]
	for _, e := range v.errors() {
		t.Error(e)
	}
	if len(v.Channels) == 0 || len(v.Messages) == 0 {
		t.Errorf("the parser saw the channels %v and the messages %v", v.Channels, v.Messages)
	}
}

// TestFewerLayers removes the upper layers from a copy: what stays must parse,
// and must name nothing of what went.
func TestFewerLayers(t *testing.T) {
	modules := install(t)
	_, err := fs.Stat(schemas.Files, "remembrancer")
	remembers := err == nil // it may have gone already
	for i, v := range parse(t, modules, copyTree(t, []string{"aurora"}), copyTree(t, []string{"aurora", "remembrancer"})) {
		for _, e := range v.errors() {
			t.Errorf("%d layers less: %s", i+1, e)
		}
		for name, want := range map[string]bool{
			"cloud.vaultmesh.route.decided.v1":   false,
			"cloud.vaultmesh.deploy.recorded.v1": i == 0 && remembers,
			"cloud.vaultmesh.service.spawned.v1": true,
		} {
			if slices.Contains(v.Messages, name) != want {
				t.Errorf("%d layers less: the message %s is there: %v", i+1, name, !want)
			}
		}
	}
}

// TestFaults shows that the parser finds what it is here to find.
func TestFaults(t *testing.T) {
	modules := install(t)
	faults := []struct{ name, old, new string }{
		{"no such file", "./spawn/service.spawned.v1.json", "./spawn/service.spawned.v9.json"},
		{"no such channel", "#/channels/heads", "#/channels/feet"},
		{"unknown action", "action: send", "action: shout"},
		{"no info", "info:", "x-info:"},
	}
	var dirs []string
	for _, f := range faults {
		dir := copyTree(t, nil)
		file := filepath.Join(dir, document)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		broken := bytes.Replace(b, []byte(f.old), []byte(f.new), 1)
		if bytes.Equal(broken, b) {
			t.Fatalf("%q is not in the document", f.old)
		}
		write(t, file, broken)
		dirs = append(dirs, dir)
	}
	for i, v := range parse(t, modules, dirs...) {
		if len(v.errors()) == 0 {
			t.Errorf("%s: the parser finds no fault", faults[i].name)
		}
	}
}

// TestDeadLetter holds the letter's schema to its Go type.
func TestDeadLetter(t *testing.T) {
	var doc struct {
		Components struct {
			Messages struct {
				Letter struct {
					Payload struct {
						Required   []string       `yaml:"required"`
						Properties map[string]any `yaml:"properties"`
					} `yaml:"payload"`
				} `yaml:"letter"`
			} `yaml:"messages"`
		} `yaml:"components"`
	}
	b, err := fs.ReadFile(schemas.Files, document)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	letter := doc.Components.Messages.Letter.Payload
	typ := reflect.TypeFor[consumers.DeadLetter]()
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if letter.Properties[name] == nil || !slices.Contains(letter.Required, name) {
			t.Errorf("field %s of %s is no required property", name, typ)
		}
	}
	if n := typ.NumField(); len(letter.Properties) != n || len(letter.Required) != n {
		t.Errorf("the schema has %d properties, %s has %d fields", len(letter.Properties), typ, n)
	}
}

// copyTree writes the schemas to a folder, without some layers, and without the
// messages of layers that are not there.
func copyTree(t *testing.T, without []string) string {
	t.Helper()
	dir := t.TempDir()
	there := map[string]bool{}
	err := fs.WalkDir(schemas.Files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		if d.IsDir() {
			if slices.Contains(without, path) {
				return fs.SkipDir
			}
			there[path] = true
			return os.Mkdir(filepath.Join(dir, path), 0o755)
		}
		b, err := fs.ReadFile(schemas.Files, path)
		if err == nil && path != document {
			write(t, filepath.Join(dir, path), b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := fs.ReadFile(schemas.Files, document)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, document), trim(t, b, there))
	return dir
}

// trim drops the messages whose payload is in a folder that is not there.
func trim(t *testing.T, b []byte, there map[string]bool) []byte {
	t.Helper()
	var doc map[string]any
	if err := yaml.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	gone := map[string]bool{} // pointers to the messages
	all := object(object(doc["components"])["messages"])
	for key, m := range all {
		if missing(object(m)["payload"], there) {
			delete(all, key)
			gone["#/components/messages/"+key] = true
		}
	}
	if len(gone) == 0 {
		return b
	}
	for _, c := range object(doc["channels"]) {
		refs := object(object(c)["messages"])
		for key, r := range refs {
			if to, _ := object(r)["$ref"].(string); gone[to] {
				delete(refs, key)
			}
		}
	}
	out, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// missing reports whether something below v points into a folder that is not
// there.
func missing(v any, there map[string]bool) bool {
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			if to, ok := below.(string); ok && key == "$ref" && strings.HasPrefix(to, "./") && !there[filepath.Base(filepath.Dir(to))] {
				return true
			}
			if missing(below, there) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, func(below any) bool { return missing(below, there) })
	}
	return false
}

func object(v any) map[string]any { m, _ := v.(map[string]any); return m }

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// parse parses the documents in the folders.
func parse(t *testing.T, modules string, dirs ...string) []verdict {
	t.Helper()
	args := []string{"check.mjs", modules}
	for _, dir := range dirs {
		args = append(args, filepath.Join(dir, document))
	}
	out := run(t, ".", "node", args...)
	var v []verdict
	if err := json.Unmarshal(out, &v); err != nil || len(v) != len(dirs) {
		t.Fatalf("%v in %s", err, out)
	}
	return v
}

// install brings the packages of the lock file into a folder of the user's
// cache, named by the lock's digest, and returns it. No package's scripts run.
func install(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("installs packages and runs Node")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	files := map[string][]byte{}
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(b)
		files[name] = b
	}
	parent := filepath.Join(cache, "vaultmesh-e2e")
	dir := filepath.Join(parent, "asyncapi-"+hex.EncodeToString(h.Sum(nil))[:16])
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	// Complete or absent: another run of this test may install at the same time.
	fresh, err := os.MkdirTemp(parent, "installing-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(fresh) }) // gone if it was renamed
	for name, b := range files {
		write(t, filepath.Join(fresh, name), b)
	}
	run(t, fresh, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v (this test needs Node 20 and npm)\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return out
}
