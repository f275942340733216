package bundle

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
)

// commands extracts what a reader of the page would paste into a shell.
func commands(t testing.TB, guide []byte) string {
	t.Helper()
	var out strings.Builder
	inside := false
	for line := range strings.Lines(string(guide)) {
		switch {
		case line == "```sh\n":
			inside = true
		case line == "```\n":
			inside = false
		case inside:
			out.WriteString(line)
		}
	}
	if out.Len() == 0 || inside {
		t.Fatalf("no commands in\n%s", guide)
	}
	return out.String()
}

// unpacked is a folder with the artifact and, below it, the unpacked bundle.
type unpacked struct {
	t     testing.TB
	dir   string
	name  string
	files map[string][]byte
}

func unpack(t testing.TB, c Contents) *unpacked {
	t.Helper()
	for _, tool := range []string{"gpg", "openssl", "sha256sum", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("the page promises that these suffice: %v", err)
		}
	}
	// Not t.TempDir: gpg's sockets need a short path.
	dir, err := os.MkdirTemp("", "v")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	u := &unpacked{t, dir, c.Artifact.Name, read(t, write(t, c)).files}
	must(t, os.WriteFile(filepath.Join(dir, u.name), artifact, 0o600))
	for path, b := range u.files {
		u.put(path, b)
	}
	return u
}

func (u *unpacked) put(path string, b []byte) {
	u.t.Helper()
	to := filepath.Join(u.dir, "bundle", filepath.FromSlash(path))
	must(u.t, os.MkdirAll(filepath.Dir(to), 0o700))
	must(u.t, os.WriteFile(to, b, 0o600))
}

func (u *unpacked) run(script string) (string, error) {
	cmd := exec.Command("sh", "-eu", "-c", script)
	cmd.Dir = filepath.Join(u.dir, "bundle")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// A stranger needs nothing but the page.
func TestGuideProves(t *testing.T) {
	for name, make := range map[string]func(w *world) Contents{
		"standard":     (*world).standard,
		"other signer": func(w *world) Contents { return w.signedBy(w.other) },
		"hostile name": func(w *world) Contents {
			c := w.standard()
			c.Artifact.Name = "-it's $(touch owned) `touch owned` \"x\""
			return c
		},
		"called checkpoint": func(w *world) Contents {
			c := w.standard()
			c.Artifact.Name = "checkpoint"
			return c
		},
		"no tokens": func(w *world) Contents {
			c := w.standard()
			c.Token, c.CheckpointToken = nil, nil
			return c
		},
		"only the log": func(w *world) Contents {
			c := w.standard()
			c.Signature, c.Token, c.CheckpointToken, c.CheckpointSignature, c.OperatorKey, c.NodeKey, c.TSAChain = nil, nil, nil, nil, nil, nil, nil
			return c
		},
		"first leaf": func(w *world) Contents {
			w.entries = nil
			return w.contents(w.operator, w.add("artifact.signed", map[string]any{"sha256": hexSum(artifact), "fingerprint": w.operator.Fingerprint()}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := unpack(t, make(newWorld(t, "a")))
			if out, err := u.run(commands(t, u.files[guidePath])); err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, u.files[guidePath])
			}
			// The page's own one-liner.
			for line := range strings.Lines(string(u.files[guidePath])) {
				if _, cmd, ok := strings.Cut(line, "To run all of them: `"); ok {
					out, err := u.run(strings.TrimSuffix(cmd, "`\n"))
					if err != nil || !strings.HasSuffix(out, "PROVEN\n") {
						t.Errorf("%v\n%s", err, out)
					}
				}
			}
			if _, err := os.Stat(filepath.Join(u.dir, "bundle", "owned")); err == nil {
				t.Error("the file's name ran as a command")
			}
		})
	}
}

func TestGuideSeesEveryChange(t *testing.T) {
	u := unpack(t, newWorld(t, "a").standard())
	script := commands(t, u.files[guidePath])
	must(t, os.WriteFile(filepath.Join(u.dir, u.name), []byte("another\n"), 0o600))
	if out, err := u.run(script); err == nil {
		t.Errorf("another file passes\n%s", out)
	}
	must(t, os.WriteFile(filepath.Join(u.dir, u.name), artifact, 0o600))
	// Without the list of digests the evidence itself must still show it.
	begin, end := strings.Index(script, "sha256sum -c"), strings.Index(script, "\nEND\n")+len("\nEND\n")
	bare := script[:begin] + script[end:]
	if out, err := u.run(bare); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for path, b := range u.files {
		if path == manifestPath || path == guidePath {
			continue // the one is for programs, the other is the page
		}
		for _, at := range []int{len(b) / 4, len(b) * 3 / 4, telling(path, b)} {
			flipped := bytes.Clone(b)
			flipped[at] ^= 1
			u.put(path, flipped)
			if out, err := u.run(script); err == nil {
				t.Errorf("%s: byte %d (%q) flipped passes\n%s", path, at, b[at], out)
			}
			if _, err := u.run(bare); err == nil && path != chainPath && at == telling(path, b) {
				t.Errorf("%s: byte %d (%q) flipped passes without the list of digests", path, at, b[at])
			}
		}
		u.put(path, b)
	}
}

// telling is a byte that the evidence itself covers. A token also holds copies of
// certificates that openssl takes from the chain, so there it is the imprint.
func telling(path string, b []byte) int {
	if strings.HasSuffix(path, tokenSuffix) {
		return bytes.Index(b, []byte{4, 32}) + 2 // OCTET STRING of 32 bytes, RFC 3161 section 2.4.2
	}
	return len(b) / 2
}

// What the page must catch although every file is what the bundle's maker wrote.
func TestGuideRefusesForgeries(t *testing.T) {
	for name, change := range map[string]func(w, foreign *world, c *Contents){
		"signature over another":  func(w, _ *world, c *Contents) { c.Signature = w.sign(w.operator, []byte("x")) },
		"signed by the node":      func(w, _ *world, c *Contents) { c.Signature = w.sign(w.node, artifact) },
		"token over another":      func(w, _ *world, c *Contents) { c.Token = w.stamp([]byte("x"), start) },
		"token of another TSA":    func(_, f *world, c *Contents) { c.Token = f.stamp(artifact, start) },
		"seal over another":       func(w, _ *world, c *Contents) { c.CheckpointSignature = w.sign(w.node, []byte("x")) },
		"seal token over another": func(w, _ *world, c *Contents) { c.CheckpointToken = w.stamp([]byte("x"), start) },
		"node not certified":      func(w, _ *world, c *Contents) { c.NodeKey, _ = w.node.PublicArmor() },
		"event changed":           func(_, _ *world, c *Contents) { c.Events[0].Body = append(bytes.Clone(c.Events[0].Body), ' ') },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a")
			c := w.standard()
			change(w, newWorld(t, "b"), &c)
			u := unpack(t, c)
			if out, err := u.run(commands(t, u.files[guidePath])); err == nil {
				t.Errorf("passes\n%s", out)
			}
		})
	}
}

// gpg's and Go's idea of the two keys' relation must not differ.
func TestGuideCertificationIsReal(t *testing.T) {
	w := newWorld(t, "a")
	c := w.standard()
	ring, err := openpgp.ReadKeyRing(c.NodeKey)
	must(t, err)
	must(t, openpgp.CertifiedBy(ring.Keys()[0], w.operator.Public(), start.Add(time.Hour)))
}
