package openpgp

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	_ "crypto/sha256" // the hashes that signatures name
	_ "crypto/sha3"
	_ "crypto/sha512"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Signature is what one verified detached signature says. When
// [VerifyDetached] returns an error, it holds what the signature claims, which
// is proven only as far as the error allows.
type Signature struct {
	// Fingerprint is the full fingerprint of the primary key, upper-case hex.
	Fingerprint string
	// SignedBy is the fingerprint of the key that signed: Fingerprint, or a
	// subkey of it.
	SignedBy string
	// KeyID is the 16-digit id of the key that signed, upper-case hex.
	KeyID string
	// CreatedAt is the signer's own claim, UTC, whole seconds. Only a
	// time-stamp proves a time.
	CreatedAt time.Time
	// Hash is the digest's name, such as "SHA-512".
	Hash string
	// Certified: the key binds a user id to itself, or another key of the ring
	// certifies it. False for a bare key.
	Certified bool
	// CertifiedBy lists the fingerprints of other keys of the ring that
	// certify the key at the trusted time.
	CertifiedBy []string
	// Warnings says in words what is weaker than it should be.
	Warnings []string
}

// VerifyDetached checks that a key of ring made sig over data (RFC 9580,
// section 5.2.4, types 0x00 and 0x01). sig holds exactly one signature, armored
// or binary, of at most [MaxSignatureBytes].
//
// The key's expiry and revocation are judged at the time at, which the caller
// trusts (a verified token's genTime); zero means the signature's own claim,
// which the holder of an expired key can choose.
//
// Errors wrap [ErrMalformed], [ErrUnknownKey], [ErrBadSignature], [ErrWeak],
// [ErrKeyExpired], [ErrKeyRevoked] or [ErrKeyUsage]; an error of data comes
// back as it is.
func VerifyDetached(ring *KeyRing, data io.Reader, sig []byte, at time.Time) (Signature, error) {
	s, err := readSignature(sig)
	if err != nil {
		return Signature{}, fmt.Errorf("read signature: %w", err)
	}
	out := Signature{CreatedAt: s.CreationTime.UTC(), Hash: s.Hash.String()}
	if s.IssuerKeyId == nil {
		return out, fmt.Errorf("signature names no issuer: %w", ErrMalformed)
	}
	out.KeyID = fmt.Sprintf("%016X", *s.IssuerKeyId)
	if weakHash(s.Hash) {
		return out, fmt.Errorf("signature over %s: %w", s.Hash, ErrWeak)
	}
	if name := unknownCritical(s); name != "" {
		return out, fmt.Errorf("signature has the unknown critical notation %q: %w", name, ErrBadSignature)
	}
	found := ring.candidates(s)
	if len(found) == 0 {
		return out, fmt.Errorf("signature by key %s: %w", out.KeyID, ErrUnknownKey)
	}
	// One running hash for each candidate: VerifySignature writes into it.
	hashes := make([]hash.Hash, len(found))
	writers := make([]io.Writer, len(found))
	for i := range found {
		h, err := s.PrepareVerify()
		if err != nil {
			return out, fmt.Errorf("signature: %v: %w", err, ErrMalformed)
		}
		hashes[i], writers[i] = h, h
		if s.SigType == packet.SigTypeText {
			writers[i] = pgp.NewCanonicalTextHash(h)
		}
	}
	if _, err := io.Copy(io.MultiWriter(writers...), data); err != nil {
		return out, fmt.Errorf("read signed data: %w", err)
	}
	for i, c := range found {
		if c.signing().VerifySignature(hashes[i], s) != nil {
			continue
		}
		out.Fingerprint = c.key.Fingerprint()
		out.SignedBy, out.KeyID = fingerprint(c.signing()), keyID(c.signing())
		return out, c.accept(ring, s, at, &out)
	}
	return out, fmt.Errorf("signature by key %s: %w", out.KeyID, ErrBadSignature)
}

// candidate is a key that the signature may be by: a primary key or one of its
// subkeys.
type candidate struct {
	key *PublicKey
	sub *part
}

func (c candidate) signing() *packet.PublicKey {
	if c.sub != nil {
		return c.sub.sub
	}
	return c.key.primary
}

