package devtsa

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"
)

// ErrName means that an authority's name does not contain the word "development".
var ErrName = errors.New(`a development authority must say "development" in its name`)

// ErrState means that the PEM is not what [Authority.Marshal] wrote.
var ErrState = errors.New("not the state of a development authority")

// Policy is the only policy of an [Authority].
var Policy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 3161}

// lifetime of both certificates: an authority outlives the tests' tokens.
const lifetimeYears = 20

// Authority is a root CA with one time-stamping certificate, both ECDSA P-256.
// It is safe for concurrent use if its source of randomness is.
type Authority struct {
	root, leaf *x509.Certificate
	key        *ecdsa.PrivateKey // the leaf's; the root's is thrown away
	rand       io.Reader
}

// NewAuthority makes an authority whose certificates are valid from a day
// before at (clocks differ) for twenty years. commonName contains the word
// "development". The root's key is not kept, so nothing else can be issued.
func NewAuthority(commonName string, at time.Time, rand io.Reader) (*Authority, error) {
	if !strings.Contains(strings.ToLower(commonName), "development") {
		return nil, fmt.Errorf("%q: %w", commonName, ErrName)
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, fmt.Errorf("make root key: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, fmt.Errorf("make time-stamping key: %w", err)
	}
	from := at.UTC().Truncate(time.Second).AddDate(0, 0, -1)
	rootSerial, err := serial(rand)
	if err != nil {
		return nil, err
	}
	leafSerial, err := serial(rand)
	if err != nil {
		return nil, err
	}
	rootTemplate := &x509.Certificate{
		SerialNumber:          rootSerial,
		Subject:               pkix.Name{CommonName: commonName + " root"},
		NotBefore:             from,
		NotAfter:              from.AddDate(lifetimeYears, 0, 0),
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	root, err := issue(rand, rootTemplate, rootTemplate, rootKey.Public(), rootKey)
	if err != nil {
		return nil, fmt.Errorf("issue root: %w", err)
	}
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		return nil, err
	}
	leaf, err := issue(rand, &x509.Certificate{
		SerialNumber:          leafSerial,
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             from,
		NotAfter:              from.AddDate(lifetimeYears, 0, 0),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		// The standard library would write it as not critical; RFC 3161,
		// section 2.3, wants it critical.
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}},
	}, root, key.Public(), rootKey)
	if err != nil {
		return nil, fmt.Errorf("issue time-stamping certificate: %w", err)
	}
	return &Authority{root: root, leaf: leaf, key: key, rand: rand}, nil
}

func issue(rand io.Reader, template, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand, template, parent, pub, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// serial is 127 random bits, never 0: unique without state.
func serial(rand io.Reader) (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("make serial: %w", err)
	}
	b[0] &= 0x7f
	b[15] |= 1
	return new(big.Int).SetBytes(b), nil
}

// Root returns the certificate that a verifier of this authority trusts.
func (a *Authority) Root() *x509.Certificate { return a.root }

// RootPEM is Root as PEM: the file for openssl's -CAfile.
func (a *Authority) RootPEM() []byte { return certPEM(a.root) }

// Certificate returns the time-stamping certificate.
func (a *Authority) Certificate() *x509.Certificate { return a.leaf }

// Marshal returns the secret state as PEM: the time-stamping key, its
// certificate, the root. Write it where only its owner can read.
func (a *Authority) Marshal() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("marshal development authority: %w", err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	out = append(out, certPEM(a.leaf)...)
	return append(out, certPEM(a.root)...), nil
}

// Unmarshal reads what Marshal wrote. Errors wrap [ErrState] or [ErrName].
func Unmarshal(state []byte) (*Authority, error) {
	var blocks [][]byte
	for i, want := range []string{"PRIVATE KEY", "CERTIFICATE", "CERTIFICATE"} {
		block, rest := pem.Decode(state)
		if block == nil || block.Type != want {
			return nil, fmt.Errorf("PEM block %d is no %s: %w", i+1, want, ErrState)
		}
		blocks, state = append(blocks, block.Bytes), rest
	}
	if len(bytes.TrimSpace(state)) != 0 {
		return nil, fmt.Errorf("text after the third PEM block: %w", ErrState)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(blocks[0])
	if err != nil {
		return nil, fmt.Errorf("key: %v: %w", err, ErrState)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key is %T, not ECDSA: %w", parsed, ErrState)
	}
	leaf, err := x509.ParseCertificate(blocks[1])
	if err != nil {
		return nil, fmt.Errorf("time-stamping certificate: %v: %w", err, ErrState)
	}
	root, err := x509.ParseCertificate(blocks[2])
	if err != nil {
		return nil, fmt.Errorf("root: %v: %w", err, ErrState)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) || leaf.CheckSignatureFrom(root) != nil {
		return nil, fmt.Errorf("key, certificate and root do not belong together: %w", ErrState)
	}
	if !strings.Contains(strings.ToLower(leaf.Subject.CommonName), "development") {
		return nil, fmt.Errorf("%q: %w", leaf.Subject.CommonName, ErrName)
	}
	return &Authority{root: root, leaf: leaf, key: key, rand: rand.Reader}, nil
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
