package rfc3161

import (
	"crypto"
	"encoding/asn1"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cb "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxRequestBytes caps one request.
const MaxRequestBytes = 4 << 10

// NewRequest returns the DER of a TimeStampReq (RFC 3161, section 2.4.1) for a
// SHA-256 digest, asking for the TSA's certificates. nonce should be fresh, at
// least 64 random bits, and be checked in the answer; nil leaves it out. policy
// nil leaves the choice to the TSA; one that is no valid OID panics.
func NewRequest(digest [32]byte, nonce *big.Int, policy asn1.ObjectIdentifier) (der []byte) {
	var b cryptobyte.Builder
	b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidSHA256)
				b.AddASN1NULL()
			})
			b.AddASN1OctetString(digest[:])
		})
		if len(policy) > 0 {
			b.AddASN1ObjectIdentifier(policy)
		}
		if nonce != nil {
			b.AddASN1BigInt(nonce)
		}
		b.AddASN1Boolean(true)
	})
	return b.BytesOrPanic()
}

// Request is a parsed TimeStampReq.
type Request struct {
	Hash    crypto.Hash // 0 if it is none of SHA-256, SHA-384, SHA-512
	Imprint []byte      // of Hash's length, unless Hash is 0
	Policy  asn1.ObjectIdentifier
	Nonce   *big.Int
	CertReq bool
	// Extensions: the request has some. We know none, and a TSA must refuse
	// what it does not know (RFC 3161, section 2.4.1).
	Extensions bool
}

// ParseRequest reads a DER TimeStampReq of at most [MaxRequestBytes]. Errors
// wrap [ErrMalformed].
func ParseRequest(der []byte) (*Request, error) {
	bad := func(what string) error { return fmt.Errorf("time-stamp request: %s: %w", what, ErrMalformed) }
	if len(der) > MaxRequestBytes {
		return nil, bad("too long")
	}
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cb.SEQUENCE) || !in.Empty() {
		return nil, bad("not one sequence")
	}
	var version int64
	if !seq.ReadASN1Integer(&version) || version != 1 {
		return nil, bad("version is not 1")
	}
	r := &Request{}
	var err error
	if _, r.Hash, r.Imprint, err = readImprint(&seq); err != nil {
		return nil, bad(err.Error())
	}
	if seq.PeekASN1Tag(cb.OBJECT_IDENTIFIER) && !seq.ReadASN1ObjectIdentifier(&r.Policy) {
		return nil, bad("policy")
	}
	if seq.PeekASN1Tag(cb.INTEGER) {
		r.Nonce = new(big.Int)
		if !seq.ReadASN1Integer(r.Nonce) {
			return nil, bad("nonce")
		}
	}
	if seq.PeekASN1Tag(cb.BOOLEAN) && !seq.ReadASN1Boolean(&r.CertReq) {
		return nil, bad("certReq")
	}
	if seq.PeekASN1Tag(cb.Tag(0).ContextSpecific().Constructed()) {
		var ext cryptobyte.String
		if !seq.ReadASN1(&ext, cb.Tag(0).ContextSpecific().Constructed()) {
			return nil, bad("extensions")
		}
		r.Extensions = true
	}
	if !seq.Empty() {
		return nil, bad("trailing fields")
	}
	return r, nil
}

// readImprint reads a MessageImprint. An unknown hash is 0, not an error: a TSA
// answers it with badAlg.
func readImprint(in *cryptobyte.String) (asn1.ObjectIdentifier, crypto.Hash, []byte, error) {
	var seq cryptobyte.String
	var digest []byte
	if !in.ReadASN1(&seq, cb.SEQUENCE) {
		return nil, 0, nil, fmt.Errorf("message imprint")
	}
	oid, ok := readAlgorithm(&seq)
	if !ok || !seq.ReadASN1Bytes(&digest, cb.OCTET_STRING) || !seq.Empty() {
		return nil, 0, nil, fmt.Errorf("message imprint")
	}
	h := hashOf(oid)
	if h != 0 && len(digest) != h.Size() {
		return nil, 0, nil, fmt.Errorf("message imprint of %d bytes for %s", len(digest), h)
	}
	return oid, h, digest, nil
}

// readAlgorithm reads an AlgorithmIdentifier whose parameters are absent or
// NULL, as they are for every algorithm that we accept.
func readAlgorithm(in *cryptobyte.String) (asn1.ObjectIdentifier, bool) {
	var seq, null cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !in.ReadASN1(&seq, cb.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&oid) {
		return nil, false
	}
	if seq.PeekASN1Tag(cb.NULL) && (!seq.ReadASN1(&null, cb.NULL) || !null.Empty()) {
		return nil, false
	}
	return oid, seq.Empty()
}
