package proof

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// cosignatureSize is the timestamp and the Ed25519 signature.
const cosignatureSize = 8 + ed25519.SignatureSize

// A Cosignature is a witness's word that a checkpoint is consistent with all
// that it cosigned before for this log.
type Cosignature struct {
	Witness string    // name of the witness's key
	Time    time.Time // by the witness's clock, whole seconds, UTC
}

// CosignatureKey returns the verifier key under which a witness's cosignatures
// stand, for its Ed25519 key: name+hash+base64 with key type 4.
func CosignatureKey(witness string, key ed25519.PublicKey) string {
	return fmt.Sprintf("%s+%08x+%s", witness, keyHash(witness, algCosignatureV1, key),
		encode64(append([]byte{algCosignatureV1}, key...)))
}

// Cosign returns the note with the witness's cosignature/v1 line added
// (C2SP tlog-cosignature). It checks no consistency: that is what a witness must
// have done, and synced, before it calls this.
func Cosign(noteBytes []byte, witness string, key ed25519.PrivateKey, at time.Time) ([]byte, error) {
	if len(noteBytes) > MaxCheckpoint {
		return nil, fmt.Errorf("cosign a note of %d bytes: %w", len(noteBytes), ErrMalformed)
	}
	text, err := splitNote(noteBytes)
	if err == nil {
		_, err = parseCheckpoint(text)
	}
	if err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	if witness == "" || len(witness) > MaxOrigin || !isVisible(witness) || strings.Contains(witness, "+") {
		return nil, fmt.Errorf("cosign: witness name %q: %w", clip(witness), ErrMalformed)
	}
	if at.Unix() < 0 {
		return nil, fmt.Errorf("cosign at %v, before 1970: %w", at, ErrMalformed)
	}
	seconds := uint64(at.Unix())
	sig := binary.BigEndian.AppendUint32(nil, keyHash(witness, algCosignatureV1, key.Public().(ed25519.PublicKey)))
	sig = binary.BigEndian.AppendUint64(sig, seconds)
	sig = append(sig, ed25519.Sign(key, cosignedMessage(seconds, text))...)
	out := fmt.Appendf(noteBytes[:len(noteBytes):len(noteBytes)], "— %s %s\n", witness, encode64(sig))
	if _, err := splitNote(out); err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	return out, nil
}

// VerifyCosignatures returns the cosignatures of the given witnesses that the
// checkpoint carries, in the order of its lines. Lines of other keys and types
// are skipped; a line under a given witness's key that is wrong is ErrSignature,
// because someone put it there on purpose. The log's own signature is not
// checked here: use OpenCheckpoint for it.
func VerifyCosignatures(noteBytes []byte, witnesses []string) ([]Cosignature, error) {
	if len(noteBytes) > MaxCheckpoint {
		return nil, fmt.Errorf("cosigned checkpoint of %d bytes, the most is %d: %w", len(noteBytes), MaxCheckpoint, ErrMalformed)
	}
	text, err := splitNote(noteBytes)
	if err == nil {
		_, err = parseCheckpoint(text)
	}
	if err != nil {
		return nil, fmt.Errorf("cosigned checkpoint: %w", err)
	}
	var verifiers []note.Verifier
	for _, vkey := range witnesses {
		v, err := newWitness(vkey)
		if err != nil {
			return nil, err
		}
		verifiers = append(verifiers, v)
	}
	n, err := note.Open(noteBytes, note.VerifierList(verifiers...))
	if err != nil {
		var unverified *note.UnverifiedNoteError
		if errors.As(err, &unverified) {
			n = unverified.Note
		} else {
			return nil, fmt.Errorf("cosigned checkpoint: %w", noteError("a witness", err))
		}
	}
	var out []Cosignature
	for _, s := range n.Sigs {
		raw, err := parseBase64(s.Base64)
		if err != nil {
			return nil, err
		}
		out = append(out, Cosignature{s.Name, time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0).UTC()})
	}
	return out, nil
}

// witness is a note.Verifier of cosignature/v1 lines by an Ed25519 key.
type witness struct {
	name string
	key  ed25519.PublicKey
}

func newWitness(vkey string) (*witness, error) {
	name, alg, key, err := splitVKey(vkey)
	if err != nil {
		return nil, err
	}
	if alg != algCosignatureV1 && alg != algEd25519 {
		return nil, fmt.Errorf("witness key of %s has type %d, want 4: %w", clip(name), alg, ErrMalformed)
	}
	return &witness{name, key}, nil
}

func (w *witness) Name() string    { return w.name }
func (w *witness) KeyHash() uint32 { return keyHash(w.name, algCosignatureV1, w.key) }

func (w *witness) Verify(msg, sig []byte) bool {
	if len(sig) != cosignatureSize {
		return false
	}
	seconds := binary.BigEndian.Uint64(sig)
	return seconds <= maxTime && ed25519.Verify(w.key, cosignedMessage(seconds, string(msg)), sig[8:])
}

// maxTime is the last second of the year 9999, the last that JSON can say.
const maxTime = 253402300799

func cosignedMessage(seconds uint64, text string) []byte {
	return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", seconds, text)
}
