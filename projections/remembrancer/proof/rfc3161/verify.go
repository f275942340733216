package rfc3161

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
)

// VerifyOptions says what a token must prove. Exactly one of Digest and Data is
// set, and Roots.
type VerifyOptions struct {
	// Digest of the stamped data under the token's own hash algorithm.
	Digest []byte
	// Data is the stamped data itself, read to its end and hashed with the
	// token's algorithm (SHA-256, SHA-384 or SHA-512).
	Data io.Reader
	// Roots are the only trust anchors; nil is refused, the system's are
	// never used.
	Roots *x509.CertPool
	// Intermediates complete chains and stand in for certificates that the
	// token does not embed. They are not trusted.
	Intermediates []*x509.Certificate
	// Nonce of the request; nil skips the check, as for a token from a file.
	Nonce *big.Int
	// Policies accepted; empty accepts all.
	Policies []asn1.ObjectIdentifier
	// NotBefore and NotAfter bound genTime: when the request was made and when
	// the answer came. Zero leaves a side open.
	NotBefore, NotAfter time.Time
	// MaxClockSkew widens both bounds.
	MaxClockSkew time.Duration
}

// Verified is what a token proves: the data existed at GenTime, says the holder
// of Chain[0], within Accuracy.
type Verified struct {
	GenTime  time.Time
	Accuracy time.Duration // 0: the TSA states none
	Policy   asn1.ObjectIdentifier
	Serial   *big.Int
	// Chain leads from the TSA's certificate to a given root, valid at GenTime.
	Chain []*x509.Certificate
	// ESSCertID is the version by which the TSA signed its certificate's hash:
	// 1 (SHA-1) or 2.
	ESSCertID int
}

// Verify checks a token completely: the one signature over the signed
// attributes, these over the content (RFC 5652, section 5.6), ESSCertID against
// the signer's certificate (RFC 5816), its critical and sole timeStamping usage
// (RFC 3161, section 2.3), the chain at genTime, and then what the token says.
// The error wraps the sentinel of the first check that failed.
func Verify(t *Token, o VerifyOptions) (Verified, error) {
	if o.Roots == nil {
		return Verified{}, fmt.Errorf("no roots given: %w", ErrChain)
	}
	if (o.Digest == nil) == (o.Data == nil) {
		return Verified{}, fmt.Errorf("exactly one of digest and data is needed: %w", ErrImprint)
	}
	attrs, err := readAttributes(t.signer.attrs)
	if err != nil {
		return Verified{}, err
	}
	cert, ess, err := t.signerCertificate(attrs, o.Intermediates)
	if err != nil {
		return Verified{}, err
	}
	if err := t.checkSignature(attrs, cert); err != nil {
		return Verified{}, err
	}
	if err := checkUsage(cert); err != nil {
		return Verified{}, err
	}
	if t.GenTime.Before(cert.NotBefore) || t.GenTime.After(cert.NotAfter) {
		return Verified{}, fmt.Errorf("genTime %s is outside the certificate's validity %s to %s: %w",
			stamp(t.GenTime), stamp(cert.NotBefore), stamp(cert.NotAfter), ErrGenTime)
	}
	chain, err := t.chain(cert, o)
	if err != nil {
		return Verified{}, err
	}
	if err := t.checkContent(o); err != nil {
		return Verified{}, err
	}
	return Verified{GenTime: t.GenTime, Accuracy: t.Accuracy, Policy: t.Policy, Serial: t.Serial, Chain: chain, ESSCertID: ess}, nil
}

// signerCertificate finds the certificate that the signer id names and that the
// signed certificate id confirms. Several may carry one issuer and serial; only
// the hash tells them apart.
func (t *Token) signerCertificate(a *attributes, extra []*x509.Certificate) (*x509.Certificate, int, error) {
	named := 0
	for _, c := range append(append([]*x509.Certificate(nil), t.Certificates...), extra...) {
		if !t.signer.names(c) {
			continue
		}
		named++
		if a.confirms(c) {
			return c, a.version(), nil
		}
	}
	if named == 0 {
		return nil, 0, fmt.Errorf("the TSA's certificate is neither embedded nor given: %w", ErrChain)
	}
	return nil, 0, fmt.Errorf("ESSCertID: %w", ErrCertID)
}

func (t *Token) checkSignature(a *attributes, cert *x509.Certificate) error {
	if !a.contentType.Equal(oidTSTInfo) {
		return fmt.Errorf("signed for content type %v: %w", a.contentType, ErrContentType)
	}
	hash := hashOf(t.signer.digest)
	if hash == 0 {
		return fmt.Errorf("digest algorithm %v is unknown or too weak: %w", t.signer.digest, ErrSignature)
	}
	h := hash.New()
	h.Write(t.content)
	if !bytes.Equal(h.Sum(nil), a.messageDigest) {
		return fmt.Errorf("message digest does not match the content: %w", ErrSignature)
	}
	alg, err := signatureAlgorithm(t.signer.algorithm, hash)
	if err != nil {
		return err
	}
	if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < 2048 {
		return fmt.Errorf("RSA key of %d bits is too weak: %w", key.N.BitLen(), ErrSignature)
	}
	if err := cert.CheckSignature(alg, t.signer.attrs, t.signer.signature); err != nil {
		return fmt.Errorf("%v: %w", err, ErrSignature)
	}
	return nil
}

