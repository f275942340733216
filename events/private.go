package events

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"vaultmesh.cloud/vaultmesh/events/canon"
)

// A Private is the free text of an event that may have to be forgotten. The
// event carries only its commitment, in the attribute vmprivate: "sha256:" and
// the hex SHA-256 of the JCS bytes of the Private. The salt makes guessing the
// text from the commitment hopeless; without the Private, which lives in a store
// that can delete, the event still proves when, by whom and that something was
// said.
type Private struct {
	Salt   []byte            `json:"salt"`   // 32 random bytes
	Fields map[string]string `json:"fields"` // by the name that the payload has for it, such as "body"
}

// ErrCommitment means that private text is not the text that an event committed to.
var ErrCommitment = errors.New("private text does not match its commitment")

// NewPrivate salts the fields.
func NewPrivate(fields map[string]string, random io.Reader) (Private, error) {
	p := Private{Salt: make([]byte, 32), Fields: fields}
	if _, err := io.ReadFull(random, p.Salt); err != nil {
		return Private{}, fmt.Errorf("read a salt: %w", err)
	}
	return p, nil
}

// Commitment returns the value for [Event.Private].
func (p Private) Commitment() (string, error) {
	b, err := canon.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("commit to private text: %w", err)
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// Open checks that p is what commitment stands for; if not, ErrCommitment.
func (p Private) Open(commitment string) error {
	got, err := p.Commitment()
	if err != nil {
		return err
	}
	if len(p.Salt) != 32 || subtle.ConstantTimeCompare([]byte(got), []byte(commitment)) != 1 {
		return ErrCommitment
	}
	return nil
}

func isCommitment(s string) bool {
	h, ok := strings.CutPrefix(s, "sha256:")
	return ok && IsSHA256(h)
}

// IsSHA256 reports whether s is 64 lower-case hex digits.
func IsSHA256(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}