// accept judges the key of a signature that verifies.
func (c candidate) accept(ring *KeyRing, s *packet.Signature, at time.Time, out *Signature) error {
	out.Warnings = c.key.Warnings()
	when := at
	if when.IsZero() {
		when = s.CreationTime
	} else if s.CreationTime.After(when) {
		out.Warnings = append(out.Warnings, fmt.Sprintf("signature says it was made at %s, after the trusted time %s", stamp(s.CreationTime), stamp(when)))
	}
	for _, other := range ring.keys {
		if other != c.key && CertifiedBy(c.key, other, when) == nil {
			out.CertifiedBy = append(out.CertifiedBy, other.Fingerprint())
		}
	}
	out.Certified = c.key.SelfSigned() || len(out.CertifiedBy) > 0
	if s.CreationTime.Before(c.signing().CreationTime) {
		return fmt.Errorf("signature of %s is older than its key of %s: %w", stamp(s.CreationTime), stamp(c.signing().CreationTime), ErrKeyExpired)
	}
	if end, ok := ends(s.CreationTime, s.SigLifetimeSecs); ok && !when.Before(end) {
		return fmt.Errorf("signature expired at %s, before %s: %w", stamp(end), stamp(when), ErrKeyExpired)
	}
	if c.sub != nil {
		return c.key.subValidAt(c.sub, when)
	}
	return c.key.validAt(when, toSign)
}

// maxCandidates bounds the hashing for rings made to share one key id.
const maxCandidates = 8

func (r *KeyRing) candidates(s *packet.Signature) []candidate {
	var out []candidate
	add := func(pk *packet.PublicKey, c candidate) {
		if len(out) < maxCandidates && s.Version == pk.Version && s.CheckKeyIdOrFingerprint(pk) {
			out = append(out, c)
		}
	}
	if r == nil {
		return nil
	}
	for _, k := range r.keys {
		add(k.primary, candidate{key: k})
		for _, p := range k.parts {
			if p.sub != nil {
				add(p.sub, candidate{key: k, sub: p})
			}
		}
	}
	return out
}

// readSignature reads exactly one signature packet.
func readSignature(data []byte) (*packet.Signature, error) {
	if len(data) > MaxSignatureBytes {
		return nil, fmt.Errorf("%d bytes, at most %d allowed: %w", len(data), MaxSignatureBytes, ErrMalformed)
	}
	data, err := dearmor(data, armorSignature)
	if err != nil {
		return nil, err
	}
	packets, err := readPackets(data)
	if err != nil {
		return nil, err
	}
	if len(packets) != 1 || packets[0].Tag != tagSignature {
		return nil, fmt.Errorf("%d packets where exactly one signature is expected: %w", len(packets), ErrMalformed)
	}
	body := packets[0].Contents
	// The library says "unsupported" of MD5 and RIPEMD-160; they have a reason
	// of their own here (RFC 9580, section 9.5: 1 MD5, 2 SHA-1, 3 RIPEMD-160).
	if len(body) > 3 && (body[0] == 4 || body[0] == 6) && body[3] >= 1 && body[3] <= 3 {
		return nil, fmt.Errorf("hash algorithm %d: %w", body[3], ErrWeak)
	}
	p, err := packets[0].Parse()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", err, ErrMalformed)
	}
	sig, ok := p.(*packet.Signature)
	if !ok {
		return nil, fmt.Errorf("not a signature: %w", ErrMalformed)
	}
	if sig.SigType != packet.SigTypeBinary && sig.SigType != packet.SigTypeText {
		return nil, fmt.Errorf("signature type 0x%02x is not over a document: %w", uint8(sig.SigType), ErrMalformed)
	}
	return sig, nil
}

// unknownCritical names a critical notation: we know none, so the signature
// means something that we cannot judge (RFC 9580, section 5.2.3.24).
func unknownCritical(sig *packet.Signature) string {
	for _, n := range sig.Notations {
		if n.IsCritical {
			return n.Name
		}
	}
	return ""
}

// Reason returns the sentinel that err wraps, or nil.
func Reason(err error) error {
	for _, r := range []error{ErrMalformed, ErrBadSignature, ErrUnknownKey, ErrWeak, ErrKeyExpired, ErrKeyRevoked, ErrKeyUsage, ErrNotCertified, ErrPassphrase} {
		if errors.Is(err, r) {
			return r
		}
	}
	return nil
}
