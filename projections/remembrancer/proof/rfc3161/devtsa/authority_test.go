package devtsa_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161/devtsa"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newAuthority(t testing.TB, at time.Time) *devtsa.Authority {
	t.Helper()
	a, err := devtsa.NewAuthority("VaultMesh development TSA", at, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func respond(t testing.TB, a *devtsa.Authority, req []byte, at time.Time) []byte {
	t.Helper()
	resp, err := a.Respond(req, at)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func roots(a *devtsa.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Root())
	return p
}

// openssl is the judge of our tokens; without it the tests fail.
func openssl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatalf("these tests need the real openssl: %v", err)
	}
	out, err := exec.Command("openssl", args...).CombinedOutput()
	return string(out), err
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpensslAsksAndVerifies(t *testing.T) {
	now := time.Now() // openssl ts -verify judges the chain at its own clock
	a := newAuthority(t, now)
	dir := t.TempDir()
	file := write(t, dir, "F", []byte("data"))
	other := write(t, dir, "G", []byte("date"))
	root := write(t, dir, "root.pem", a.RootPEM())
	for _, hash := range []string{"-sha256", "-sha384", "-sha512"} {
		for _, cert := range []bool{true, false} {
			for _, nonce := range []bool{true, false} {
				tsq, tsr := filepath.Join(dir, "F.tsq"), filepath.Join(dir, "F.tsr")
				args := []string{"ts", "-query", "-data", file, hash, "-out", tsq}
				if cert {
					args = append(args, "-cert")
				}
				if !nonce {
					args = append(args, "-no_nonce")
				}
				if out, err := openssl(t, args...); err != nil {
					t.Fatalf("query: %v\n%s", err, out)
				}
				req, err := os.ReadFile(tsq)
				if err != nil {
					t.Fatal(err)
				}
				resp := respond(t, a, req, now)
				write(t, dir, "F.tsr", resp)
				extra := []string{"-CAfile", root}
				if !cert {
					extra = append(extra, "-untrusted", write(t, dir, "leaf.pem", rfc3161.ChainPEM(&rfc3161.Token{Certificate: a.Certificate()})))
				}
				for _, by := range [][]string{{"-data", file}, {"-queryfile", tsq}} {
					if out, err := openssl(t, append(append([]string{"ts", "-verify", "-in", tsr}, by...), extra...)...); err != nil {
						t.Errorf("%s cert=%v nonce=%v %s: %v\n%s", hash, cert, nonce, by[0], err, out)
					}
				}
				if _, err := openssl(t, append([]string{"ts", "-verify", "-in", tsr, "-data", other}, extra...)...); err == nil {
					t.Error("openssl verifies other data")
				}
				token, err := rfc3161.ParseResponse(resp)
				if err != nil {
					t.Fatal(err)
				}
				if (len(token.Certificates) > 0) != cert || (token.Nonce != nil) != nonce {
					t.Errorf("cert=%v nonce=%v: %d certificates, nonce %v", cert, nonce, len(token.Certificates), token.Nonce)
				}
				got, err := rfc3161.Verify(token, rfc3161.VerifyOptions{Data: strings.NewReader("data"), Roots: roots(a), Intermediates: []*x509.Certificate{a.Certificate()}})
				if err != nil || got.ESSCertID != 2 || got.Accuracy != time.Second {
					t.Errorf("ours: %+v %v", got, err)
				}
				// A second reader, written by others.
				if ts, err := timestamp.ParseResponse(resp); err != nil || !ts.Time.Equal(token.GenTime) {
					t.Errorf("digitorus/timestamp: %v", err)
				}
			}
		}
	}
}

