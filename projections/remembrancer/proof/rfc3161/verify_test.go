package rfc3161_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// check parses and verifies as a careful caller does.
func (f *forger) check(t testing.TB, edit func(*rfc3161.VerifyOptions)) (rfc3161.Verified, error) {
	t.Helper()
	token, err := rfc3161.ParseResponse(f.response(t))
	if err != nil {
		return rfc3161.Verified{}, err
	}
	sum := sha256.Sum256([]byte("data"))
	o := rfc3161.VerifyOptions{
		Digest: sum[:], Roots: pool(f.root), Nonce: big.NewInt(42), Policies: []asn1.ObjectIdentifier{policy},
		NotBefore: t0.Add(-time.Minute), NotAfter: t0.Add(time.Minute),
	}
	if edit != nil {
		edit(&o)
	}
	return rfc3161.Verify(token, o)
}

func TestHonestTokenVerifies(t *testing.T) {
	for _, v1 := range []bool{false, true} {
		f := newForger(t)
		f.essV1 = v1
		got, err := f.check(t, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := 2
		if v1 {
			want = 1
		}
		if got.ESSCertID != want || !got.GenTime.Equal(t0) || len(got.Chain) != 2 || got.Serial.Int64() != 7 {
			t.Errorf("%+v", got)
		}
		f.essName = f.leaf.SerialNumber
		if _, err := f.check(t, nil); err != nil {
			t.Errorf("with issuer and serial in ESSCertID: %v", err)
		}
		f.nonce = nil
		if _, err := f.check(t, func(o *rfc3161.VerifyOptions) { o.Nonce = nil }); err != nil {
			t.Errorf("without nonce: %v", err)
		}
	}
}

// Fault 16: a TSA, or someone in between, lies. Each lie has its own reason.
func TestForgeriesAreRefused(t *testing.T) {
	mallory, malloryKey := selfSigned(t, "root")
	cases := []struct {
		name string
		lie  func(*forger)
		want error
	}{
		{"imprint of other data", func(f *forger) { f.digest = make([]byte, 32) }, rfc3161.ErrImprint},
		{"nonce of another request", func(f *forger) { f.nonce = big.NewInt(43) }, rfc3161.ErrNonce},
		{"no nonce", func(f *forger) { f.nonce = nil }, rfc3161.ErrNonce},
		{"another policy", func(f *forger) { f.policy = asn1.ObjectIdentifier{1, 2, 3, 4, 2} }, rfc3161.ErrPolicy},
		{"no EKU", func(f *forger) { f.reissue(t, func(*x509.Certificate) {}) }, rfc3161.ErrEKU},
		{"EKU for code signing", func(f *forger) { f.reissue(t, func(*x509.Certificate) {}, ekuCodeSign) }, rfc3161.ErrEKU},
		{"EKU for both", func(f *forger) { f.reissue(t, func(*x509.Certificate) {}, ekuStamping, ekuCodeSign) }, rfc3161.ErrEKU},
		{"EKU not critical", func(f *forger) {
			f.reissue(t, func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{ekuExtension(t, false, ekuStamping)}
			})
		}, rfc3161.ErrEKU},
		{"key usage for encryption", func(f *forger) {
			f.reissue(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, ekuStamping)
		}, rfc3161.ErrEKU},
		{"chain to a root of the same name", func(f *forger) {
			root := f.root
			f.root, f.rootKey = mallory, malloryKey
			f.reissue(t, func(*x509.Certificate) {}, ekuStamping)
			f.root = root
		}, rfc3161.ErrChain},
		{"certificate left out", func(f *forger) { f.certs = nil }, rfc3161.ErrChain},
		{"certificate expired at genTime", func(f *forger) {
			f.reissue(t, func(c *x509.Certificate) { c.NotAfter = t0.Add(-time.Second) }, ekuStamping)
		}, rfc3161.ErrGenTime},
		{"certificate not yet valid at genTime", func(f *forger) {
			f.reissue(t, func(c *x509.Certificate) { c.NotBefore = t0.Add(time.Second) }, ekuStamping)
		}, rfc3161.ErrGenTime},
		{"time before the request", func(f *forger) { f.at = t0.Add(-time.Hour) }, rfc3161.ErrGenTime},
		{"time after the answer", func(f *forger) { f.at = t0.Add(time.Hour) }, rfc3161.ErrGenTime},
		{"ESSCertID of another certificate", func(f *forger) { f.essOf = f.root.Raw }, rfc3161.ErrCertID},
		{"ESSCertID v1 of another certificate", func(f *forger) { f.essOf, f.essV1 = f.root.Raw, true }, rfc3161.ErrCertID},
		{"ESSCertID with another serial", func(f *forger) { f.essName = big.NewInt(99) }, rfc3161.ErrCertID},
		{"no ESSCertID", func(f *forger) { f.essOf = []byte{} }, rfc3161.ErrCertID},
		{"another leaf of the same name and serial", func(f *forger) {
			old := *f
			f.reissue(t, func(*x509.Certificate) {}, ekuStamping)
			f.key = old.key
			f.essOf = old.leaf.Raw
		}, rfc3161.ErrCertID},
		{"another leaf's key", func(f *forger) { f.key = newECKey(t) }, rfc3161.ErrSignature},
		{"altered signed attributes", func(f *forger) {
			f.tamper = func(_, attrs, _ []byte) { attrs[bytes.Index(attrs, []byte{4, 32})+2] ^= 1 }
		}, nil},
		{"altered TSTInfo", func(f *forger) { f.tamper = func(info, _, _ []byte) { info[len(info)-1] ^= 1 } }, rfc3161.ErrSignature},
		{"altered signature", func(f *forger) { f.tamper = func(_, _, sig []byte) { sig[len(sig)-1] ^= 1 } }, rfc3161.ErrSignature},
		{"two signers", func(f *forger) { f.signers = 2 }, rfc3161.ErrSignature},
		{"no signer", func(f *forger) { f.signers = 0 }, rfc3161.ErrSignature},
		{"content is not TSTInfo", func(f *forger) { f.content = oidData }, rfc3161.ErrContentType},
		{"signed for other content", func(f *forger) { f.attrType = oidData }, rfc3161.ErrContentType},
		{"status rejected, token attached", func(f *forger) { f.status = 2 }, rfc3161.ErrRefused},
		{"status waiting", func(f *forger) { f.status = 3 }, rfc3161.ErrRefused},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := newForger(t)
			c.lie(f)
			_, err := f.check(t, nil)
			if err == nil {
				t.Fatal("accepted")
			}
			if got := rfc3161.Reason(err); got == nil || c.want != nil && got != c.want {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestWrongLeafBesideTheRightOneDoesNotConfuse(t *testing.T) {
	f := newForger(t)
	right := *f
	f.reissue(t, func(*x509.Certificate) {}, ekuStamping) // same issuer, serial and name
	right.certs = [][]byte{f.leaf.Raw, right.leaf.Raw, right.root.Raw}
	if got, err := right.check(t, nil); err != nil || !bytes.Equal(got.Chain[0].Raw, right.leaf.Raw) {
		t.Errorf("%v", err)
	}
}

func TestCertificateMayComeFromOutside(t *testing.T) {
	f := newForger(t)
	f.certs = nil
	if _, err := f.check(t, func(o *rfc3161.VerifyOptions) { o.Intermediates = []*x509.Certificate{f.leaf} }); err != nil {
		t.Error(err)
	}
}

func TestTokenOutlivesItsCertificate(t *testing.T) {
	f := newForger(t)
	f.reissue(t, func(c *x509.Certificate) { c.NotAfter = t0.Add(time.Second) }, ekuStamping)
	if _, err := f.check(t, nil); err != nil {
		t.Error(err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	f := newForger(t)
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		edit func(*rfc3161.VerifyOptions)
		want error
	}{
		"no roots":        {func(o *rfc3161.VerifyOptions) { o.Roots = nil }, rfc3161.ErrChain},
		"no data":         {func(o *rfc3161.VerifyOptions) { o.Digest = nil }, rfc3161.ErrImprint},
		"both":            {func(o *rfc3161.VerifyOptions) { o.Data = strings.NewReader("data") }, rfc3161.ErrImprint},
		"data":            {func(o *rfc3161.VerifyOptions) { o.Digest, o.Data = nil, strings.NewReader("data") }, nil},
		"other data":      {func(o *rfc3161.VerifyOptions) { o.Digest, o.Data = nil, strings.NewReader("date") }, rfc3161.ErrImprint},
		"unreadable data": {func(o *rfc3161.VerifyOptions) { o.Digest, o.Data = nil, iotest.ErrReader(boom) }, boom},
		"skew":            {func(o *rfc3161.VerifyOptions) { o.NotBefore, o.MaxClockSkew = t0.Add(time.Minute), 2*time.Minute }, nil},
		"too much skew":   {func(o *rfc3161.VerifyOptions) { o.NotBefore, o.MaxClockSkew = t0.Add(time.Minute), time.Second }, rfc3161.ErrGenTime},
	} {
		if _, err := f.check(t, c.edit); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// Every bit of a token: refused, or without effect on what it proves.
func TestEveryFlippedBitOfAToken(t *testing.T) {
	f := newForger(t)
	good, err := f.check(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw := f.token(t)
	sum := sha256.Sum256([]byte("data"))
	o := rfc3161.VerifyOptions{Digest: sum[:], Roots: pool(f.root), Nonce: big.NewInt(42), Policies: []asn1.ObjectIdentifier{policy}}
	whole, err := rfc3161.ParseToken(raw)
	if err != nil {
		t.Fatal(err)
	}
	covered := make([]bool, len(raw))
	content, attrs, signature := rfc3161.SignedParts(whole)
	for _, part := range [][]byte{content, attrs, signature, f.leaf.Raw} {
		from := bytes.Index(raw, part)
		for i := range part {
			covered[from+i] = true
		}
	}
	harmless := 0
	for i := range raw {
		for bit := range 8 {
			bad := bytes.Clone(raw)
			bad[i] ^= 1 << bit
			token, err := rfc3161.ParseToken(bad)
			if err == nil {
				var got rfc3161.Verified
				got, err = rfc3161.Verify(token, o)
				if err == nil {
					if harmless++; !got.GenTime.Equal(good.GenTime) || covered[i] {
						t.Errorf("byte %d bit %d: accepted %+v", i, bit, got)
					}
					continue
				}
			}
			if rfc3161.Reason(err) == nil {
				t.Errorf("byte %d bit %d: no reason: %v", i, bit, err)
			}
		}
	}
	// Versions, the outer digest list and the unused root are not covered by anything.
	t.Logf("%d of %d bits have no effect", harmless, 8*len(raw))
}

func TestParsingIsStrict(t *testing.T) {
	f := newForger(t)
	raw := f.response(t)
	for name, in := range map[string][]byte{
		"empty": nil, "cut": raw[:len(raw)-1], "trailing byte": append(bytes.Clone(raw), 0), "text": []byte("hello"),
		"oversize": make([]byte, rfc3161.MaxTokenBytes+1), "granted without token": {0x30, 5, 0x30, 3, 2, 1, 0},
	} {
		if _, err := rfc3161.ParseResponse(in); rfc3161.Reason(err) != rfc3161.ErrMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := rfc3161.ParseToken(raw); err != nil {
		t.Errorf("a whole response is read as a token: %v", err)
	}
}

func TestRequestRoundTrip(t *testing.T) {
	digest := sha256.Sum256([]byte("data"))
	nonce, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	for _, n := range []*big.Int{nil, nonce, big.NewInt(0)} {
		for _, p := range []asn1.ObjectIdentifier{nil, policy} {
			r, err := rfc3161.ParseRequest(rfc3161.NewRequest(digest, n, p))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(r.Imprint, digest[:]) || !r.Policy.Equal(p) || !r.CertReq || (n == nil) != (r.Nonce == nil) || n != nil && n.Cmp(r.Nonce) != 0 {
				t.Errorf("%+v", r)
			}
		}
	}
}
