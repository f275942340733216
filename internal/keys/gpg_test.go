package keys

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// signer is what proof/openpgp asks of one; this package may not import it.
type signer interface {
	SignDetached(r io.Reader, at time.Time) (armored []byte, err error)
	Fingerprint() string
	PublicArmor() ([]byte, error)
}

var _ signer = (*GPG)(nil)

func gpgHome(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Fatalf("these tests need the real gpg: %v", err)
	}
	// Not t.TempDir: the agent's socket path must stay under 108 bytes.
	dir, err := os.MkdirTemp("", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", dir, "--kill", "all").Run()
		_ = os.RemoveAll(dir)
	})
	return dir
}

func gpg(t *testing.T, home string, args ...string) string {
	t.Helper()
	cmd := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--no-tty", "--yes", "--pinentry-mode", "loopback"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("gpg %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func generate(t *testing.T, home, uid, passphrase, expire string) {
	t.Helper()
	gpg(t, home, "--passphrase", passphrase, "--quick-generate-key", uid, "ed25519", "sign,cert", expire)
}

func TestGPGSigns(t *testing.T) {
	home := gpgHome(t)
	generate(t, home, "operator", "", "never")
	g, err := NewGPG("operator", GPGOptions{Home: home})
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Fingerprint()) != 40 || g.Fingerprint() != strings.ToUpper(g.Fingerprint()) {
		t.Errorf("fingerprint %q", g.Fingerprint())
	}
	if again, err := NewGPG(g.Fingerprint(), GPGOptions{Home: home}); err != nil || again.Fingerprint() != g.Fingerprint() {
		t.Errorf("by fingerprint: %v", err)
	}
	data := bytes.Repeat([]byte("x"), 1<<20)
	sig, err := g.SignDetached(bytes.NewReader(data), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	pub, err := g.PublicArmor()
	if err != nil || !bytes.HasPrefix(pub, []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")) {
		t.Fatalf("%v %q", err, pub)
	}
	// A stranger with the public key and gpg alone.
	other := gpgHome(t)
	file := func(name string, b []byte) string {
		path := filepath.Join(other, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	gpg(t, other, "--import", file("pub", pub))
	out := gpg(t, other, "--status-fd", "1", "--verify", file("sig", sig), file("data", data))
	if !strings.Contains(out, "VALIDSIG "+g.Fingerprint()) || !strings.Contains(out, " 22 10 00 ") {
		t.Errorf("no SHA-512 signature: %s", out)
	}
}

func TestGPGSaysWhatIsWrong(t *testing.T) {
	home := gpgHome(t)
	o := GPGOptions{Home: home, Timeout: 20 * time.Second}
	generate(t, home, "twin one", "", "never")
	generate(t, home, "twin two", "", "never")
	generate(t, home, "locked", "correct horse", "never")
	_ = exec.Command("gpgconf", "--homedir", home, "--kill", "gpg-agent").Run() // forgets the passphrase
	for id, want := range map[string]error{"nobody": ErrNoSuchKey, "twin": ErrNoSuchKey, "": ErrNoSuchKey, "--version": ErrNoSuchKey} {
		if _, err := NewGPG(id, o); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", id, err, want)
		}
	}
	if _, err := NewGPG("twin one", GPGOptions{Program: "no-such-gpg"}); !errors.Is(err, ErrNoGPG) {
		t.Errorf("no gpg: %v", err)
	}
	if _, err := NewGPG("twin one", GPGOptions{Home: filepath.Join(home, "none")}); !errors.Is(err, ErrGPG) {
		t.Errorf("no such home: %v", err)
	}
	locked, err := NewGPG("locked", o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := locked.SignDetached(strings.NewReader("x"), time.Time{}); !errors.Is(err, ErrLocked) {
		t.Errorf("locked key: %v", err)
	}
	one, err := NewGPG("twin one", o)
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	if sig, err := one.SignDetached(iotest.ErrReader(boom), time.Time{}); !errors.Is(err, boom) || sig != nil {
		t.Errorf("half read: %q, %v", sig, err)
	}
	gpg(t, home, "--yes", "--delete-secret-keys", one.Fingerprint())
	if _, err := one.SignDetached(strings.NewReader("x"), time.Time{}); !errors.Is(err, ErrNoSuchKey) {
		t.Errorf("deleted key: %v", err)
	}
}

func TestGPGThatHangsIsEnded(t *testing.T) {
	home := t.TempDir()
	slow := filepath.Join(home, "gpg")
	if err := os.WriteFile(slow, []byte("#!/bin/sh\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	g := &GPG{options: GPGOptions{Program: slow, Timeout: 100 * time.Millisecond}, fingerprint: "F"}
	begin := time.Now()
	if _, err := g.SignDetached(strings.NewReader("x"), time.Time{}); !errors.Is(err, ErrLocked) || time.Since(begin) > 10*time.Second {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
}
