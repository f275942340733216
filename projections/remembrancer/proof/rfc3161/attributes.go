package rfc3161

import (
	"bytes"
	"crypto"
	"crypto/sha1" //nolint:gosec // ESSCertID v1 is SHA-1 (RFC 2634); the signature does not rest on it alone // ESSCertID version 1 is SHA-1 by definition, RFC 2634, section 5.4.1
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cb "golang.org/x/crypto/cryptobyte/asn1"
)

// attributes are the signed attributes that we read.
type attributes struct {
	contentType   asn1.ObjectIdentifier
	messageDigest []byte
	certIDs       []certID // at most one per version
}

// certID is the first ESSCertID of a signing-certificate attribute: the one
// that names the signer's certificate.
type certID struct {
	version int
	hash    crypto.Hash // 0 if version 2 names one that we do not accept
	sum     []byte
	issuer  []byte // DER name, nil if absent
	serial  *big.Int
}

// readAttributes reads the signed attributes. Each one that matters appears
// once, with one value (RFC 5652, section 11).
func readAttributes(der []byte) (*attributes, error) {
	in := cryptobyte.String(der)
	var set cryptobyte.String
	if !in.ReadASN1(&set, cb.SET) || !in.Empty() {
		return nil, malformed("signed attributes")
	}
	a := &attributes{}
	seen := map[string]bool{}
	for !set.Empty() {
		var attr, values cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !set.ReadASN1(&attr, cb.SEQUENCE) || !attr.ReadASN1ObjectIdentifier(&oid) || !attr.ReadASN1(&values, cb.SET) || !attr.Empty() {
			return nil, malformed("signed attributes")
		}
		if seen[oid.String()] {
			return nil, malformed("signed attribute %v appears twice", oid)
		}
		seen[oid.String()] = true
		ok := true
		switch {
		case oid.Equal(oidContentType):
			ok = values.ReadASN1ObjectIdentifier(&a.contentType) && values.Empty()
		case oid.Equal(oidMessageDigest):
			ok = values.ReadASN1Bytes(&a.messageDigest, cb.OCTET_STRING) && values.Empty()
		case oid.Equal(oidSigningCert):
			ok = a.readCertID(&values, 1)
		case oid.Equal(oidSigningCertV2):
			ok = a.readCertID(&values, 2)
		}
		if !ok {
			return nil, malformed("signed attribute %v", oid)
		}
	}
	if a.contentType == nil || a.messageDigest == nil {
		return nil, fmt.Errorf("signed attributes lack content type or message digest: %w", ErrSignature)
	}
	return a, nil
}

// readCertID reads SigningCertificate (RFC 2634, section 5.4) or
// SigningCertificateV2 (RFC 5035, section 3).
func (a *attributes) readCertID(values *cryptobyte.String, version int) bool {
	var sc, certs, id cryptobyte.String
	if !values.ReadASN1(&sc, cb.SEQUENCE) || !values.Empty() || !sc.ReadASN1(&certs, cb.SEQUENCE) || !certs.ReadASN1(&id, cb.SEQUENCE) {
		return false
	}
	c := certID{version: version, hash: crypto.SHA1}
	if version == 2 {
		c.hash = crypto.SHA256
		if id.PeekASN1Tag(cb.SEQUENCE) {
			oid, ok := readAlgorithm(&id)
			if !ok {
				return false
			}
			c.hash = hashOf(oid)
		}
	}
	if !id.ReadASN1Bytes(&c.sum, cb.OCTET_STRING) {
		return false
	}
	if !id.Empty() {
		var is, names, dir, name cryptobyte.String
		c.serial = new(big.Int)
		if !id.ReadASN1(&is, cb.SEQUENCE) || !id.Empty() || !is.ReadASN1(&names, cb.SEQUENCE) || !is.ReadASN1Integer(c.serial) || !is.Empty() {
			return false
		}
		// GeneralNames with exactly one directoryName, RFC 5035, section 4.
		if !names.ReadASN1(&dir, ctx(4)) || !names.Empty() || !dir.ReadASN1Element(&name, cb.SEQUENCE) || !dir.Empty() {
			return false
		}
		c.issuer = name
	}
	a.certIDs = append(a.certIDs, c)
	return true
}

// confirms: there is a certificate id, and every one names cert.
func (a *attributes) confirms(cert *x509.Certificate) bool {
	for _, c := range a.certIDs {
		var sum []byte
		switch {
		case c.version == 1:
			s := sha1.Sum(cert.Raw) //nolint:gosec // see the import
			sum = s[:]
		case c.hash != 0:
			h := c.hash.New()
			h.Write(cert.Raw)
			sum = h.Sum(nil)
		}
		if sum == nil || !bytes.Equal(sum, c.sum) {
			return false
		}
		if c.serial != nil && (c.serial.Cmp(cert.SerialNumber) != 0 || !bytes.Equal(c.issuer, cert.RawIssuer)) {
			return false
		}
	}
	return len(a.certIDs) > 0
}

// version is the strongest one present.
func (a *attributes) version() int {
	v := 0
	for _, c := range a.certIDs {
		v = max(v, c.version)
	}
	return v
}
