package devtsa_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

// openssl as the TSA, with our certificates: the verifier against an issuer
// that shares nothing with it, with both versions of ESSCertID.
func TestWeVerifyWhatOpensslStamps(t *testing.T) {
	a := newAuthority(t, time.Now())
	state, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cut := bytes.Index(state, []byte("-----BEGIN CERT"))
	key := write(t, dir, "key.pem", state[:cut])
	leaf := write(t, dir, "leaf.pem", state[cut:bytes.LastIndex(state, []byte("-----BEGIN CERT"))])
	root := write(t, dir, "root.pem", a.RootPEM())
	write(t, dir, "serial", []byte("01\n"))
	digest, nonce := sha256.Sum256([]byte("data")), new(big.Int).Lsh(big.NewInt(3), 70)
	policy := asn1.ObjectIdentifier{1, 2, 3, 4, 1}
	tsq := write(t, dir, "F.tsq", rfc3161.NewRequest(digest, nonce, policy))
	for _, c := range []struct {
		essHash, signerHash string
		version             int
	}{{"sha1", "sha256", 1}, {"sha256", "sha384", 2}, {"sha512", "sha512", 2}} {
		conf := write(t, dir, "tsa.cnf", fmt.Appendf(nil, `[tsa]
default_tsa = t
[t]
serial = %s/serial
crypto_device = builtin
default_policy = 1.2.3.4.1
other_policies = 1.2.3.4.2
digests = sha256, sha384, sha512
accuracy = secs:1, millisecs:500, microsecs:100
clock_precision_digits = 3
ordering = yes
tsa_name = yes
ess_cert_id_chain = yes
ess_cert_id_alg = %s
signer_digest = %s
`, dir, c.essHash, c.signerHash))
		tsr := filepath.Join(dir, "F.tsr")
		if out, err := openssl(t, "ts", "-reply", "-config", conf, "-section", "t", "-queryfile", tsq, "-signer", leaf, "-inkey", key, "-chain", root, "-out", tsr); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		der, err := os.ReadFile(tsr)
		if err != nil {
			t.Fatal(err)
		}
		token, err := rfc3161.ParseResponse(der)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		got, err := rfc3161.Verify(token, rfc3161.VerifyOptions{
			Digest: digest[:], Roots: roots(a), Nonce: nonce, Policies: []asn1.ObjectIdentifier{policy},
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Minute),
		})
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if got.ESSCertID != c.version || got.Accuracy != 1500100*time.Microsecond {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}
