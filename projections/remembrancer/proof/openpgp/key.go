package openpgp

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"crypto"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Signer makes detached signatures with one OpenPGP key, wherever its secret
// part lives: in this process ([Key]), with the user's own gpg, or in a KMS.
type Signer interface {
	// SignDetached reads r to its end and returns an armored detached
	// signature (type 0x00, SHA-512) that claims to be made at at. A signer
	// that cannot set the time claims its own. When it returns an error
	// nothing was signed, or the signature is lost: asking again is safe.
	SignDetached(r io.Reader, at time.Time) (armored []byte, err error)
	// Fingerprint is the primary key's full fingerprint in upper-case hex.
	Fingerprint() string
	// PublicArmor returns the public key as one armored block.
	PublicArmor() ([]byte, error)
}

var _ Signer = (*Key)(nil)

// Key is an OpenPGP key with its secret part unlocked in memory. It is safe for
// concurrent use. Printing it shows the fingerprint only.
type Key struct {
	entity *pgp.Entity
	public *PublicKey
}

// NewKey makes a version 4 EdDSA key (algorithm 22, Ed25519) that may sign and
// certify, with one self-signed user id, preferring SHA-512, without expiry,
// subkeys or passphrase. name, comment and email may be empty but not all; none
// may contain any of ()<> or NUL. rand is the source of the secret.
func NewKey(name, comment, email string, at time.Time, rand io.Reader) (*Key, error) {
	at = whole(at)
	if name == "" && comment == "" && email == "" {
		return nil, fmt.Errorf("new key: empty user id: %w", ErrMalformed)
	}
	if rand == nil {
		return nil, fmt.Errorf("new key: no source of randomness: %w", ErrMalformed)
	}
	cfg := config(at)
	cfg.Rand = rand
	cfg.Algorithm = packet.PubKeyAlgoEdDSA
	cfg.Curve = packet.Curve25519
	cfg.DefaultCipher = packet.CipherAES256
	e, err := pgp.NewEntity(name, comment, email, cfg)
	if err != nil {
		return nil, fmt.Errorf("new key: %v: %w", err, ErrMalformed)
	}
	e.Subkeys = nil // the library adds an encryption subkey; we never decrypt
	return newKey(e)
}

// ReadKey reads one secret key, armored or binary, unlocking it with
// passphrase if it is locked (nil otherwise). Errors wrap [ErrMalformed] or
// [ErrPassphrase].
func ReadKey(armored, passphrase []byte) (*Key, error) {
	if len(armored) > MaxKeyRingBytes {
		return nil, fmt.Errorf("read secret key of %d bytes, at most %d allowed: %w", len(armored), MaxKeyRingBytes, ErrMalformed)
	}
	data, err := dearmor(armored, armorPrivate)
	if err != nil {
		return nil, fmt.Errorf("read secret key: %w", err)
	}
	list, err := pgp.ReadKeyRing(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read secret key: %v: %w", err, ErrMalformed)
	}
	if len(list) != 1 || list[0].PrivateKey == nil {
		return nil, fmt.Errorf("read secret key: exactly one secret key expected: %w", ErrMalformed)
	}
	e := list[0]
	if locked(e) {
		if len(passphrase) == 0 {
			return nil, fmt.Errorf("read secret key %s: it is locked: %w", fingerprint(e.PrimaryKey), ErrPassphrase)
		}
		if err := e.DecryptPrivateKeys(passphrase); err != nil {
			return nil, fmt.Errorf("read secret key %s: %w", fingerprint(e.PrimaryKey), ErrPassphrase)
		}
	}
	return newKey(e)
}

func locked(e *pgp.Entity) bool {
	if !e.PrivateKey.Dummy() && e.PrivateKey.Encrypted {
		return true
	}
	for _, s := range e.Subkeys {
		if s.PrivateKey != nil && !s.PrivateKey.Dummy() && s.PrivateKey.Encrypted {
			return true
		}
	}
	return false
}

