package timestamp

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

// MaxReply is the largest answer of an authority that is read, in bytes.
const MaxReply = 64 << 10

// skew is how far an authority's clock may be from ours. It only rules out
// replayed tokens; what counts later is genTime alone.
const skew = 5 * time.Minute

// A Client asks one authority over HTTP (RFC 3161 section 3.4).
type Client struct {
	URL     string
	HTTP    *http.Client   // follows no redirects to other hosts
	Roots   *x509.CertPool // trust anchors of this authority
	Clock   func() time.Time
	Timeout time.Duration // for one answer; 0 is 20 s
}

// Stamp implements Authority.
func (c Client) Stamp(ctx context.Context, digest [sha256.Size]byte) (Stamp, error) {
	return stamp(ctx, digest, c.URL, c.Roots, c.Clock, c.Exchange)
}

// Exchange sends a DER TimeStampReq and returns the DER TimeStampResp, which is
// not verified.
func (c Client) Exchange(ctx context.Context, request []byte) (der []byte, err error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 20 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("ask the time-stamping authority %s: %w", c.URL, err)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/timestamp-query")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxReply+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answered %s", resp.Status)
	case resp.Header.Get("Content-Type") != "application/timestamp-reply":
		return nil, fmt.Errorf("it answered with %q, want application/timestamp-reply: is this the URL of an RFC 3161 service?", resp.Header.Get("Content-Type"))
	case len(body) > MaxReply:
		return nil, fmt.Errorf("its answer is over %d bytes", MaxReply)
	}
	return body, nil
}

// Local is an authority within this process.
type Local struct {
	Name    string
	Respond func(request []byte, at time.Time) ([]byte, error)
	Roots   *x509.CertPool
	Clock   func() time.Time
}

// Stamp implements Authority.
func (l Local) Stamp(ctx context.Context, digest [sha256.Size]byte) (Stamp, error) {
	return stamp(ctx, digest, l.Name, l.Roots, l.Clock, l.Exchange)
}

// Exchange answers a DER TimeStampReq with a DER TimeStampResp.
func (l Local) Exchange(_ context.Context, request []byte) ([]byte, error) {
	return l.Respond(request, l.Clock())
}

// stamp makes a request with a fresh nonce and verifies the answer in full.
func stamp(ctx context.Context, digest [sha256.Size]byte, name string, roots *x509.CertPool, clock func() time.Time, exchange func(context.Context, []byte) ([]byte, error)) (Stamp, error) {
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return Stamp{}, fmt.Errorf("make a nonce: %w", err)
	}
	asked := clock()
	der, err := exchange(ctx, rfc3161.NewRequest(digest, nonce, nil))
	if err != nil {
		return Stamp{}, err
	}
	token, err := rfc3161.ParseResponse(der)
	if err != nil {
		return Stamp{}, fmt.Errorf("read the answer of %s: %w", name, err)
	}
	v, err := rfc3161.Verify(token, rfc3161.VerifyOptions{
		Digest: digest[:], Roots: roots, Nonce: nonce,
		NotBefore: asked, NotAfter: clock(), MaxClockSkew: skew,
	})
	if err != nil {
		return Stamp{}, fmt.Errorf("verify the token of %s: %w", name, err)
	}
	return Stamp{Token: der, GenTime: v.GenTime, TSA: name}, nil
}
