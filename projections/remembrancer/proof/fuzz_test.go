package proof

import (
	"bytes"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// Whatever opens must say the same when it is written again: a second spelling
// of a signed thing would be a second thing.

func FuzzOpenCheckpoint(f *testing.F) {
	signer, vkey := testKey(f, testOrigin, 1)
	f.Add(signText(f, testOrigin+"\n7\n"+EmptyRoot.String()+"\n", signer))
	f.Add(signText(f, testOrigin+"\n0\n"+EmptyRoot.String()+"\nextension\n", signer))
	f.Fuzz(func(t *testing.T, b []byte) {
		ParseOrigin(b)
		VerifyCosignatures(b, []string{CosignatureKey("w", make([]byte, 32))})
		if _, err := OpenCheckpoint(b, vkey); err == nil && len(b) > MaxCheckpoint {
			t.Error("opened over the size cap")
		}
		// The same bytes as a text that the log did sign reach the parser behind
		// the signature.
		signed, err := note.Sign(&note.Note{Text: string(b)}, signer)
		if err != nil {
			return
		}
		c, err := OpenCheckpoint(signed, vkey)
		if err == nil && c.Text() != string(b) {
			t.Errorf("%q reads as %q", b, c.Text())
		}
	})
}

func FuzzParseTLogProof(f *testing.F) {
	file, leaf, vkey := testProof(f)
	f.Add(file)
	p, _ := ParseTLogProof(file)
	p.Extra = []byte{0}
	f.Add(p.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseTLogProof(b)
		if err == nil && !bytes.Equal(p.Marshal(), b) {
			t.Errorf("%q comes back as %q", b, p.Marshal())
		}
		if err == nil && len(p.Hashes) > MaxPath {
			t.Errorf("%d hashes", len(p.Hashes))
		}
		if _, index, err := VerifyTLogProof(b, leaf, vkey); err == nil && index != 5 {
			t.Errorf("leaf 5 proven at %d", index)
		}
	})
}

func FuzzOpenReceipts(f *testing.F) {
	signer, vkey := testKey(f, testOrigin, 1)
	f.Add([]byte(testBatch(1).text()))
	f.Add([]byte(testBatch(3).text()))
	signed, err := SignReceipts(testBatch(2), signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(func(t *testing.T, b []byte) {
		if batch, err := OpenReceipts(b, vkey); err == nil {
			if again, err := SignReceipts(batch, signer); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%q comes back as %q, %v", b, again, err)
			}
		}
		signed, err := note.Sign(&note.Note{Text: string(b)}, signer)
		if err != nil {
			return
		}
		batch, err := OpenReceipts(signed, vkey)
		if err == nil && batch.text() != string(b) {
			t.Errorf("%q reads as %q", b, batch.text())
		}
		if _, err := OpenCheckpoint(signed, vkey); err == nil && bytes.HasPrefix(b, []byte(ReceiptHeader)) {
			t.Error("receipts open as a checkpoint")
		}
	})
}