func newKey(e *pgp.Entity) (*Key, error) {
	var buf bytes.Buffer
	if err := e.Serialize(&buf); err != nil {
		return nil, fmt.Errorf("public part of key %s: %v: %w", fingerprint(e.PrimaryKey), err, ErrMalformed)
	}
	ring, err := ReadKeyRing(buf.Bytes())
	if err != nil {
		return nil, fmt.Errorf("public part of key %s: %w", fingerprint(e.PrimaryKey), err)
	}
	return &Key{entity: e, public: ring.keys[0]}, nil
}

// Public returns the public key.
func (k *Key) Public() *PublicKey { return k.public }

// Fingerprint is the primary key's full fingerprint in upper-case hex.
func (k *Key) Fingerprint() string { return k.public.Fingerprint() }

// String is the fingerprint; the secret never prints.
func (k *Key) String() string { return "openpgp key " + k.Fingerprint() }

// GoString is String: %#v must not print the secret either.
func (k *Key) GoString() string { return k.String() }

// Format is String for every verb.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// PublicArmor returns the public key as one armored block.
func (k *Key) PublicArmor() ([]byte, error) { return k.public.Armor() }

// Armor returns the secret key as one armored block without a passphrase: write
// it where only its owner can read.
func (k *Key) Armor() ([]byte, error) {
	var buf bytes.Buffer
	if err := k.entity.SerializePrivateWithoutSigning(&buf, nil); err != nil {
		return nil, fmt.Errorf("armor secret key %s: %w", k.Fingerprint(), err)
	}
	return enarmor(buf.Bytes(), armorPrivate)
}

// SignDetached signs what r holds with SHA-512 (type 0x00), claiming the time
// at, cut to seconds. With an EdDSA key the same data, key and time give the
// same bytes. Errors wrap [ErrKeyUsage], [ErrKeyExpired] or [ErrKeyRevoked], or
// are r's own.
func (k *Key) SignDetached(r io.Reader, at time.Time) ([]byte, error) {
	at = whole(at)
	priv, err := k.signingKey(at)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	h := crypto.SHA512.New()
	if priv.Version == 6 {
		return nil, fmt.Errorf("sign: version 6 keys are verified but not used to sign: %w", ErrKeyUsage)
	}
	if _, err := io.Copy(h, r); err != nil {
		return nil, fmt.Errorf("read data to sign: %w", err)
	}
	sig := newSignature(&priv.PublicKey, packet.SigTypeBinary, at)
	if err := sig.Sign(h, priv, config(at)); err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k.Fingerprint(), err)
	}
	var buf bytes.Buffer
	// Sign loses the errors of a crypto.Signer; Serialize refuses what it left.
	if err := sig.Serialize(&buf); err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k.Fingerprint(), err)
	}
	return enarmor(buf.Bytes(), armorSignature)
}

// signingKey prefers a signing subkey, as gpg does: the primary's secret may be
// kept offline.
func (k *Key) signingKey(at time.Time) (*packet.PrivateKey, error) {
	for i := len(k.entity.Subkeys) - 1; i >= 0; i-- {
		s := k.entity.Subkeys[i]
		if s.PrivateKey == nil || s.PrivateKey.Dummy() || !s.PublicKey.PubKeyAlgo.CanSign() {
			continue
		}
		for _, p := range k.public.parts {
			if p.sub != nil && fingerprint(p.sub) == fingerprint(s.PublicKey) && k.public.subValidAt(p, at) == nil {
				return s.PrivateKey, nil
			}
		}
	}
	if k.entity.PrivateKey.Dummy() {
		return nil, fmt.Errorf("key %s has no usable secret part: %w", k.Fingerprint(), ErrKeyUsage)
	}
	if err := k.public.validAt(at, toSign); err != nil {
		return nil, err
	}
	return k.entity.PrivateKey, nil
}

// config makes the library deterministic: its clock is at, and it adds no salt
// notation.
func config(at time.Time) *packet.Config {
	return &packet.Config{
		Time:                                  func() time.Time { return at },
		DefaultHash:                           crypto.SHA512,
		NonDeterministicSignaturesViaNotation: packet.BoolPointer(false),
	}
}

func whole(at time.Time) time.Time { return time.Unix(at.Unix(), 0).UTC() }
