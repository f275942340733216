package remembrancer

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/internal/keys"
)

// A desk is one user's machine: a data directory, a working directory, a node.
type desk struct {
	t       testing.TB
	node    *fakeNode
	base    string
	data    string
	dir     string
	dials   int
	stdin   string
	gpgHome string
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	d := &desk{t: t, node: newFake(t), data: filepath.Join(t.TempDir(), "data"), dir: t.TempDir()}
	d.base = d.node.server().URL
	secret, err := d.node.operator.Armor()
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(d.data, "keys"), 0o700))
	must(t, keys.WriteSecret(filepath.Join(d.data, "keys", "operator.key"), secret))
	return d
}

// file writes a file of the working directory and returns its path.
func (d *desk) file(name, content string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	must(d.t, os.WriteFile(path, []byte(content), 0o644))
	return path
}

func (d *desk) run(args ...string) (code int, stdout, stderr string) {
	d.t.Helper()
	var out, errs bytes.Buffer
	t := term.New(&out, &errs, func(string) string { return "" })
	deps := Deps{
		Term: t,
		Dial: func(context.Context) (*Conn, error) {
			d.dials++
			return &Conn{HTTP: http.DefaultClient, Base: d.base}, nil
		},
		Dir:   func() (string, error) { return d.data, nil },
		GPG:   keys.GPGOptions{Home: d.gpgHome},
		Stdin: strings.NewReader(d.stdin), Clock: time.Now, Rand: rand.Reader,
	}
	root := &cobra.Command{Use: "remembrancer"}
	root.AddCommand(Commands(deps)...)
	code = t.Run(context.Background(), root, args)
	return code, out.String(), errs.String()
}

// want runs and demands an exit code and parts of the output.
func (d *desk) want(code int, args []string, parts ...string) string {
	d.t.Helper()
	got, stdout, stderr := d.run(args...)
	if got != code {
		d.t.Fatalf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, stdout, stderr)
	}
	for _, p := range parts {
		if !strings.Contains(stdout+stderr, p) {
			d.t.Errorf("%s: no %q in\n%s%s", strings.Join(args, " "), p, stdout, stderr)
		}
	}
	return stdout
}

func args(s ...string) []string { return slices.Clone(s) }
