package proof

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

func TestCheckpointRoundTrip(t *testing.T) {
	signer, vkey := testKey(t, testOrigin, 1)
	root := testTree(7).root()
	b, err := SignCheckpoint(testOrigin, 7, root, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := OpenCheckpoint(b, vkey)
	if err != nil || c.Origin != testOrigin || c.Size != 7 || c.Root != root || c.Extensions != nil {
		t.Fatalf("%+v, %v", c, err)
	}
	if again, _ := SignCheckpoint(testOrigin, 7, root, signer); !bytes.Equal(b, again) {
		t.Error("the same head gives other bytes")
	}
	if origin, err := ParseOrigin(b); err != nil || origin != testOrigin {
		t.Errorf("ParseOrigin: %q, %v", origin, err)
	}
	extended := signText(t, c.Text()+"extension\n", signer)
	if c, err := OpenCheckpoint(extended, vkey); err != nil || !slices.Equal(c.Extensions, []string{"extension"}) {
		t.Errorf("extension: %+v, %v", c, err)
	}
}

func TestCheckpointRefusals(t *testing.T) {
	signer, vkey := testKey(t, testOrigin, 1)
	imposter, _ := testKey(t, testOrigin, 2)
	other, otherVKey := testKey(t, "other.example/log", 1)
	root := testTree(7).root().String()
	good := testOrigin + "\n7\n" + root + "\n"
	signed := string(signText(t, good, signer))
	sigLine := signed[len(good)+1:]
	for _, c := range []struct {
		name string
		note []byte
		vkey string
		want error
	}{
		{"empty", nil, vkey, ErrMalformed},
		{"no signature", []byte(good), vkey, ErrMalformed},
		{"signature block empty", []byte(good + "\n"), vkey, ErrMalformed},
		{"another key of that name", signText(t, good, imposter), vkey, ErrSignature},
		{"another log's key", signText(t, good, other), vkey, ErrSignature},
		{"log key signs for another log", signText(t, good, other), otherVKey, ErrOrigin},
		{"text changed", []byte(replace(t, signed, "\n7\n", "\n8\n")), vkey, ErrSignature},
		{"signature twice", []byte(signed + sigLine), vkey, ErrMalformed},
		{"signature in another spelling", []byte(strings.TrimSuffix(signed, "\n") + "\r\n"), vkey, ErrMalformed},
		{"bytes after", []byte(signed + "junk"), vkey, ErrMalformed},
		{"line after", []byte(signed + "\n"), vkey, ErrMalformed},
		{"too long", signText(t, good+strings.Repeat("x", MaxCheckpoint)+"\n", signer), vkey, ErrMalformed},
		{"leading zero", signText(t, replace(t, good, "\n7\n", "\n07\n"), signer), vkey, ErrMalformed},
		{"plus sign", signText(t, replace(t, good, "\n7\n", "\n+7\n"), signer), vkey, ErrMalformed},
		{"hex", signText(t, replace(t, good, "\n7\n", "\n0x7\n"), signer), vkey, ErrMalformed},
		{"blank size", signText(t, replace(t, good, "\n7\n", "\n\n"), signer), vkey, ErrMalformed},
		{"size over 63 bits", signText(t, replace(t, good, "\n7\n", "\n9223372036854775808\n"), signer), vkey, ErrMalformed},
		{"size of 21 digits", signText(t, replace(t, good, "\n7\n", "\n111111111111111111111\n"), signer), vkey, ErrMalformed},
		{"root cut", signText(t, replace(t, good, "=\n", "\n"), signer), vkey, ErrMalformed},
		{"root with spaces", signText(t, replace(t, good, root, " "+root), signer), vkey, ErrMalformed},
		{"no root", signText(t, testOrigin+"\n7\n", signer), vkey, ErrMalformed},
		{"empty log with a root", signText(t, replace(t, good, "\n7\n", "\n0\n"), signer), vkey, ErrMalformed},
		{"empty extension", signText(t, good+"\nx\n", signer), vkey, ErrMalformed},
		{"control character", []byte(replace(t, signed, "\n7\n", "\n7\t\n")), vkey, ErrMalformed},
		{"vkey without hash", []byte(signed), testOrigin, ErrMalformed},
		{"vkey with another hash", []byte(signed), replace(t, vkey, "+", "+0")[:len(vkey)], ErrMalformed},
		{"vkey for cosignatures", []byte(signed), CosignatureKey(testOrigin, make([]byte, 32)), ErrMalformed},
		{"vkey with line end", []byte(signed), vkey + "\n", ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := OpenCheckpoint(c.note, c.vkey); !errors.Is(err, c.want) {
				t.Errorf("%+v, %v; want %v", got, err, c.want)
			}
		})
	}
	if _, err := SignCheckpoint(testOrigin, 7, Hash{}, other); !errors.Is(err, ErrOrigin) {
		t.Errorf("sign with another log's key: %v", err)
	}
	if _, err := SignCheckpoint(testOrigin, 0, Hash{}, signer); !errors.Is(err, ErrMalformed) {
		t.Errorf("sign an impossible head: %v", err)
	}
}

