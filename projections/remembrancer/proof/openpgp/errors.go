package openpgp

import "errors"

// The reasons for which a signature or a key is refused. Every error of this
// package wraps exactly one of them.
var (
	// ErrMalformed: the bytes are not one well-formed OpenPGP object of the
	// expected kind, or exceed their cap. Do not retry; get another file.
	ErrMalformed = errors.New("malformed OpenPGP data")
	// ErrBadSignature: the signature does not match the data and the key.
	ErrBadSignature = errors.New("bad OpenPGP signature")
	// ErrUnknownKey: no key of the ring made the signature. Look for the key
	// that the message names.
	ErrUnknownKey = errors.New("signing key is not in the key ring")
	// ErrWeak: SHA-1, MD5 or RIPEMD-160, RSA under 2048 bits, or DSA.
	ErrWeak = errors.New("algorithm or key too weak")
	// ErrKeyExpired: the key or the signature had expired at the trusted
	// time, or the key did not exist yet when the signature says it was made.
	ErrKeyExpired = errors.New("key not valid at that time")
	// ErrKeyRevoked: the key's owner revoked it before the trusted time, or
	// for a reason that reaches back (RFC 9580, section 5.2.3.31).
	ErrKeyRevoked = errors.New("key revoked")
	// ErrKeyUsage: the key exists but its owner did not allow it to make
	// such a signature, or it has no secret part.
	ErrKeyUsage = errors.New("key may not make this signature")
	// ErrNotCertified: the key carries no valid certification by the other.
	ErrNotCertified = errors.New("key is not certified by the other key")
	// ErrPassphrase: the secret key is locked and the passphrase is missing
	// or wrong.
	ErrPassphrase = errors.New("passphrase missing or wrong")
)
