package openpgp

import (
	"strings"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/internal/keys"
)

// The user's own gpg is a Signer, though neither package knows the other.
func TestGPGIsASigner(t *testing.T) {
	g := newGPG(t)
	fpr := g.generate("operator", "rsa2048", "sign,cert", "never")
	theirs, err := keys.NewGPG(fpr, keys.GPGOptions{Home: g.dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Signer{theirs, newTestKey(t, "operator")} {
		pub, err := s.PublicArmor()
		if err != nil {
			t.Fatal(err)
		}
		sig, err := s.SignDetached(strings.NewReader("data"), t0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := VerifyDetached(mustRing(t, pub), strings.NewReader("data"), sig, time.Time{})
		if err != nil || got.Fingerprint != s.Fingerprint() || got.Hash != "SHA-512" {
			t.Errorf("%+v, %v", got, err)
		}
	}
}