func TestOrigins(t *testing.T) {
	for _, good := range []string{"h/log", "host-1.vaultmesh.local/log-0123abcd", "example.com", "localhost:8080/a/b"} {
		if err := CheckOrigin(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "a b", "a+b", "a\nb", "a\tb", "https://example.com/log", "/log", "example.com/", "ünicode.example/log",
		strings.Repeat("a", MaxOrigin+1), ReceiptHeader, "vaultmesh.cloud/receipt/v9"} {
		if err := CheckOrigin(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, _, err := NewLogKey(bad, bytes.NewReader(make([]byte, 32))); err == nil {
			t.Errorf("a key for %q", bad)
		}
	}
	for _, bad := range []string{"", "no line end", "\n", strings.Repeat("a", 1<<20) + "\n"} {
		if _, err := ParseOrigin([]byte(bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseOrigin(%.20q): %v", bad, err)
		}
	}
	if _, _, err := NewLogKey(testOrigin, bytes.NewReader(make([]byte, 31))); err == nil {
		t.Error("a key from 31 bytes of randomness")
	}
}

func TestParseVKey(t *testing.T) {
	_, vkey := testKey(t, testOrigin, 1)
	origin, key, err := ParseVKey(vkey)
	if err != nil || origin != testOrigin {
		t.Fatal(origin, err)
	}
	want := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)).Public()
	if !key.Equal(want) {
		t.Error("another public key")
	}
	if v, err := note.NewVerifier(vkey); err != nil || v.Name() != testOrigin {
		t.Errorf("x/mod does not read it: %v", err)
	}
}

func TestCosignatures(t *testing.T) {
	signer, vkey := testKey(t, testOrigin, 1)
	checkpoint, err := SignCheckpoint(testOrigin, 7, testTree(7).root(), signer)
	if err != nil {
		t.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32))
	witness := CosignatureKey("w.example/1", key.Public().(ed25519.PublicKey))
	at := time.Unix(1700000000, 5)
	both, err := Cosign(checkpoint, "w.example/1", key, at)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(both, checkpoint) {
		t.Error("cosigning changed the checkpoint")
	}
	got, err := VerifyCosignatures(both, []string{witness})
	if err != nil || len(got) != 1 || got[0].Witness != "w.example/1" || !got[0].Time.Equal(time.Unix(1700000000, 0)) {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := OpenCheckpoint(both, vkey); err != nil {
		t.Errorf("cosigned checkpoint does not open: %v", err)
	}
	if got, err := VerifyCosignatures(checkpoint, []string{witness}); err != nil || len(got) != 0 {
		t.Errorf("without cosignature: %v, %v", got, err)
	}
	if _, err := Cosign(both, "w.example/1", key, at); !errors.Is(err, ErrMalformed) {
		t.Errorf("cosigned twice: %v", err)
	}
	forged := []byte(strings.Replace(string(both), "\n7\n", "\n8\n", 1))
	if _, err := VerifyCosignatures(forged, []string{witness}); !errors.Is(err, ErrSignature) {
		t.Errorf("forged: %v", err)
	}
	// A plain note signature by the same key is not a cosignature.
	if _, err := OpenCheckpoint(both, witness); !errors.Is(err, ErrMalformed) {
		t.Errorf("witness key as log key: %v", err)
	}
	for name, do := range map[string]func() error{
		"bad name":    func() error { _, err := Cosign(checkpoint, "a+b", key, at); return err },
		"before 1970": func() error { _, err := Cosign(checkpoint, "w", key, time.Unix(-1, 0)); return err },
		"no note":     func() error { _, err := Cosign([]byte("x\n"), "w", key, at); return err },
		"huge":        func() error { _, err := Cosign(make([]byte, MaxCheckpoint+1), "w", key, at); return err },
		"huge verify": func() error { _, err := VerifyCosignatures(make([]byte, MaxCheckpoint+1), nil); return err },
		"bad key":     func() error { _, err := VerifyCosignatures(both, []string{"x"}); return err },
	} {
		if err := do(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
