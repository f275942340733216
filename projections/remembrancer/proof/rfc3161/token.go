package rfc3161

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cb "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxTokenBytes caps one response or token.
const MaxTokenBytes = 256 << 10

// maxCertificates caps the embedded certificates: each may cost a signature
// check.
const maxCertificates = 32

// Token is a parsed time-stamp token. Nothing in it is proven before [Verify].
type Token struct {
	Raw      []byte    // the token's DER (ContentInfo), without the response around it
	GenTime  time.Time // UTC, with the TSA's fraction of a second if any
	Accuracy time.Duration
	Policy   asn1.ObjectIdentifier
	Serial   *big.Int
	Nonce    *big.Int // nil if absent

	HashAlgorithm crypto.Hash
	Imprint       []byte

	// Certificate is the embedded certificate that the signer names, nil if
	// none is embedded.
	Certificate *x509.Certificate
	// Certificates are all embedded certificates that could be read.
	Certificates []*x509.Certificate

	content []byte // TSTInfo DER, the signed content
	signer  signer
}

// signer is the CMS SignerInfo, RFC 5652, section 5.3.
type signer struct {
	issuer, serial []byte // DER of the issuer name, big-endian serial; or
	keyID          []byte // subject key identifier
	digest         asn1.ObjectIdentifier
	algorithm      asn1.ObjectIdentifier
	attrs          []byte // signed attributes, DER as SET OF
	signature      []byte
}

func malformed(what string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(what, args...), ErrMalformed)
}

// ParseResponse reads a DER TimeStampResp (RFC 3161, section 2.4.2, the content
// of a .tsr file) of at most [MaxTokenBytes]. An answer without a token is a
// [*Refusal]; other errors wrap [ErrMalformed], [ErrContentType] or
// [ErrSignature].
func ParseResponse(der []byte) (*Token, error) {
	if len(der) > MaxTokenBytes {
		return nil, malformed("time-stamp response of %d bytes, at most %d allowed", len(der), MaxTokenBytes)
	}
	in := cryptobyte.String(der)
	var seq, info cryptobyte.String
	if !in.ReadASN1(&seq, cb.SEQUENCE) || !in.Empty() || !seq.ReadASN1(&info, cb.SEQUENCE) {
		return nil, malformed("time-stamp response is not one DER sequence")
	}
	status, err := readStatus(info)
	if err != nil {
		return nil, err
	}
	if status.Status != 0 && status.Status != 1 {
		return nil, status
	}
	if seq.Empty() {
		return nil, malformed("time-stamp response grants but holds no token")
	}
	return parseToken(seq)
}

// ParseToken reads a bare token (ContentInfo), or a whole response.
func ParseToken(der []byte) (*Token, error) {
	if len(der) > MaxTokenBytes {
		return nil, malformed("time-stamp token of %d bytes, at most %d allowed", len(der), MaxTokenBytes)
	}
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if in.ReadASN1(&seq, cb.SEQUENCE) && seq.PeekASN1Tag(cb.SEQUENCE) {
		return ParseResponse(der)
	}
	return parseToken(der)
}

func readStatus(info cryptobyte.String) (*Refusal, error) {
	r := &Refusal{Failure: NoFailure}
	if !info.ReadASN1Integer(&r.Status) {
		return nil, malformed("time-stamp response has no status")
	}
	if info.PeekASN1Tag(cb.SEQUENCE) {
		var texts cryptobyte.String
		if !info.ReadASN1(&texts, cb.SEQUENCE) {
			return nil, malformed("time-stamp response status text")
		}
		for !texts.Empty() {
			var text cryptobyte.String
			if !texts.ReadASN1(&text, cb.UTF8String) {
				return nil, malformed("time-stamp response status text")
			}
			r.Text = append(r.Text, string(text))
		}
	}
	if info.PeekASN1Tag(cb.BIT_STRING) {
		var bits asn1.BitString
		if !info.ReadASN1BitString(&bits) {
			return nil, malformed("time-stamp response failure info")
		}
		for i := 0; i < bits.BitLength; i++ {
			if bits.At(i) == 1 {
				r.Failure = Failure(i)
				break
			}
		}
	}
	if !info.Empty() {
		return nil, malformed("time-stamp response status has trailing fields")
	}
	return r, nil
}

func parseToken(der []byte) (*Token, error) {
	in := cryptobyte.String(der)
	var content, explicit, signed cryptobyte.String
	var kind asn1.ObjectIdentifier
	if !in.ReadASN1(&content, cb.SEQUENCE) || !in.Empty() || !content.ReadASN1ObjectIdentifier(&kind) {
		return nil, malformed("time-stamp token is not one DER ContentInfo")
	}
	if !kind.Equal(oidSignedData) {
		return nil, fmt.Errorf("time-stamp token holds %v, not SignedData: %w", kind, ErrContentType)
	}
	if !content.ReadASN1(&explicit, ctx(0)) || !content.Empty() || !explicit.ReadASN1(&signed, cb.SEQUENCE) || !explicit.Empty() {
		return nil, malformed("time-stamp token's SignedData")
	}
	t := &Token{Raw: bytes.Clone(der)}
	if err := t.readSignedData(signed); err != nil {
		return nil, fmt.Errorf("time-stamp token: %w", err)
	}
	if err := t.readTSTInfo(t.content); err != nil {
		return nil, fmt.Errorf("time-stamp token: %w", err)
	}
	t.Certificate = t.signer.pick(t.Certificates)
	return t, nil
}

