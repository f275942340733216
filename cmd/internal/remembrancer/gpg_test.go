package remembrancer

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestSignWithGnuPG signs with a key that never leaves the user's own GnuPG, and
// has GnuPG check what verify-full accepts.
func TestSignWithGnuPG(t *testing.T) {
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Skip("no gpg on this machine")
	}
	d := newDesk(t)
	home, err := os.MkdirTemp("", "gpg") // a socket's path must be short
	must(t, err)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	d.gpgHome = home
	gpg := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--no-tty"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("gpg %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	gpg("--passphrase", "", "--quick-gen-key", "Release <release@example.com>", "ed25519", "sign", "never")
	file := d.file("report.md", "the report\n")
	d.want(0, args("sign", file, "--key", "release@example.com"), "inclusion verified")
	if out := gpg("--verify", file+".asc", file); !strings.Contains(out, "Good signature") {
		t.Errorf("gpg says %s", out)
	}
	d.want(0, args("sign", file, "--key", "release@example.com"), "holds a good signature")
	d.want(0, args("timestamp", file))
	d.want(0, args("verify-full", file), "(logged)")
	d.want(3, args("sign", file, "--key", "nobody@example.com", "--force"), "gpg --list-secret-keys")
}
