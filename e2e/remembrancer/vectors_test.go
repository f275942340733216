package remembrancer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"vaultmesh.cloud/vaultmesh/e2e/internal/harness"
)

// command runs a program of the tree in a folder, without any variable that
// names a node, and returns its output and exit code.
func command(t *testing.T, dir, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(harness.Binaries(t), name), args...)
	home := t.TempDir()
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TZ=UTC"}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// published is what the original project published: two files with signatures
// and tokens that VaultMesh did not write.
func published(t *testing.T) string {
	t.Helper()
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "projections/remembrancer/proof/testdata/original"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// verdict is the exit code of verify-full without a node, and how each link stands.
func verdict(t *testing.T, dir, file string) (int, map[string]string) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	out, errs, code := command(t, dir, "remembrancer", "verify-full", file, "--data", data, "-o", "json",
		"--key-file", "recovered-pubkey-6E4082C6A410F340.asc", "--tsa-ca", "freetsa-root-from-token.pem", "--allow-missing", "inclusion")
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("verify-full made a data directory: %v", err)
	}
	var report struct {
		Verified bool `json:"verified"`
		Links    []struct{ Name, Status string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Verified != (code == 0) {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	links := map[string]string{}
	for _, l := range report.Links {
		links[l.Name] = l.Status
	}
	return code, links
}

// edit changes a file by fn.
func edit(t *testing.T, name string, fn func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, fn(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// packet changes one byte of the signature packet inside an armor, whose
// checksum is right again afterwards.
func packet(t *testing.T, asc []byte, fn func([]byte)) []byte {
	t.Helper()
	block, err := armor.Decode(bytes.NewReader(asc))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(block.Body)
	if err != nil {
		t.Fatal(err)
	}
	fn(body)
	var out bytes.Buffer
	w, err := armor.Encode(&out, block.Type, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestPublishedBefore verifies what another program made, with
// no node and no data directory, and refuses it with one byte changed.
func TestPublishedBefore(t *testing.T) {
	for _, c := range []struct{ file, time string }{
		{"test-app.tar.gz", "20251019201618Z"}, {"SOVEREIGN_LORE_CODEX_V1.md", "20251019231406Z"},
	} {
		t.Run(c.file, func(t *testing.T) {
			code, links := verdict(t, published(t), c.file)
			if code != 0 || links["signature"] != "ok" || links["token"] != "ok" || links["digest"] != "allowed" || links["inclusion"] != "allowed" {
				t.Errorf("exit %d, %v", code, links)
			}
			same := func(b []byte) []byte { return packet(t, b, func([]byte) {}) }
			for _, f := range []struct {
				name, suffix string
				change       func([]byte) []byte
				code         int
				wrong        []string
			}{
				{"nothing but the armor", ".asc", same, 0, nil},
				{"the file", "", func(b []byte) []byte { b[3] ^= 1; return b }, 4, []string{"signature", "token"}},
				// A v4 signature packet: 3 bytes of header, version, type, two
				// algorithms, 2 bytes of length, the issuer's subpacket of 23 bytes,
				// and the time, whose last byte is at 37 (RFC 4880, section 5.2.3).
				{"the signature's time", ".asc", func(b []byte) []byte {
					return packet(t, b, func(p []byte) {
						if p[3] != 4 || p[33] != 2 {
							t.Fatalf("no such packet: %x", p[:40])
						}
						p[37] ^= 1
					})
				}, 4, []string{"signature"}},
				{"the signature's number", ".asc", func(b []byte) []byte { return packet(t, b, func(p []byte) { p[len(p)-1] ^= 1 }) }, 4, []string{"signature"}},
				{"the token's time", ".tsr", func(b []byte) []byte {
					at := bytes.Index(b, []byte(c.time))
					if at < 0 {
						t.Fatal("the token has another time")
					}
					b[at+13] ^= 1
					return b
				}, 4, []string{"token"}},
				{"the token's signature", ".tsr", func(b []byte) []byte { b[len(b)-9] ^= 1; return b }, 4, []string{"token"}},
			} {
				t.Run(f.name, func(t *testing.T) {
					dir := published(t)
					edit(t, filepath.Join(dir, c.file+f.suffix), f.change)
					code, links := verdict(t, dir, c.file)
					if code != f.code {
						t.Errorf("exit %d, wanted %d: %v", code, f.code, links)
					}
					for _, l := range []string{"signature", "token"} {
						want := "ok"
						for _, w := range f.wrong {
							if w == l {
								want = "failed"
							}
						}
						if links[l] != want {
							t.Errorf("%s is %s, wanted %s", l, links[l], want)
						}
					}
				})
			}
		})
	}
}