func TestRejections(t *testing.T) {
	a := newAuthority(t, t0)
	digest := sha256.Sum256(nil)
	sha1 := bytes.Replace(rfc3161.NewRequest(digest, nil, nil), []byte{2, 1, 5, 0, 4, 32}, []byte{2, 9, 5, 0, 4, 32}, 1)
	extension := func() []byte {
		r := rfc3161.NewRequest(digest, nil, nil)
		r = append(r, 0xa0, 0)
		r[1] += 2
		return r
	}()
	for _, c := range []struct {
		name string
		req  []byte
		at   time.Time
		want rfc3161.Failure
		text string // in openssl's words
	}{
		{"garbage", []byte("hello"), t0, rfc3161.BadDataFormat, "the data submitted has the wrong format"},
		{"unknown hash", sha1, t0, rfc3161.BadAlgorithm, "unrecognized or unsupported algorithm identifier"},
		{"policy", rfc3161.NewRequest(digest, nil, asn1.ObjectIdentifier{1, 2, 3}), t0, rfc3161.UnacceptedPolicy, "the requested TSA policy is not supported by the TSA"},
		{"extension", extension, t0, rfc3161.UnacceptedExtension, "the requested extension is not supported by the TSA"},
		{"clock", rfc3161.NewRequest(digest, nil, nil), t0.AddDate(30, 0, 0), rfc3161.TimeNotAvailable, "the TSA's time source is not available"},
	} {
		resp := respond(t, a, c.req, c.at)
		_, err := rfc3161.ParseResponse(resp)
		r := rfc3161.IsRefusal(err)
		if r == nil || r.Status != 2 || r.Failure != c.want || !errors.Is(err, rfc3161.ErrRefused) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		out, err := openssl(t, "ts", "-reply", "-text", "-in", write(t, t.TempDir(), "r.tsr", resp))
		if err != nil || !strings.Contains(out, "Status: Rejected") || !strings.Contains(out, "Failure info: "+c.text) {
			t.Errorf("%s: openssl reads %v\n%s", c.name, err, out)
		}
	}
}

func TestNonceSerialAndPolicy(t *testing.T) {
	a := newAuthority(t, t0)
	digest := sha256.Sum256([]byte("data"))
	nonce := new(big.Int).Lsh(big.NewInt(1), 100)
	seen := map[string]bool{}
	for range 100 {
		token, err := rfc3161.ParseResponse(respond(t, a, rfc3161.NewRequest(digest, nonce, devtsa.Policy), t0.Add(500*time.Millisecond)))
		if err != nil {
			t.Fatal(err)
		}
		if token.Nonce.Cmp(nonce) != 0 || !token.Policy.Equal(devtsa.Policy) || !token.GenTime.Equal(t0) || token.Serial.Sign() <= 0 {
			t.Fatalf("%+v", token)
		}
		if seen[token.Serial.String()] {
			t.Fatal("a serial repeats")
		}
		seen[token.Serial.String()] = true
	}
}

func TestAuthoritySurvivesItsState(t *testing.T) {
	a := newAuthority(t, t0)
	state, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b, err := devtsa.Unmarshal(state)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum512_256([]byte("data"))
	token, err := rfc3161.ParseResponse(respond(t, b, rfc3161.NewRequest(digest, nil, nil), t0.AddDate(19, 0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rfc3161.Verify(token, rfc3161.VerifyOptions{Digest: digest[:], Roots: roots(a)}); err != nil {
		t.Error(err)
	}
	otherState, _ := newAuthority(t, t0).Marshal()
	mixed := append(bytes.Clone(state[:bytes.Index(state, []byte("-----BEGIN CERT"))]), otherState[bytes.Index(otherState, []byte("-----BEGIN CERT")):]...)
	for name, bad := range map[string][]byte{"empty": nil, "cut": state[:len(state)/2], "mixed": mixed, "trailing": append(bytes.Clone(state), 'x')} {
		if _, err := devtsa.Unmarshal(bad); !errors.Is(err, devtsa.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := devtsa.NewAuthority("Trustworthy TSA", t0, rand.Reader); !errors.Is(err, devtsa.ErrName) {
		t.Errorf("an authority hides what it is: %v", err)
	}
}
