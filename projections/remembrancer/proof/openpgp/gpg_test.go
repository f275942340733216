package openpgp

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// gpgHome is a GNUPGHOME of its own. A missing gpg fails the test: what we sign
// is worth nothing if gpg does not read it.
type gpgHome struct {
	t   *testing.T
	dir string
}

func newGPG(t *testing.T) *gpgHome {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Fatalf("these tests need the real gpg: %v", err)
	}
	// Not t.TempDir: the agent's socket path must stay under 108 bytes.
	dir, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	g := &gpgHome{t: t, dir: dir}
	t.Cleanup(func() {
		kill := exec.Command("gpgconf", "--kill", "all")
		kill.Env = g.env()
		_ = kill.Run()
		_ = os.RemoveAll(dir)
	})
	return g
}

func (g *gpgHome) env() []string {
	return append(os.Environ(), "GNUPGHOME="+g.dir, "LC_ALL=C")
}

// try runs gpg and returns both streams and its error.
func (g *gpgHome) try(stdin []byte, args ...string) (string, string, error) {
	g.t.Helper()
	cmd := exec.Command("gpg", append([]string{"--batch", "--no-tty", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	cmd.Env = g.env()
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errb bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errb
	err := cmd.Run()
	return out.String(), errb.String(), err
}

func (g *gpgHome) run(stdin []byte, args ...string) string {
	g.t.Helper()
	out, errs, err := g.try(stdin, args...)
	if err != nil {
		g.t.Fatalf("gpg %s: %v\n%s%s", strings.Join(args, " "), err, out, errs)
	}
	return out
}

// generate makes a key and returns its full fingerprint.
func (g *gpgHome) generate(uid, algo, use, expire string, extra ...string) string {
	g.t.Helper()
	g.run(nil, append(append([]string{}, extra...), "--quick-generate-key", uid, algo, use, expire)...)
	for _, line := range strings.Split(g.run(nil, "--with-colons", "--list-keys", "="+uid), "\n") {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			return f[9]
		}
	}
	g.t.Fatalf("no key for %s", uid)
	return ""
}

func (g *gpgHome) export(id string) *KeyRing {
	g.t.Helper()
	return mustRing(g.t, []byte(g.run(nil, "--armor", "--export", id)))
}

func (g *gpgHome) file(name string, data []byte) string {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}

func mustRing(t testing.TB, data []byte) *KeyRing {
	t.Helper()
	ring, err := ReadKeyRing(data)
	if err != nil {
		t.Fatalf("ReadKeyRing: %v", err)
	}
	return ring
}

func TestGPGVerifiesWhatWeSign(t *testing.T) {
	g := newGPG(t)
	key := newTestKey(t, "operator")
	pub, err := key.PublicArmor()
	if err != nil {
		t.Fatal(err)
	}
	g.run(pub, "--import")
	data := []byte("vaultmesh.example/log\n12\nroothash\n\n— line\n")
	sig, err := key.SignDetached(bytes.NewReader(data), t0)
	if err != nil {
		t.Fatal(err)
	}
	out := g.run(nil, "--status-fd", "1", "--verify", g.file("s.asc", sig), g.file("d", data))
	if !strings.Contains(out, "VALIDSIG "+key.Fingerprint()) || !strings.Contains(out, " 22 10 00 ") {
		t.Errorf("gpg sees no EdDSA (22) signature over SHA-512 (10): %s", out)
	}
	if _, _, err := g.try(nil, "--verify", g.file("s.asc", sig), g.file("d2", append(data, 'x'))); err == nil {
		t.Error("gpg accepts other data")
	}
	// The secret key, too, is gpg's to use.
	sec, err := key.Armor()
	if err != nil {
		t.Fatal(err)
	}
	h := newGPG(t)
	h.run(sec, "--import")
	theirs := []byte(h.run(data, "--local-user", key.Fingerprint(), "--detach-sign", "--armor"))
	if _, err := VerifyDetached(mustRing(t, pub), bytes.NewReader(data), theirs, time.Time{}); err != nil {
		t.Errorf("gpg's signature with our key: %v", err)
	}
}

func TestGPGSeesOurCertification(t *testing.T) {
	g := newGPG(t)
	operator, node := newTestKey(t, "operator"), newTestKey(t, "node")
	certified, err := operator.Certify(node.Public(), t0.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := operator.PublicArmor()
	g.run(pub, "--import")
	g.run(certified, "--import")
	out := g.run(nil, "--with-colons", "--check-sigs", node.Fingerprint())
	good := 0
	for _, line := range strings.Split(out, "\n") {
		f := strings.Split(line, ":")
		if f[0] == "sig" && f[1] == "!" && f[12] == operator.Fingerprint() {
			good++
		}
	}
	if good != 1 {
		t.Errorf("gpg finds %d good certifications by the operator, want 1:\n%s", good, out)
	}
	if err := CertifiedBy(mustRing(t, certified).Keys()[0], operator.Public(), time.Time{}); err != nil {
		t.Errorf("we do not see it: %v", err)
	}
}

func TestWeVerifyWhatGPGSigns(t *testing.T) {
	data := []byte("a document\r\nof two lines \n")
	for _, algo := range []string{"rsa3072", "ed25519", "nistp256", "rsa2048"} {
		t.Run(algo, func(t *testing.T) {
			g := newGPG(t)
			fpr := g.generate(algo, algo, "sign,cert", "never")
			ring := g.export(fpr)
			for _, args := range [][]string{{"--armor"}, {}, {"--textmode", "--armor"}, {"--digest-algo", "SHA256"}} {
				sig := []byte(g.run(data, append(args, "--local-user", fpr, "--detach-sign")...))
				got, err := VerifyDetached(ring, bytes.NewReader(data), sig, time.Time{})
				if err != nil {
					t.Fatalf("%v: %v", args, err)
				}
				if got.Fingerprint != fpr || !got.Certified || len(got.Warnings) != 0 {
					t.Errorf("%v: %+v", args, got)
				}
				if _, err := VerifyDetached(ring, strings.NewReader("other"), sig, time.Time{}); Reason(err) != ErrBadSignature {
					t.Errorf("other data: %v", err)
				}
			}
		})
	}
}

func TestGPGSubkeySignsAndItsKeyIsReadable(t *testing.T) {
	g := newGPG(t)
	fpr := g.generate("sub", "ed25519", "cert", "never")
	g.run(nil, "--quick-add-key", fpr, "ed25519", "sign", "never")
	ring := g.export(fpr)
	data := []byte("x")
	sig := []byte(g.run(data, "--local-user", fpr, "--detach-sign", "--armor"))
	got, err := VerifyDetached(ring, bytes.NewReader(data), sig, time.Time{})
	if err != nil || got.Fingerprint != fpr || got.SignedBy == fpr {
		t.Fatalf("subkey signature: %+v, %v", got, err)
	}
	// Our reader of secret keys signs with the subkey as well.
	sec := []byte(g.run(nil, "--armor", "--export-secret-keys", fpr))
	key, err := ReadKey(sec, nil)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := key.SignDetached(bytes.NewReader(data), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := VerifyDetached(ring, bytes.NewReader(data), ours, time.Time{}); err != nil || again.SignedBy != got.SignedBy {
		t.Fatalf("%+v, %v", again, err)
	}
	g.run(nil, "--verify", g.file("s", ours), g.file("d", data))
	// The key without its subkey: what that signed is by nobody.
	if _, err := VerifyDetached(mustRing(t, []byte(g.run(nil, "--export", fpr+"!"))), bytes.NewReader(data), sig, time.Time{}); Reason(err) != ErrUnknownKey {
		t.Errorf("without the subkey: %v", err)
	}
}

func TestLockedKeyNeedsItsPassphrase(t *testing.T) {
	g := newGPG(t)
	g.run(nil, "--passphrase", "correct horse", "--quick-generate-key", "locked", "rsa2048", "sign,cert", "never")
	sec := []byte(g.run(nil, "--passphrase", "correct horse", "--armor", "--export-secret-keys", "locked"))
	for _, wrong := range [][]byte{nil, []byte("wrong")} {
		if _, err := ReadKey(sec, wrong); Reason(err) != ErrPassphrase {
			t.Errorf("passphrase %q: %v", wrong, err)
		}
	}
	key, err := ReadKey(sec, []byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := key.SignDetached(strings.NewReader("x"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	g.run(nil, "--verify", g.file("s", sig), g.file("d", []byte("x")))
}

func TestGPGWeakIsRefused(t *testing.T) {
	g := newGPG(t)
	data := []byte("x")
	fpr := g.generate("sha1", "rsa2048", "sign,cert", "never")
	ring := g.export(fpr)
	sig := []byte(g.run(data, "--allow-weak-digest-algos", "--digest-algo", "SHA1", "--local-user", fpr, "--detach-sign"))
	if _, err := VerifyDetached(ring, bytes.NewReader(data), sig, time.Time{}); Reason(err) != ErrWeak {
		t.Errorf("SHA-1: %v", err)
	}
	short := g.generate("short", "rsa1024", "sign,cert", "never")
	sig = []byte(g.run(data, "--local-user", short, "--detach-sign"))
	if _, err := VerifyDetached(g.export(short), bytes.NewReader(data), sig, time.Time{}); Reason(err) != ErrWeak {
		t.Errorf("RSA-1024: %v", err)
	}
}

func TestGPGExpiryIsJudgedAtTheTrustedTime(t *testing.T) {
	g := newGPG(t)
	data := []byte("x")
	fpr := g.generate("expires", "ed25519", "sign,cert", "1d")
	ring := g.export(fpr)
	sig := []byte(g.run(data, "--local-user", fpr, "--detach-sign"))
	made, err := VerifyDetached(ring, bytes.NewReader(data), sig, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		want  error
	}{{time.Hour, nil}, {23 * time.Hour, nil}, {25 * time.Hour, ErrKeyExpired}, {-time.Hour, ErrKeyExpired}} {
		_, err := VerifyDetached(ring, bytes.NewReader(data), sig, made.CreatedAt.Add(c.after))
		if Reason(err) != c.want {
			t.Errorf("%s later: %v, want %v", c.after, err, c.want)
		}
	}
}

func TestGPGRevocation(t *testing.T) {
	g := newGPG(t)
	data := []byte("x")
	fpr := g.generate("revoked", "ed25519", "sign,cert", "never")
	before := g.export(fpr)
	sig := []byte(g.run(data, "--local-user", fpr, "--detach-sign"))
	// gpg writes a revocation (reason 0) beside each new key, one colon from use.
	rev, err := os.ReadFile(filepath.Join(g.dir, "openpgp-revocs.d", fpr+".rev"))
	if err != nil {
		t.Fatal(err)
	}
	g.run(bytes.Replace(rev, []byte(":-----BEGIN"), []byte("-----BEGIN"), 1), "--import")
	after := g.export(fpr)
	if _, err := VerifyDetached(before, bytes.NewReader(data), sig, time.Time{}); err != nil {
		t.Errorf("before: %v", err)
	}
	if _, err := VerifyDetached(after, bytes.NewReader(data), sig, time.Time{}); Reason(err) != ErrKeyRevoked {
		t.Errorf("after: %v", err)
	}
	// A stale copy beside the revoked one does not bring the key back.
	if _, err := VerifyDetached(Merge(before, after), bytes.NewReader(data), sig, time.Time{}); Reason(err) != ErrKeyRevoked {
		t.Errorf("merged: %v", err)
	}
}
