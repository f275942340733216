package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
)

// Trust is what the user knows from elsewhere. The zero value pins nothing: then
// the report says of every anchor that it came with the bundle.
type Trust struct {
	Operator  string         // full fingerprint of the operator's OpenPGP key
	Signer    string         // full fingerprint of the artifact's signer, if another
	LogVKey   string         // the log's verifier key
	TSARoots  *x509.CertPool // roots of the time-stamping authorities
	Witnesses []string       // verifier keys of the witnesses to look for
	Quorum    int            // how many of them must have cosigned; 0 only reports
}

// A Subject is the artifact as the verifier has it.
type Subject struct {
	// Data is the file itself. It is read from its start, more than once. Nil if
	// it is not at hand: then its signature cannot be checked.
	Data io.ReadSeeker
	// SHA256 is the file's digest in hex, where Data is nil. Empty takes the
	// manifest's word for it.
	SHA256 string
}

// contextReader stops a long read when the context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// open returns the data from its start.
func (s Subject) open(ctx context.Context) (io.Reader, error) {
	if _, err := s.Data.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the artifact: %w", err)
	}
	return contextReader{ctx, s.Data}, nil
}

// measure returns the digest and size of the data; size is -1 without data.
func (s Subject) measure(ctx context.Context) (sum string, size int64, err error) {
	if s.Data == nil {
		return s.SHA256, -1, nil
	}
	r, err := s.open(ctx)
	if err != nil {
		return "", 0, err
	}
	h := sha256.New()
	if size, err = io.Copy(h, r); err != nil {
		return "", 0, fmt.Errorf("read the artifact: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// maxCertificates bounds chain verification.
const maxCertificates = 32

// parseChain reads certificates in PEM with nothing between them.
func parseChain(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(bytes.TrimSpace(b)) > 0 {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds something that is no certificate: %w", chainPath, proof.ErrMalformed)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %v: %w", chainPath, err, proof.ErrMalformed)
		}
		if certs = append(certs, c); len(certs) > maxCertificates {
			return nil, fmt.Errorf("%s: over %d certificates: %w", chainPath, maxCertificates, proof.ErrMalformed)
		}
	}
	return certs, nil
}

// rootsOf returns the self-issued authorities among the certificates.
func rootsOf(certs []*x509.Certificate) (*x509.CertPool, []*x509.Certificate) {
	pool, roots := x509.NewCertPool(), []*x509.Certificate(nil)
	for _, c := range certs {
		if c.IsCA && bytes.Equal(c.RawSubject, c.RawIssuer) {
			pool.AddCert(c)
			roots = append(roots, c)
		}
	}
	return pool, roots
}

// oneKey reads a file that must hold exactly one public key.
func (b *Bundle) oneKey(path string) (*openpgp.PublicKey, error) {
	raw := b.File(path)
	if raw == nil {
		return nil, nil
	}
	ring, err := openpgp.ReadKeyRing(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	keys := ring.Keys()
	if len(keys) != 1 {
		return nil, fmt.Errorf("%s holds %d keys, want one: %w", path, len(keys), proof.ErrMalformed)
	}
	return keys[0], nil
}
