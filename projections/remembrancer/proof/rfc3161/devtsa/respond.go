package devtsa

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cb "golang.org/x/crypto/cryptobyte/asn1"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

var (
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidTSTInfo       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningCertV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidECDSASHA256   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}

	oidOfHash = map[crypto.Hash]asn1.ObjectIdentifier{
		crypto.SHA256: oidSHA256,
		crypto.SHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2},
		crypto.SHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
	}
)

// Respond answers a DER TimeStampReq with a DER TimeStampResp that says the
// time is at, to the second, with an accuracy of one second. What it cannot
// serve it answers with a rejection and its PKIFailureInfo; the error is only
// for a failing source of randomness.
func (a *Authority) Respond(requestDER []byte, at time.Time) ([]byte, error) {
	req, err := rfc3161.ParseRequest(requestDER)
	switch {
	case err != nil:
		return reject(rfc3161.BadDataFormat, "the request is not a DER TimeStampReq"), nil //nolint:nilerr // the answer says it
	case req.Hash == 0:
		return reject(rfc3161.BadAlgorithm, "message imprint must be SHA-256, SHA-384 or SHA-512"), nil
	case len(req.Policy) > 0 && !req.Policy.Equal(Policy):
		return reject(rfc3161.UnacceptedPolicy, "the only policy is "+Policy.String()), nil
	case req.Extensions:
		return reject(rfc3161.UnacceptedExtension, "no extension is supported"), nil
	case at.Before(a.leaf.NotBefore) || at.After(a.leaf.NotAfter):
		return reject(rfc3161.TimeNotAvailable, "the clock is outside the certificate's validity"), nil
	}
	number, err := serial(a.rand)
	if err != nil {
		return nil, err
	}
	token, err := a.token(req, number, at.UTC().Truncate(time.Second))
	if err != nil {
		return nil, fmt.Errorf("issue token: %w", err)
	}
	return build(func(b *cryptobyte.Builder) {
		b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1Int64(0) })
			b.AddBytes(token)
		})
	})
}

// reject is a TimeStampResp without token, RFC 3161, section 2.4.2.
func reject(f rfc3161.Failure, text string) []byte {
	// A named bit list ends at its last one bit, X.690, section 11.2.2.
	bits := make([]byte, int(f)/8+2)
	bits[0] = byte(7 - int(f)%8)
	bits[len(bits)-1] = 0x80 >> (int(f) % 8)
	der, err := build(func(b *cryptobyte.Builder) {
		b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(2)
				b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cb.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(text)) })
				})
				b.AddASN1(cb.BIT_STRING, func(b *cryptobyte.Builder) { b.AddBytes(bits) })
			})
		})
	})
	if err != nil {
		panic(err) // only constants went in
	}
	return der
}

func (a *Authority) token(req *rfc3161.Request, number *big.Int, at time.Time) ([]byte, error) {
	info, err := tstInfo(req, number, at)
	if err != nil {
		return nil, err
	}
	attrs, err := a.attributes(info)
	if err != nil {
		return nil, err
	}
	set, err := build(func(b *cryptobyte.Builder) {
		b.AddASN1(cb.SET, func(b *cryptobyte.Builder) { b.AddBytes(attrs) })
	})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(set)
	signature, err := a.key.Sign(a.rand, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return build(func(b *cryptobyte.Builder) {
		b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) { // ContentInfo
			b.AddASN1ObjectIdentifier(oidSignedData)
			b.AddASN1(ctx(0), func(b *cryptobyte.Builder) {
				b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) { // SignedData
					b.AddASN1Int64(3)
					b.AddASN1(cb.SET, addSHA256)
					b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oidTSTInfo)
						b.AddASN1(ctx(0), func(b *cryptobyte.Builder) { b.AddASN1OctetString(info) })
					})
					if req.CertReq {
						b.AddASN1(ctx(0), func(b *cryptobyte.Builder) { b.AddBytes(sortedSet(a.leaf.Raw, a.root.Raw)) })
					}
					b.AddASN1(cb.SET, func(b *cryptobyte.Builder) {
						b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) { a.addSigner(b, attrs, signature) })
					})
				})
			})
		})
	})
}

func (a *Authority) addSigner(b *cryptobyte.Builder, attrs, signature []byte) {
	b.AddASN1Int64(1)
	b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(a.leaf.RawIssuer)
		b.AddASN1BigInt(a.leaf.SerialNumber)
	})
	addSHA256(b)
	b.AddASN1(ctx(0), func(b *cryptobyte.Builder) { b.AddBytes(attrs) })
	b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidECDSASHA256) })
	b.AddASN1OctetString(signature)
}

// tstInfo is RFC 3161, section 2.4.2.
func tstInfo(req *rfc3161.Request, number *big.Int, at time.Time) ([]byte, error) {
	return build(func(b *cryptobyte.Builder) {
		b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(1)
			b.AddASN1ObjectIdentifier(Policy)
			b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidOfHash[req.Hash])
					b.AddASN1NULL()
				})
				b.AddASN1OctetString(req.Imprint)
			})
			b.AddASN1BigInt(number)
			b.AddASN1GeneralizedTime(at)
			b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1Int64(1) })
			if req.Nonce != nil {
				b.AddASN1BigInt(req.Nonce)
			}
		})
	})
}

// attributes are the signed attributes in DER order. There is no signing time:
// genTime says it.
func (a *Authority) attributes(info []byte) ([]byte, error) {
	digest, certHash := sha256.Sum256(info), sha256.Sum256(a.leaf.Raw)
	values := []struct {
		oid asn1.ObjectIdentifier
		add cryptobyte.BuilderContinuation
	}{
		{oidContentType, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidTSTInfo) }},
		{oidMessageDigest, func(b *cryptobyte.Builder) { b.AddASN1OctetString(digest[:]) }},
		{oidSigningCertV2, func(b *cryptobyte.Builder) {
			b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) { // SigningCertificateV2
				b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) { // ESSCertIDv2, SHA-256 by default
						b.AddASN1OctetString(certHash[:])
						b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
								b.AddASN1(ctx(4), func(b *cryptobyte.Builder) { b.AddBytes(a.leaf.RawIssuer) })
							})
							b.AddASN1BigInt(a.leaf.SerialNumber)
						})
					})
				})
			})
		}},
	}
	var parts [][]byte
	for _, v := range values {
		der, err := build(func(b *cryptobyte.Builder) {
			b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(v.oid)
				b.AddASN1(cb.SET, v.add)
			})
		})
		if err != nil {
			return nil, err
		}
		parts = append(parts, der)
	}
	return sortedSet(parts...), nil
}

func addSHA256(b *cryptobyte.Builder) {
	b.AddASN1(cb.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSHA256)
		b.AddASN1NULL()
	})
}

// sortedSet is the content of a DER SET OF, X.690, section 11.6.
func sortedSet(parts ...[]byte) []byte {
	slices.SortFunc(parts, bytes.Compare)
	return bytes.Join(parts, nil)
}

func build(f cryptobyte.BuilderContinuation) ([]byte, error) {
	var b cryptobyte.Builder
	f(&b)
	return b.Bytes()
}

func ctx(n uint8) cb.Tag { return cb.Tag(n).ContextSpecific().Constructed() }