// readSignedData reads RFC 5652, section 5.1.
func (t *Token) readSignedData(in cryptobyte.String) error {
	var version int64
	var algorithms, encap, explicit, signers, one cryptobyte.String
	var kind asn1.ObjectIdentifier
	if !in.ReadASN1Integer(&version) || !in.ReadASN1(&algorithms, cb.SET) || !in.ReadASN1(&encap, cb.SEQUENCE) || !encap.ReadASN1ObjectIdentifier(&kind) {
		return malformed("SignedData header")
	}
	if !kind.Equal(oidTSTInfo) {
		return fmt.Errorf("content type %v: %w", kind, ErrContentType)
	}
	if !encap.ReadASN1(&explicit, ctx(0)) || !encap.Empty() || !explicit.ReadASN1Bytes(&t.content, cb.OCTET_STRING) || !explicit.Empty() {
		return malformed("encapsulated content")
	}
	t.content = bytes.Clone(t.content)
	if in.PeekASN1Tag(ctx(0)) {
		var certs cryptobyte.String
		if !in.ReadASN1(&certs, ctx(0)) {
			return malformed("certificates")
		}
		for n := 0; !certs.Empty(); n++ {
			var raw cryptobyte.String
			var tag cb.Tag
			if n == maxCertificates || !certs.ReadAnyASN1Element(&raw, &tag) {
				return malformed("certificates")
			}
			// Other choices (attribute certificates) and certificates that
			// cannot be read do not help the chain.
			if cert, err := x509.ParseCertificate(bytes.Clone(raw)); tag == cb.SEQUENCE && err == nil {
				t.Certificates = append(t.Certificates, cert)
			}
		}
	}
	if in.PeekASN1Tag(ctx(1)) && !in.SkipASN1(ctx(1)) {
		return malformed("revocation lists")
	}
	if !in.ReadASN1(&signers, cb.SET) || !in.Empty() {
		return malformed("signers")
	}
	if !signers.ReadASN1(&one, cb.SEQUENCE) {
		return fmt.Errorf("no signer: %w", ErrSignature)
	}
	if !signers.Empty() {
		return fmt.Errorf("more than one signer: %w", ErrSignature)
	}
	return t.signer.read(one)
}

func (s *signer) read(in cryptobyte.String) error {
	var version int64
	if !in.ReadASN1Integer(&version) {
		return malformed("signer version")
	}
	if in.PeekASN1Tag(cb.SEQUENCE) {
		var sid, issuer cryptobyte.String
		serial := new(big.Int)
		if !in.ReadASN1(&sid, cb.SEQUENCE) || !sid.ReadASN1Element(&issuer, cb.SEQUENCE) || !sid.ReadASN1Integer(serial) || !sid.Empty() {
			return malformed("signer id")
		}
		s.issuer, s.serial = bytes.Clone(issuer), serial.Bytes()
	} else if !in.ReadASN1Bytes(&s.keyID, cb.Tag(0).ContextSpecific()) {
		return malformed("signer id")
	}
	var ok bool
	if s.digest, ok = readAlgorithm(&in); !ok {
		return malformed("signer's digest algorithm")
	}
	var attrs cryptobyte.String
	if !in.ReadASN1Element(&attrs, ctx(0)) {
		return fmt.Errorf("no signed attributes: %w", ErrSignature)
	}
	// What is signed is the DER of a SET OF, not of the [0] on the wire (RFC
	// 5652, section 5.4).
	s.attrs = bytes.Clone(attrs)
	s.attrs[0] = byte(cb.SET)
	if s.algorithm, ok = readAlgorithm(&in); !ok {
		return malformed("signer's signature algorithm")
	}
	if !in.ReadASN1Bytes(&s.signature, cb.OCTET_STRING) {
		return malformed("signature")
	}
	if in.PeekASN1Tag(ctx(1)) && !in.SkipASN1(ctx(1)) {
		return malformed("unsigned attributes")
	}
	if !in.Empty() {
		return malformed("signer has trailing fields")
	}
	return nil
}

// pick returns the first certificate that the signer id names.
func (s *signer) pick(certs []*x509.Certificate) *x509.Certificate {
	for _, c := range certs {
		if s.names(c) {
			return c
		}
	}
	return nil
}

func (s *signer) names(c *x509.Certificate) bool {
	if s.keyID != nil {
		return bytes.Equal(s.keyID, c.SubjectKeyId)
	}
	return bytes.Equal(s.issuer, c.RawIssuer) && c.SerialNumber.Sign() >= 0 && bytes.Equal(s.serial, c.SerialNumber.Bytes())
}

