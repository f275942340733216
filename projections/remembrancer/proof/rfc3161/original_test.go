package rfc3161_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

func original(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "original", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func freeTSA(t testing.TB) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(original(t, "freetsa-root-from-token.pem")) {
		t.Fatal("no root")
	}
	return p
}

var originals = []struct {
	name string
	at   time.Time
}{
	{"SOVEREIGN_LORE_CODEX_V1.md", time.Date(2025, 10, 19, 23, 14, 6, 0, time.UTC)},
	{"test-app.tar.gz", time.Date(2025, 10, 19, 20, 16, 18, 0, time.UTC)},
}

func TestOriginalTokensVerifyAtTheirTime(t *testing.T) {
	for _, o := range originals {
		req, err := rfc3161.ParseRequest(original(t, o.name+".tsq"))
		if err != nil {
			t.Fatal(err)
		}
		token, err := rfc3161.ParseResponse(original(t, o.name+".tsr"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := rfc3161.Verify(token, rfc3161.VerifyOptions{
			Data: bytes.NewReader(original(t, o.name)), Roots: freeTSA(t), Nonce: req.Nonce,
			Policies: []asn1.ObjectIdentifier{{1, 2, 3, 4, 1}},
		})
		if err != nil {
			t.Fatalf("%s: %v", o.name, err)
		}
		if !got.GenTime.Equal(o.at) || got.ESSCertID != 1 {
			t.Errorf("%s: %+v", o.name, got)
		}
		// The leaf has expired since: only genTime makes the chain valid.
		if end := got.Chain[0].NotAfter; end.Format(time.DateOnly) != "2026-03-11" {
			t.Errorf("%s: leaf ends %s", o.name, end)
		}
		block, _ := pem.Decode(rfc3161.ChainPEM(token))
		if block == nil || !bytes.Equal(block.Bytes, got.Chain[0].Raw) {
			t.Error("chain PEM does not begin with the TSA's certificate")
		}
	}
}

// Every byte of the stamped files, and of everything the tokens sign.
func TestOriginalRefusedAfterOneFlippedByte(t *testing.T) {
	roots := freeTSA(t)
	for _, o := range originals {
		data, raw := original(t, o.name), original(t, o.name+".tsr")
		token, err := rfc3161.ParseResponse(raw)
		if err != nil {
			t.Fatal(err)
		}
		step := 1
		if testing.Short() {
			step = 101
		}
		for i := 0; i < len(data); i += 7 * step {
			data[i] ^= 1
			if _, err := rfc3161.Verify(token, rfc3161.VerifyOptions{Data: bytes.NewReader(data), Roots: roots}); rfc3161.Reason(err) != rfc3161.ErrImprint {
				t.Fatalf("%s byte %d: %v", o.name, i, err)
			}
			data[i] ^= 1
		}
		content, attrs, signature := rfc3161.SignedParts(token)
		for _, part := range []struct {
			name  string
			bytes []byte
			only  error // the one reason, if there is only one
		}{{"content", content, nil}, {"attributes", attrs, nil}, {"signature", signature, rfc3161.ErrSignature}} {
			from := bytes.Index(raw, part.bytes)
			if from < 0 || len(part.bytes) < 100 {
				t.Fatalf("%s: %s not found in the file", o.name, part.name)
			}
			for i := from; i < from+len(part.bytes); i += step {
				raw[i] ^= 1
				bad, err := rfc3161.ParseResponse(raw)
				if err == nil {
					_, err = rfc3161.Verify(bad, rfc3161.VerifyOptions{Data: bytes.NewReader(data), Roots: roots})
				}
				if reason := rfc3161.Reason(err); reason == nil || part.only != nil && reason != part.only {
					t.Errorf("%s.tsr byte %d (%s): %v", o.name, i, part.name, err)
				}
				raw[i] ^= 1
			}
		}
	}
}

func TestOriginalNeedsItsRootAndItsFile(t *testing.T) {
	a, b := originals[0].name, originals[1].name
	token, err := rfc3161.ParseResponse(original(t, a+".tsr"))
	if err != nil {
		t.Fatal(err)
	}
	other, _ := selfSigned(t, "www.freetsa.org")
	if _, err := rfc3161.Verify(token, rfc3161.VerifyOptions{Data: bytes.NewReader(original(t, a)), Roots: pool(other)}); rfc3161.Reason(err) != rfc3161.ErrChain {
		t.Errorf("another root: %v", err)
	}
	if _, err := rfc3161.Verify(token, rfc3161.VerifyOptions{Data: bytes.NewReader(original(t, b)), Roots: freeTSA(t)}); rfc3161.Reason(err) != rfc3161.ErrImprint {
		t.Errorf("the other file: %v", err)
	}
}
