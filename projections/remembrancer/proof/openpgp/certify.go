package openpgp

import (
	"bytes"
	"crypto"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// CertifiedBy returns nil if key carries, at the time at (zero: when the
// certification was made), a valid certification by certifier of a user id that
// key itself binds (RFC 9580, section 5.2.1, types 0x10-0x13). Otherwise the
// error wraps [ErrNotCertified], or the reason why certifier cannot speak:
// [ErrKeyRevoked], [ErrKeyExpired], [ErrKeyUsage], [ErrWeak].
func CertifiedBy(key, certifier *PublicKey, at time.Time) error {
	_, err := certification(key, certifier, at)
	return err
}

func certification(key, certifier *PublicKey, at time.Time) (*packet.Signature, error) {
	refused := fmt.Errorf("key %s by key %s: %w", key.Fingerprint(), certifier.Fingerprint(), ErrNotCertified)
	if key.Fingerprint() == certifier.Fingerprint() {
		return nil, refused
	}
	for _, p := range key.parts {
		if !p.bound() {
			continue
		}
		var yes, no *packet.Signature
		for _, s := range p.sigs {
			if !certifier.madeBy(s.sig) || !isCertification(s.sig) && s.sig.SigType != packet.SigTypeCertificationRevocation {
				continue
			}
			if !at.IsZero() && s.sig.CreationTime.After(at) || certifier.primary.VerifyUserIdSignature(*p.uid, key.primary, s.sig) != nil {
				continue
			}
			if isCertification(s.sig) {
				if !weakHash(s.sig.Hash) && (yes == nil || s.sig.CreationTime.After(yes.CreationTime)) {
					yes = s.sig
				}
			} else if no == nil || s.sig.CreationTime.After(no.CreationTime) {
				no = s.sig
			}
		}
		if yes == nil || no != nil && !no.CreationTime.Before(yes.CreationTime) || unknownCritical(yes) != "" {
			continue
		}
		when := at
		if when.IsZero() {
			when = yes.CreationTime
		}
		if end, ok := ends(yes.CreationTime, yes.SigLifetimeSecs); ok && !when.Before(end) {
			continue
		}
		if err := certifier.validAt(when, toCertify); err != nil {
			refused = fmt.Errorf("certification of key %s: %w", key.Fingerprint(), err)
			continue
		}
		return yes, nil
	}
	return nil, refused
}

// Certify signs every user id that other binds to itself, as of at, and returns
// other's public key with the new certifications (type 0x10, SHA-512) as one
// armored block. It needs k's primary key.
func (k *Key) Certify(other *PublicKey, at time.Time) ([]byte, error) {
	at = whole(at)
	if k.entity.PrivateKey == nil || k.entity.PrivateKey.Dummy() || k.entity.PrivateKey.Encrypted {
		return nil, fmt.Errorf("certify %s: the primary secret key of %s is not at hand: %w", other.Fingerprint(), k.Fingerprint(), ErrKeyUsage)
	}
	if err := k.public.validAt(at, toCertify); err != nil {
		return nil, fmt.Errorf("certify %s: %w", other.Fingerprint(), err)
	}
	out := Merge(&KeyRing{keys: []*PublicKey{other}}).keys[0]
	done := 0
	for _, p := range out.parts {
		if !p.bound() {
			continue
		}
		sig := newSignature(&k.entity.PrivateKey.PublicKey, packet.SigTypeGenericCert, at)
		if err := sig.SignUserId(*p.uid, out.primary, k.entity.PrivateKey, config(at)); err != nil {
			return nil, fmt.Errorf("certify %s: %w", other.Fingerprint(), err)
		}
		var buf bytes.Buffer
		if err := sig.Serialize(&buf); err != nil {
			return nil, fmt.Errorf("certify %s: %w", other.Fingerprint(), err)
		}
		op, err := packet.NewOpaqueReader(&buf).Next()
		if err != nil {
			return nil, fmt.Errorf("certify %s: %w", other.Fingerprint(), err)
		}
		out.addSig(p, op)
		done++
	}
	if done == 0 {
		return nil, fmt.Errorf("certify %s: it has no user id with a valid self-signature: %w", other.Fingerprint(), ErrMalformed)
	}
	return out.Armor()
}

func newSignature(pk *packet.PublicKey, kind packet.SignatureType, at time.Time) *packet.Signature {
	return &packet.Signature{
		Version:      pk.Version,
		SigType:      kind,
		PubKeyAlgo:   pk.PubKeyAlgo,
		Hash:         crypto.SHA512,
		CreationTime: at,
		IssuerKeyId:  &pk.KeyId,
	}
}
