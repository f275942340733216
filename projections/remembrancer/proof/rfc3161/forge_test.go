package rfc3161_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cb "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	t0     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	policy = asn1.ObjectIdentifier{1, 2, 3, 4, 1}

	oidTST       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidData      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEKU       = asn1.ObjectIdentifier{2, 5, 29, 37}
	ekuStamping  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
	ekuCodeSign  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
	oidSHA256    = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidECDSA256  = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidAttrType  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidAttrSum   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidAttrCert  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 12}
	oidAttrCert2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
)

// forger is a TSA that lies as told. It shares no code with devtsa: the zero
// lies must verify, so it also checks the verifier from a second side.
type forger struct {
	root, leaf *x509.Certificate
	rootKey    *ecdsa.PrivateKey
	key        *ecdsa.PrivateKey

	digest   []byte
	nonce    *big.Int
	policy   asn1.ObjectIdentifier
	at       time.Time
	content  asn1.ObjectIdentifier // eContentType
	attrType asn1.ObjectIdentifier // content-type attribute
	essV1    bool
	essOf    []byte // certificate whose hash is signed; nil: leaf; empty: no attribute
	essName  *big.Int
	certs    [][]byte
	status   int64
	signers  int
	tamper   func(info, attrs, sum []byte) // after hashing, before assembly
}

func newForger(t testing.TB) *forger {
	t.Helper()
	f := &forger{nonce: big.NewInt(42), policy: policy, at: t0, content: oidTST, attrType: oidTST, signers: 1}
	sum := sha256.Sum256([]byte("data"))
	f.digest = sum[:]
	f.root, f.rootKey = selfSigned(t, "root")
	f.reissue(t, func(*x509.Certificate) {}, ekuStamping)
	return f
}

func newECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func selfSigned(t testing.TB, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	k := newECKey(t)
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: t0.AddDate(-1, 0, 0), NotAfter: t0.AddDate(9, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	return issue(t, tpl, tpl, k.Public(), k), k
}

func issue(t testing.TB, tpl, parent *x509.Certificate, pub crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, pub, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ekuExtension(t testing.TB, critical bool, usages ...asn1.ObjectIdentifier) pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal(usages)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidEKU, Critical: critical, Value: der}
}

// reissue makes the leaf anew, edited by edit; without usages edit sets them.
func (f *forger) reissue(t testing.TB, edit func(*x509.Certificate), usages ...asn1.ObjectIdentifier) {
	t.Helper()
	f.key = newECKey(t)
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "tsa"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: t0.AddDate(0, -1, 0), NotAfter: t0.AddDate(0, 1, 0),
	}
	if len(usages) > 0 {
		tpl.ExtraExtensions = []pkix.Extension{ekuExtension(t, true, usages...)}
	}
	edit(tpl)
	f.leaf = issue(t, tpl, f.root, f.key.Public(), f.rootKey)
	f.certs = [][]byte{f.leaf.Raw, f.root.Raw}
}

func seq(parts ...[]byte) []byte { return wrap(cb.SEQUENCE, parts...) }

func wrap(tag cb.Tag, parts ...[]byte) []byte {
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(parts, nil)) })
	})
}

func der(f cryptobyte.BuilderContinuation) []byte {
	var b cryptobyte.Builder
	f(&b)
	return b.BytesOrPanic()
}

func oid(o asn1.ObjectIdentifier) []byte {
	return der(func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(o) })
}
func num(n int64) []byte     { return bigNum(big.NewInt(n)) }
func octets(v []byte) []byte { return der(func(b *cryptobyte.Builder) { b.AddASN1OctetString(v) }) }
func bigNum(n *big.Int) []byte {
	return der(func(b *cryptobyte.Builder) { b.AddASN1BigInt(n) })
}
func tagged(n uint8, parts ...[]byte) []byte {
	return wrap(cb.Tag(n).ContextSpecific().Constructed(), parts...)
}
func set(parts ...[]byte) []byte { return wrap(cb.SET, parts...) }

func attribute(o asn1.ObjectIdentifier, value []byte) []byte { return seq(oid(o), set(value)) }

// response is the whole TimeStampResp.
func (f *forger) response(t testing.TB) []byte {
	t.Helper()
	return seq(seq(num(f.status)), f.token(t))
}

func (f *forger) token(t testing.TB) []byte {
	t.Helper()
	sha := seq(oid(oidSHA256), []byte{5, 0})
	info := [][]byte{num(1), oid(f.policy), seq(sha, octets(f.digest)), num(7),
		der(func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(f.at) })}
	if f.nonce != nil {
		info = append(info, bigNum(f.nonce))
	}
	tst := seq(info...)
	sum := sha256.Sum256(tst)
	attrs := [][]byte{attribute(oidAttrType, oid(f.attrType)), attribute(oidAttrSum, octets(sum[:]))}
	if f.essOf == nil || len(f.essOf) > 0 {
		of := f.essOf
		if of == nil {
			of = f.leaf.Raw
		}
		var tail []byte
		if f.essName != nil {
			tail = seq(seq(tagged(4, f.leaf.RawIssuer)), bigNum(f.essName))
		}
		if f.essV1 {
			s := sha1.Sum(of)
			attrs = append(attrs, attribute(oidAttrCert, seq(seq(seq(octets(s[:]), tail)))))
		} else {
			s := sha256.Sum256(of)
			attrs = append(attrs, attribute(oidAttrCert2, seq(seq(seq(octets(s[:]), tail)))))
		}
	}
	slices.SortFunc(attrs, bytes.Compare)
	signed := bytes.Join(attrs, nil)
	toSign := sha256.Sum256(set(signed))
	signature, err := f.key.Sign(rand.Reader, toSign[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if f.tamper != nil {
		f.tamper(tst, signed, signature)
	}
	one := seq(num(1), seq(f.leaf.RawIssuer, bigNum(f.leaf.SerialNumber)), sha, tagged(0, signed), seq(oid(oidECDSA256)), octets(signature))
	var signers [][]byte
	for range f.signers {
		signers = append(signers, one)
	}
	var certs []byte
	if len(f.certs) > 0 {
		certs = tagged(0, f.certs...)
	}
	return seq(oid(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}), tagged(0,
		seq(num(3), set(sha), seq(oid(f.content), tagged(0, octets(tst))), certs, set(signers...))))
}
