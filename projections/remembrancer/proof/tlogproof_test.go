package proof

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	formats "github.com/transparency-dev/formats/proof"
)

// testProof proves leaf 5 of 7.
func testProof(t testing.TB) (file []byte, leaf Hash, vkey string) {
	signer, vkey := testKey(t, testOrigin, 1)
	all := testTree(7)
	note, err := SignCheckpoint(testOrigin, 7, all.root(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return TLogProof{Index: 5, Hashes: all.path(5), Checkpoint: note}.Marshal(), all[5], vkey
}

func TestTLogProof(t *testing.T) {
	file, leaf, vkey := testProof(t)
	c, index, err := VerifyTLogProof(file, leaf, vkey)
	if err != nil || index != 5 || c.Size != 7 {
		t.Fatalf("%+v, %d, %v", c, index, err)
	}
	p, err := ParseTLogProof(file)
	if err != nil || !bytes.Equal(p.Marshal(), file) {
		t.Fatalf("%v: does not come back", err)
	}
	var theirs formats.TLogProof
	if err := theirs.Unmarshal(file); err != nil || theirs.Index != 5 || !bytes.Equal(theirs.Marshal(), file) {
		t.Errorf("transparency-dev/formats reads it otherwise: %v", err)
	}
	p.Extra = []byte("extra")
	p, err = ParseTLogProof(p.Marshal())
	if err != nil || string(p.Extra) != "extra" {
		t.Errorf("extra: %q, %v", p.Extra, err)
	}
	_, otherVKey := testKey(t, testOrigin, 2)
	if _, _, err := VerifyTLogProof(file, leaf, otherVKey); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	if _, _, err := VerifyTLogProof(file, LeafHash(nil), vkey); !errors.Is(err, ErrProof) {
		t.Errorf("another leaf: %v", err)
	}
	for i := range file {
		flipped := bytes.Clone(file)
		flipped[i] ^= 1
		if _, _, err := VerifyTLogProof(flipped, leaf, vkey); err == nil {
			t.Fatalf("byte %d (%q) flipped: still verifies", i, file[i])
		}
	}
}

func TestTLogProofRefusals(t *testing.T) {
	b, _, _ := testProof(t)
	file := string(b)
	hash := strings.Split(file, "\n")[2]
	for name, in := range map[string]string{
		"empty":              "",
		"other version":      replace(t, file, "@v1", "@v2"),
		"CR":                 replace(t, file, "@v1\n", "@v1\r\n"),
		"no index":           replace(t, file, "index 5\n", ""),
		"index twice":        replace(t, file, "index 5\n", "index 5\nindex 5\n"),
		"leading zero":       replace(t, file, "index 5", "index 05"),
		"negative":           replace(t, file, "index 5", "index -5"),
		"index at size":      replace(t, file, "index 5", "index 7"),
		"index too long":     replace(t, file, "index 5", "index 99999999999999999999"),
		"extra after index":  replace(t, file, "index 5\n", "index 5\nextra AA==\n"),
		"extra twice":        replace(t, file, "index 5\n", "extra AA==\nextra AA==\nindex 5\n"),
		"extra only":         "c2sp.org/tlog-proof@v1\nextra AA==\n\n",
		"extra not base64":   replace(t, file, "index 5\n", "extra !\nindex 5\n"),
		"extra padding bits": replace(t, file, "index 5\n", "extra AB==\nindex 5\n"),
		"extra too long":     replace(t, file, "index 5\n", "extra "+strings.Repeat("AAAA", MaxExtra/3+1)+"\nindex 5\n"),
		"hash short":         replace(t, file, hash, hash[1:]),
		"hash spelling":      replace(t, file, hash, hash[:42]+string(rune(hash[42]+1))+"="),
		"65 hashes":          replace(t, file, "index 5\n", "index 5\n"+strings.Repeat(hash+"\n", MaxPath)),
		"no checkpoint":      file[:strings.Index(file, "\n\n")+2],
		"no empty line":      strings.ReplaceAll(file, "\n\n", "\n"),
		"checkpoint cut":     file[:len(file)-1],
		"bytes after":        file + "x",
		"line after":         file + "\n",
		"long":               file + strings.Repeat("x", MaxTLogProof),
		"long checkpoint":    file + strings.Repeat("x", MaxCheckpoint-100),
	} {
		if p, err := ParseTLogProof([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}
