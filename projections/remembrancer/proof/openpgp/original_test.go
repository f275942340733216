package openpgp

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const originalSigner = "297BE5B308041DEFF3EFE4BD6E4082C6A410F340"

func original(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "original", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var originals = []struct {
	name string
	made time.Time
}{
	{"SOVEREIGN_LORE_CODEX_V1.md", time.Date(2025, 10, 19, 23, 14, 5, 0, time.UTC)},
	{"test-app.tar.gz", time.Date(2025, 10, 19, 20, 15, 26, 0, time.UTC)},
}

func TestOriginalSignaturesVerifyWithABareKey(t *testing.T) {
	for _, keyFile := range []string{"recovered-pubkey-6E4082C6A410F340.asc", "recovered-pubkey-withuid.asc"} {
		ring := mustRing(t, original(t, keyFile))
		if ring.Find("297b e5b3 0804 1def f3ef e4bd 6e40 82c6 a410 f340") == nil || ring.Find("6E4082C6A410F340") != nil {
			t.Error("a key is found by its full fingerprint and by nothing shorter")
		}
		for _, o := range originals {
			got, err := VerifyDetached(ring, bytes.NewReader(original(t, o.name)), original(t, o.name+".asc"), time.Time{})
			if err != nil {
				t.Fatalf("%s with %s: %v", o.name, keyFile, err)
			}
			if got.Fingerprint != originalSigner || got.KeyID != "6E4082C6A410F340" || !got.CreatedAt.Equal(o.made) || got.Hash != "SHA-256" {
				t.Errorf("%s: %+v", o.name, got)
			}
			if got.Certified || got.CertifiedBy != nil || !strings.Contains(strings.Join(got.Warnings, "; "), "nothing certifies it") {
				t.Errorf("%s: a bare key passes without a warning: %+v", o.name, got)
			}
		}
	}
}

func TestOriginalSurvivesArmor(t *testing.T) {
	ring := mustRing(t, original(t, "recovered-pubkey-withuid.asc"))
	armored, err := ring.Keys()[0].Armor()
	if err != nil {
		t.Fatal(err)
	}
	if again := mustRing(t, armored).Keys()[0]; again.Fingerprint() != originalSigner || again.UserIDs()[0] != "recovered (no self-signature)" {
		t.Errorf("%v", again.UserIDs())
	}
	// Without a binding there is nothing to certify.
	if _, err := newTestKey(t, "operator").Certify(ring.Keys()[0], t0); Reason(err) != ErrMalformed {
		t.Errorf("certified a key that binds no user id: %v", err)
	}
}

// Every byte of the documents, and every byte of what the signature covers.
func TestOriginalRefusedAfterOneFlippedByte(t *testing.T) {
	ring := mustRing(t, original(t, "recovered-pubkey-6E4082C6A410F340.asc"))
	for _, o := range originals {
		data := original(t, o.name)
		sig, err := dearmor(original(t, o.name+".asc"), armorSignature)
		if err != nil {
			t.Fatal(err)
		}
		step := 1
		if testing.Short() {
			step = 101
		}
		for i := 0; i < len(data); i += step {
			data[i] ^= 1
			if _, err := VerifyDetached(ring, bytes.NewReader(data), sig, time.Time{}); Reason(err) != ErrBadSignature {
				t.Fatalf("%s byte %d: %v", o.name, i, err)
			}
			data[i] ^= 1
		}
		unhashed := unhashedBytes(t, sig)
		refused := map[error]int{}
		for i := range sig {
			sig[i] ^= 1
			_, err := VerifyDetached(ring, bytes.NewReader(data), sig, time.Time{})
			if err == nil && !unhashed[i] {
				t.Errorf("%s.asc byte %d flipped and accepted", o.name, i)
			}
			if err != nil && Reason(err) == nil {
				t.Errorf("%s.asc byte %d: no reason: %v", o.name, i, err)
			}
			refused[Reason(err)]++
			sig[i] ^= 1
		}
		if refused[ErrBadSignature] < 384 || refused[ErrUnknownKey] < 20 {
			t.Errorf("%s.asc: reasons %v", o.name, refused)
		}
	}
}
