package openpgp

import (
	"crypto"
	"crypto/rsa"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// usage is what a key wants to do with its signature, as a key flag (RFC 9580,
// section 5.2.3.29).
type usage byte

const (
	toCertify usage = packet.KeyFlagCertify
	toSign    usage = packet.KeyFlagSign
)

// judge verifies, once, every signature by the primary key on the key itself.
// Signatures by others are verified when asked for.
func (k *PublicKey) judge() {
	for _, s := range k.direct {
		if !k.madeBy(s.sig) {
			continue
		}
		switch s.sig.SigType {
		case packet.SigTypeDirectSignature:
			if k.primary.VerifyDirectKeySignature(s.sig) == nil {
				k.self = append(k.self, s.sig)
			}
		case packet.SigTypeKeyRevocation:
			if k.primary.VerifyRevocationSignature(s.sig) == nil {
				k.revocations = append(k.revocations, s.sig)
			}
		}
	}
	for _, p := range k.parts {
		for _, s := range p.sigs {
			if !k.madeBy(s.sig) {
				continue
			}
			switch {
			case p.uid != nil && isCertification(s.sig):
				if k.primary.VerifyUserIdSignature(*p.uid, k.primary, s.sig) == nil {
					p.self = append(p.self, s.sig)
					k.self = append(k.self, s.sig)
				}
			case p.uid != nil && s.sig.SigType == packet.SigTypeCertificationRevocation:
				if k.primary.VerifyUserIdSignature(*p.uid, k.primary, s.sig) == nil {
					p.revocations = append(p.revocations, s.sig)
				}
			case p.sub != nil && s.sig.SigType == packet.SigTypeSubkeyBinding:
				// Checks the subkey's cross-signature too, if it may sign.
				if k.primary.VerifyKeySignature(p.sub, s.sig) == nil {
					p.self = append(p.self, s.sig)
				}
			case p.sub != nil && s.sig.SigType == packet.SigTypeSubkeyRevocation:
				if k.primary.VerifySubkeyRevocationSignature(s.sig, p.sub) == nil {
					p.revocations = append(p.revocations, s.sig)
				}
			}
		}
	}
}

func (k *PublicKey) madeBy(sig *packet.Signature) bool {
	return sig != nil && sig.Version == k.primary.Version && sig.CheckKeyIdOrFingerprint(k.primary)
}

func isCertification(sig *packet.Signature) bool {
	switch sig.SigType {
	case packet.SigTypeGenericCert, packet.SigTypePersonaCert, packet.SigTypeCasualCert, packet.SigTypePositiveCert:
		return true
	}
	return false
}

// validAt says whether the primary key might do use at t.
func (k *PublicKey) validAt(t time.Time, use usage) error {
	name := "key " + k.Fingerprint()
	if weakKey(k.primary) {
		return fmt.Errorf("%s is %s: %w", name, describe(k.primary), ErrWeak)
	}
	if err := revokedAt(name, k.revocations, t); err != nil {
		return err
	}
	gov := governing(k.self, t)
	if err := aliveAt(name, k.primary, gov, t); err != nil {
		return err
	}
	if gov != nil && gov.FlagsValid && flags(gov)&use == 0 {
		return fmt.Errorf("%s: its owner did not allow this use: %w", name, ErrKeyUsage)
	}
	return nil
}

// subValidAt says whether the subkey p of k might sign at t.
func (k *PublicKey) subValidAt(p *part, t time.Time) error {
	name := "subkey " + fingerprint(p.sub)
	if weakKey(p.sub) {
		return fmt.Errorf("%s is %s: %w", name, describe(p.sub), ErrWeak)
	}
	if err := revokedAt("key "+k.Fingerprint(), k.revocations, t); err != nil {
		return err
	}
	if err := aliveAt("key "+k.Fingerprint(), k.primary, governing(k.self, t), t); err != nil {
		return err
	}
	if err := revokedAt(name, p.revocations, t); err != nil {
		return err
	}
	gov := governing(p.self, t)
	if gov == nil {
		return fmt.Errorf("%s: key %s does not bind it: %w", name, k.Fingerprint(), ErrKeyUsage)
	}
	if weakHash(gov.Hash) || gov.EmbeddedSignature != nil && weakHash(gov.EmbeddedSignature.Hash) {
		return fmt.Errorf("%s is bound with %s: %w", name, gov.Hash, ErrWeak)
	}
	if !gov.FlagsValid || flags(gov)&toSign == 0 {
		return fmt.Errorf("%s: its owner did not allow it to sign: %w", name, ErrKeyUsage)
	}
	return aliveAt(name, p.sub, gov, t)
}

// governing is the self-signature whose word counts at t: the newest made by
// then, or the oldest of all if exporters kept only later ones. Self-signatures
// over SHA-1 and on revoked user ids still count here: dropping them would lift
// the limits that the owner set.
func governing(sigs []*packet.Signature, t time.Time) *packet.Signature {
	var newest, oldest *packet.Signature
	for _, s := range sigs {
		if oldest == nil || s.CreationTime.Before(oldest.CreationTime) {
			oldest = s
		}
		if !s.CreationTime.After(t) && (newest == nil || s.CreationTime.After(newest.CreationTime)) {
			newest = s
		}
	}
	if newest != nil {
		return newest
	}
	return oldest
}

func aliveAt(name string, pk *packet.PublicKey, gov *packet.Signature, t time.Time) error {
	if pk.CreationTime.After(t) {
		return fmt.Errorf("%s was created at %s, after %s: %w", name, stamp(pk.CreationTime), stamp(t), ErrKeyExpired)
	}
	if gov == nil {
		return nil
	}
	if end, ok := ends(pk.CreationTime, gov.KeyLifetimeSecs); ok && !t.Before(end) {
		return fmt.Errorf("%s expired at %s, before %s: %w", name, stamp(end), stamp(t), ErrKeyExpired)
	}
	if end, ok := ends(gov.CreationTime, gov.SigLifetimeSecs); ok && !t.Before(end) {
		return fmt.Errorf("%s: its self-signature expired at %s, before %s: %w", name, stamp(end), stamp(t), ErrKeyExpired)
	}
	return nil
}

// revokedAt: a key that was superseded or retired stays good for what it did
// before; any other reason, or none, means that its past is in doubt too (RFC
// 9580, section 5.2.3.31).
func revokedAt(name string, revocations []*packet.Signature, t time.Time) error {
	for _, r := range revocations {
		soft := r.RevocationReason != nil &&
			(*r.RevocationReason == packet.KeySuperseded || *r.RevocationReason == packet.KeyRetired || *r.RevocationReason == packet.UserIDNotValid)
		if soft && r.CreationTime.After(t) {
			continue
		}
		why := "for a reason that reaches back in time"
		if soft {
			why = "as superseded or retired"
		}
		return fmt.Errorf("%s was revoked at %s %s: %w", name, stamp(r.CreationTime), why, ErrKeyRevoked)
	}
	return nil
}

// SelfSigned reports whether the owner of the key bound a user id to it (or
// signed the key directly) with a strong hash and did not revoke that since.
func (k *PublicKey) SelfSigned() bool {
	for _, s := range k.direct {
		if s.sig != nil && s.sig.SigType == packet.SigTypeDirectSignature && contains(k.self, s.sig) && !weakHash(s.sig.Hash) {
			return true
		}
	}
	for _, p := range k.parts {
		if p.bound() {
			return true
		}
	}
	return false
}

// bound: the newest word of the owner on this user id is a strong yes.
func (p *part) bound() bool {
	if p.uid == nil {
		return false
	}
	gov := newest(p.self)
	if gov == nil || weakHash(gov.Hash) {
		return false
	}
	rev := newest(p.revocations)
	return rev == nil || rev.CreationTime.Before(gov.CreationTime)
}

// Warnings says in words what a reader should know before trusting the key.
func (k *PublicKey) Warnings() []string {
	var out []string
	f := k.Fingerprint()
	switch {
	case len(k.UserIDs()) == 0 && len(k.self) == 0:
		out = append(out, "key "+f+" is bare: it has no user id and no self-signature, so nothing certifies it")
	case len(k.self) == 0:
		out = append(out, "key "+f+" has no self-signature, so nothing certifies its user ids")
	case !k.SelfSigned():
		out = append(out, "key "+f+" has only revoked or weak self-signatures")
	}
	if weakKey(k.primary) {
		out = append(out, "key "+f+" is "+describe(k.primary)+", which is too weak")
	}
	if k.unreadable > 0 {
		out = append(out, fmt.Sprintf("key %s carries %d signatures that could not be read", f, k.unreadable))
	}
	return out
}

func flags(sig *packet.Signature) usage {
	var u usage
	if sig.FlagCertify {
		u |= toCertify
	}
	if sig.FlagSign {
		u |= toSign
	}
	return u
}

func weakHash(h crypto.Hash) bool {
	switch h {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512:
		return false
	}
	return true
}

func weakKey(pk *packet.PublicKey) bool {
	switch pk.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		return rsaBits(pk) < 2048
	case packet.PubKeyAlgoECDSA, packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoEd25519, packet.PubKeyAlgoEd448,
		packet.PubKeyAlgoMldsa65Ed25519, packet.PubKeyAlgoMldsa87Ed448,
		packet.PubKeyAlgoSlhdsaShake128s, packet.PubKeyAlgoSlhdsaShake128f, packet.PubKeyAlgoSlhdsaShake256s:
		return false
	}
	return true
}

func rsaBits(pk *packet.PublicKey) int {
	if key, ok := pk.PublicKey.(*rsa.PublicKey); ok {
		return key.N.BitLen()
	}
	return 0
}

func describe(pk *packet.PublicKey) string {
	if bits := rsaBits(pk); bits > 0 {
		return fmt.Sprintf("RSA of %d bits", bits)
	}
	return fmt.Sprintf("of public-key algorithm %d", pk.PubKeyAlgo)
}

func ends(from time.Time, seconds *uint32) (time.Time, bool) {
	if seconds == nil || *seconds == 0 {
		return time.Time{}, false
	}
	return from.Add(time.Duration(*seconds) * time.Second), true
}

func newest(sigs []*packet.Signature) *packet.Signature {
	var out *packet.Signature
	for _, s := range sigs {
		if out == nil || s.CreationTime.After(out.CreationTime) {
			out = s
		}
	}
	return out
}

func contains(sigs []*packet.Signature, sig *packet.Signature) bool {
	for _, s := range sigs {
		if s == sig {
			return true
		}
	}
	return false
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
