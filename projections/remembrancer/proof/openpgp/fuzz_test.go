package openpgp

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func FuzzVerifyDetached(f *testing.F) {
	for _, o := range originals {
		f.Add(original(f, o.name+".asc"))
		raw, _ := dearmor(original(f, o.name+".asc"), armorSignature)
		f.Add(raw)
	}
	ring := mustRing(f, original(f, "recovered-pubkey-6E4082C6A410F340.asc"))
	data := original(f, "test-app.tar.gz")
	f.Fuzz(func(t *testing.T, sig []byte) {
		got, err := VerifyDetached(ring, bytes.NewReader(data), sig, time.Time{})
		if err != nil && Reason(err) == nil {
			t.Errorf("no reason: %v", err)
		}
		if err == nil && got.Fingerprint != originalSigner {
			t.Errorf("accepted for %q", got.Fingerprint)
		}
		if _, err := VerifyDetached(ring, strings.NewReader("other"), sig, time.Time{}); err == nil {
			t.Error("signature accepted over data that was never signed")
		}
	})
}

func FuzzReadKeyRing(f *testing.F) {
	f.Add(original(f, "recovered-pubkey-6E4082C6A410F340.asc"))
	f.Add(original(f, "recovered-pubkey-withuid.asc"))
	data, sig := original(f, "test-app.tar.gz"), original(f, "test-app.tar.gz.asc")
	f.Fuzz(func(t *testing.T, in []byte) {
		ring, err := ReadKeyRing(in)
		if err != nil {
			if Reason(err) == nil {
				t.Errorf("no reason: %v", err)
			}
			return
		}
		// What was read can be written and read again, and nobody but the
		// signer's key ever verifies his signature.
		for _, k := range ring.Keys() {
			armored, err := k.Armor()
			if err != nil {
				t.Fatalf("armor: %v", err)
			}
			again, err := ReadKeyRing(armored)
			if err != nil || len(again.Keys()) != 1 || again.Keys()[0].Fingerprint() != k.Fingerprint() {
				t.Fatalf("read again: %v", err)
			}
			k.Warnings()
		}
		if got, err := VerifyDetached(ring, bytes.NewReader(data), sig, time.Time{}); err == nil && got.Fingerprint != originalSigner {
			t.Errorf("verified for %s", got.Fingerprint)
		}
	})
}