func signatureAlgorithm(oid asn1.ObjectIdentifier, hash crypto.Hash) (x509.SignatureAlgorithm, error) {
	byHash := func(a256, a384, a512 x509.SignatureAlgorithm) x509.SignatureAlgorithm {
		return map[crypto.Hash]x509.SignatureAlgorithm{crypto.SHA256: a256, crypto.SHA384: a384, crypto.SHA512: a512}[hash]
	}
	rsaAlg := byHash(x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA)
	ecAlg := byHash(x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512)
	switch {
	case oid.Equal(oidRSA),
		oid.Equal(oidRSAWithSHA256) && hash == crypto.SHA256,
		oid.Equal(oidRSAWithSHA384) && hash == crypto.SHA384,
		oid.Equal(oidRSAWithSHA512) && hash == crypto.SHA512:
		return rsaAlg, nil
	case oid.Equal(oidECPublicKey),
		oid.Equal(oidECDSAWithSHA256) && hash == crypto.SHA256,
		oid.Equal(oidECDSAWithSHA384) && hash == crypto.SHA384,
		oid.Equal(oidECDSAWithSHA512) && hash == crypto.SHA512:
		return ecAlg, nil
	case oid.Equal(oidEd25519) && hash == crypto.SHA512: // RFC 8419, section 3
		return x509.PureEd25519, nil
	}
	return 0, fmt.Errorf("signature algorithm %v with %s is not supported: %w", oid, hash, ErrSignature)
}

// checkUsage: RFC 3161, section 2.3: one critical extended key usage, only
// timeStamping.
func checkUsage(cert *x509.Certificate) error {
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidExtKeyUsage) {
			continue
		}
		switch {
		case !e.Critical:
			return fmt.Errorf("extended key usage is not critical: %w", ErrEKU)
		case len(cert.UnknownExtKeyUsage) > 0 || len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping:
			return fmt.Errorf("extended key usage is not timeStamping alone: %w", ErrEKU)
		case cert.KeyUsage != 0 && cert.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
			return fmt.Errorf("key usage does not allow signatures: %w", ErrEKU)
		}
		return nil
	}
	return fmt.Errorf("no extended key usage: %w", ErrEKU)
}

func (t *Token) chain(cert *x509.Certificate, o VerifyOptions) ([]*x509.Certificate, error) {
	pool := x509.NewCertPool()
	for _, c := range t.Certificates {
		pool.AddCert(c)
	}
	for _, c := range o.Intermediates {
		pool.AddCert(c)
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots:         o.Roots,
		Intermediates: pool,
		CurrentTime:   t.GenTime,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	})
	if err != nil {
		return nil, fmt.Errorf("%v: %w", err, ErrChain)
	}
	return chains[0], nil
}

func (t *Token) checkContent(o VerifyOptions) error {
	want := o.Digest
	if o.Data != nil {
		h := t.HashAlgorithm.New()
		if _, err := io.Copy(h, o.Data); err != nil {
			return fmt.Errorf("read stamped data: %w", err)
		}
		want = h.Sum(nil)
	}
	if !bytes.Equal(want, t.Imprint) {
		return fmt.Errorf("%s %x, not %x: %w", t.HashAlgorithm, t.Imprint, want, ErrImprint)
	}
	if o.Nonce != nil && (t.Nonce == nil || t.Nonce.Cmp(o.Nonce) != 0) {
		return fmt.Errorf("nonce %v, not %v: %w", t.Nonce, o.Nonce, ErrNonce)
	}
	accepted := len(o.Policies) == 0
	for _, p := range o.Policies {
		accepted = accepted || p.Equal(t.Policy)
	}
	if !accepted {
		return fmt.Errorf("policy %v: %w", t.Policy, ErrPolicy)
	}
	if !o.NotBefore.IsZero() && t.GenTime.Before(o.NotBefore.Add(-o.MaxClockSkew)) {
		return fmt.Errorf("genTime %s is before %s: %w", stamp(t.GenTime), stamp(o.NotBefore), ErrGenTime)
	}
	if !o.NotAfter.IsZero() && t.GenTime.After(o.NotAfter.Add(o.MaxClockSkew)) {
		return fmt.Errorf("genTime %s is after %s: %w", stamp(t.GenTime), stamp(o.NotAfter), ErrGenTime)
	}
	return nil
}

// IsRefusal returns the TSA's refusal in err, or nil.
func IsRefusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
