// Package openpgp makes and checks the OpenPGP half of a proof: detached
// signatures over a file or a checkpoint, and the certifications that tie a
// node's key to its operator's.
//
// It is pure: no disk, no network, no clock. Times come in as parameters and
// are cut to whole seconds, the resolution of the format (RFC 9580, section
// 3.5).
//
// Keys we make are version 4 with EdDSA (algorithm 22) over Ed25519 and
// signatures use SHA-512, the newest form that GnuPG 2.2 reads. Keys and
// signatures of others may be RSA, ECDSA or EdDSA, version 4 or 6.
//
// Every key in a [KeyRing] is a trust anchor only because its reader says so:
// nothing here decides whom to trust. A key without user id or self-signature
// is accepted, and every result says that nothing certifies it.
package openpgp
