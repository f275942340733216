package proof

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Key types of C2SP signed-note.
const (
	algEd25519       = 1
	algCosignatureV1 = 4
)

// sigLineSize is what one Ed25519 signature line adds to a note, without the
// signer's name: "— ", a space, base64 of key hash and signature, a line end.
const sigLineSize = len("— ") + 1 + (4+ed25519.SignatureSize+2)/3*4 + 1

// NewLogKey makes the Ed25519 key of a log in the encodings of
// golang.org/x/mod/sumdb/note, named by the log's origin. skey is secret. The
// same 32 bytes of random give the same key.
func NewLogKey(origin string, random io.Reader) (skey, vkey string, err error) {
	if err := CheckOrigin(origin); err != nil {
		return "", "", err
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return "", "", fmt.Errorf("read randomness for a log key: %w", err)
	}
	pub := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	vkey, err = note.NewEd25519VerifierKey(origin, pub)
	if err != nil {
		return "", "", err
	}
	private := base64.StdEncoding.EncodeToString(append([]byte{algEd25519}, seed...))
	return fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", origin, keyHash(origin, algEd25519, pub), private), vkey, nil
}

// ParseVKey returns what a log's verifier key says: the origin it may sign for
// and the Ed25519 key.
func ParseVKey(vkey string) (origin string, key ed25519.PublicKey, err error) {
	name, alg, key, err := splitVKey(vkey)
	if err == nil && alg != algEd25519 {
		err = fmt.Errorf("log key of %s has type %d, want Ed25519: %w", clip(name), alg, ErrMalformed)
	}
	if err == nil {
		err = CheckOrigin(name)
	}
	if err != nil {
		return "", nil, err
	}
	return name, key, nil
}

// splitVKey reads name+hash+base64(type, key) in its canonical spelling.
func splitVKey(vkey string) (name string, alg byte, key ed25519.PublicKey, err error) {
	bad := func(why string) (string, byte, ed25519.PublicKey, error) {
		return "", 0, nil, fmt.Errorf("verifier key %q: %s: %w", clip(vkey), why, ErrMalformed)
	}
	fields := strings.Split(vkey, "+")
	if len(fields) < 3 {
		return bad("want name+hash+key")
	}
	// base64 itself may hold '+'.
	name, hash, encoded := fields[0], fields[1], strings.Join(fields[2:], "+")
	raw, err := parseBase64(encoded)
	if err != nil || len(raw) != 1+ed25519.PublicKeySize {
		return bad("want 33 bytes of canonical base64")
	}
	if name == "" || len(name) > MaxOrigin || !isVisible(name) {
		return bad("bad name")
	}
	if hash != fmt.Sprintf("%08x", keyHash(name, raw[0], raw[1:])) {
		return bad("its hash does not match the key")
	}
	return name, raw[0], raw[1:], nil
}

func keyHash(name string, alg byte, key []byte) uint32 {
	h := sha256.New()
	h.Write([]byte(name + "\n"))
	h.Write([]byte{alg})
	h.Write(key)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// openNote checks the signature of the log key and returns the text, together
// with the origin that the key is named by.
func openNote(msg []byte, vkey string, most int) (text, origin string, err error) {
	if len(msg) > most {
		return "", "", fmt.Errorf("note of %d bytes, the most is %d: %w", len(msg), most, ErrMalformed)
	}
	origin, _, err = ParseVKey(vkey)
	if err != nil {
		return "", "", err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return "", "", fmt.Errorf("verifier key of %s: %v: %w", origin, err, ErrMalformed)
	}
	n, err := note.Open(msg, note.VerifierList(verifier))
	if err != nil {
		return "", "", noteError(origin, err)
	}
	if err := checkSignatureLines(string(msg[len(n.Text)+1:])); err != nil {
		return "", "", err
	}
	return n.Text, origin, nil
}

func noteError(origin string, err error) error {
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified):
		return fmt.Errorf("no signature line of %s's key: %w", origin, ErrSignature)
	case errors.As(err, &invalid):
		return fmt.Errorf("%v: %w", err, ErrSignature)
	}
	return fmt.Errorf("%v: %w", err, ErrMalformed)
}

// splitNote returns the text of a note whose signature lines are canonical and
// different from each other; x/mod/sumdb/note accepts several spellings of one
// signature and drops repeated ones.
func splitNote(msg []byte) (text string, err error) {
	at := bytes.LastIndex(msg, []byte("\n\n"))
	if at < 0 {
		return "", fmt.Errorf("note without signature block: %w", ErrMalformed)
	}
	if err := checkSignatureLines(string(msg[at+2:])); err != nil {
		return "", err
	}
	return string(msg[:at+1]), nil
}

func checkSignatureLines(block string) error {
	block, ok := strings.CutSuffix(block, "\n")
	if !ok {
		return fmt.Errorf("signature block does not end with a line: %w", ErrMalformed)
	}
	seen := make(map[string]bool)
	for line := range strings.SplitSeq(block, "\n") {
		rest, ok := strings.CutPrefix(line, "— ")
		name, sig, ok2 := strings.Cut(rest, " ")
		if !ok || !ok2 || name == "" {
			return fmt.Errorf("signature line %q: %w", clip(line), ErrMalformed)
		}
		raw, err := parseBase64(sig)
		if err != nil || len(raw) < 5 {
			return fmt.Errorf("signature line of %q: %w", clip(name), ErrMalformed)
		}
		key := name + string(raw[:4])
		if seen[key] {
			return fmt.Errorf("two signature lines of %q: %w", clip(name), ErrMalformed)
		}
		if seen[key] = true; len(seen) > maxSignatures {
			return fmt.Errorf("over %d signature lines: %w", maxSignatures, ErrMalformed)
		}
	}
	return nil
}

// maxSignatures is the bound of x/mod/sumdb/note.
const maxSignatures = 100