// readTSTInfo reads RFC 3161, section 2.4.2.
func (t *Token) readTSTInfo(der []byte) error {
	in := cryptobyte.String(der)
	var seq, at cryptobyte.String
	var version int64
	if !in.ReadASN1(&seq, cb.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(&version) || version != 1 || !seq.ReadASN1ObjectIdentifier(&t.Policy) {
		return malformed("TSTInfo header")
	}
	oid, hash, imprint, err := readImprint(&seq)
	if err != nil {
		return malformed("TSTInfo: %v", err)
	}
	if hash == 0 {
		return fmt.Errorf("TSTInfo: hash %v is unknown or too weak: %w", oid, ErrImprint)
	}
	t.HashAlgorithm, t.Imprint = hash, bytes.Clone(imprint)
	t.Serial = new(big.Int)
	if !seq.ReadASN1Integer(t.Serial) || !seq.ReadASN1(&at, cb.GeneralizedTime) {
		return malformed("TSTInfo serial or genTime")
	}
	var ok bool
	if t.GenTime, ok = parseTime(string(at)); !ok {
		return malformed("TSTInfo genTime %q", string(at))
	}
	if seq.PeekASN1Tag(cb.SEQUENCE) {
		if t.Accuracy, ok = readAccuracy(&seq); !ok {
			return malformed("TSTInfo accuracy")
		}
	}
	if seq.PeekASN1Tag(cb.BOOLEAN) {
		var ordering bool
		if !seq.ReadASN1Boolean(&ordering) {
			return malformed("TSTInfo ordering")
		}
	}
	if seq.PeekASN1Tag(cb.INTEGER) {
		t.Nonce = new(big.Int)
		if !seq.ReadASN1Integer(t.Nonce) {
			return malformed("TSTInfo nonce")
		}
	}
	if seq.PeekASN1Tag(ctx(0)) && !seq.SkipASN1(ctx(0)) {
		return malformed("TSTInfo tsa")
	}
	if seq.PeekASN1Tag(ctx(1)) {
		if err := readExtensions(&seq); err != nil {
			return err
		}
	}
	if !seq.Empty() {
		return malformed("TSTInfo has trailing fields")
	}
	return nil
}

// readExtensions refuses critical extensions: we know none.
func readExtensions(seq *cryptobyte.String) error {
	var list cryptobyte.String
	if !seq.ReadASN1(&list, ctx(1)) {
		return malformed("TSTInfo extensions")
	}
	for !list.Empty() {
		var ext cryptobyte.String
		var oid asn1.ObjectIdentifier
		var critical bool
		if !list.ReadASN1(&ext, cb.SEQUENCE) || !ext.ReadASN1ObjectIdentifier(&oid) ||
			!ext.ReadOptionalASN1Boolean(&critical, cb.BOOLEAN, false) || !ext.SkipASN1(cb.OCTET_STRING) || !ext.Empty() {
			return malformed("TSTInfo extensions")
		}
		if critical {
			return malformed("TSTInfo has the unknown critical extension %v", oid)
		}
	}
	return nil
}

// parseTime reads a GeneralizedTime as RFC 3161, section 2.4.2, wants it:
// YYYYMMDDhhmmss[.s...]Z without trailing zeros.
func parseTime(s string) (time.Time, bool) {
	at, err := time.Parse("20060102150405Z", s)
	if err != nil || strings.Contains(s, ",") || at.Format("20060102150405.999999999Z") != s {
		return time.Time{}, false
	}
	return at.UTC(), true
}

func readAccuracy(in *cryptobyte.String) (time.Duration, bool) {
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cb.SEQUENCE) {
		return 0, false
	}
	var sec, ms, us int64
	if seq.PeekASN1Tag(cb.INTEGER) && !seq.ReadASN1Integer(&sec) {
		return 0, false
	}
	if tag := cb.Tag(0).ContextSpecific(); seq.PeekASN1Tag(tag) && !seq.ReadASN1Int64WithTag(&ms, tag) {
		return 0, false
	}
	if tag := cb.Tag(1).ContextSpecific(); seq.PeekASN1Tag(tag) && !seq.ReadASN1Int64WithTag(&us, tag) {
		return 0, false
	}
	if !seq.Empty() || sec < 0 || sec > 1<<31 || ms < 0 || ms > 999 || us < 0 || us > 999 {
		return 0, false
	}
	return time.Duration(sec)*time.Second + time.Duration(ms)*time.Millisecond + time.Duration(us)*time.Microsecond, true
}

// ChainPEM returns the embedded certificates as PEM, the TSA's own first: what
// a bundle carries as tsa/chain.pem. Empty if the token embeds none.
func ChainPEM(t *Token) []byte {
	var out bytes.Buffer
	add := func(c *x509.Certificate) {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	if t.Certificate != nil {
		add(t.Certificate)
	}
	for _, c := range t.Certificates {
		if c != t.Certificate {
			add(c)
		}
	}
	return out.Bytes()
}

func ctx(n uint8) cb.Tag { return cb.Tag(n).ContextSpecific().Constructed() }
