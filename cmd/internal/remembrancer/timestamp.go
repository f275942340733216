package remembrancer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/internal/dial"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

func timestampCommand(d Deps) *cobra.Command {
	var w waiting
	var tsa, ca, out string
	var force bool
	cmd := &cobra.Command{
		Use:   "timestamp FILE",
		Short: "Have a file time-stamped and record the token",
		Long: `Get an RFC 3161 token over a file into FILE.tsr, then record it. Only the
file's SHA-256 is sent, to the node's time-stamping authority or to --tsa. The
token is verified completely before it is written.`,
		Example: `remembrancer timestamp artifact.tar.gz
remembrancer timestamp artifact.tar.gz --tsa https://freetsa.org/tsr --tsa-ca freetsa-root.pem`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				out = args[0] + ".tsr"
			}
			return d.timestamp(cmd.Context(), args[0], tsa, ca, out, force, w)
		},
	}
	cmd.Flags().StringVar(&tsa, "tsa", "", "`URL` of an authority; default: through the node")
	cmd.Flags().StringVar(&ca, "tsa-ca", "", "PEM `FILE` with the authority's root; default: the node's roots")
	cmd.Flags().StringVar(&out, "out", "", "where to write the token; default FILE.tsr")
	cmd.Flags().BoolVar(&force, "force", false, "replace another token that stands there")
	w.addFlags(cmd)
	return cmd
}

// tsaTime bounds one request to an authority.
const tsaTime = 30 * time.Second

func (d Deps) timestamp(ctx context.Context, file, tsa, ca, out string, force bool, w waiting) error {
	sum, size, err := d.hashFile(file)
	if err != nil {
		return err
	}
	return d.withNode(ctx, func(c *client) error {
		roots, err := c.roots(ctx, ca)
		if err != nil {
			return err
		}
		response, v, err := d.standingToken(file, out, sum, roots, force)
		if err != nil {
			return err
		}
		if response == nil {
			if response, v, err = d.newToken(ctx, c, tsa, ca, sum, roots); err != nil {
				return err
			}
			if err := writeFile(out, response, 0o644, force); err != nil {
				return err
			}
		}
		tsrSum := sha256.Sum256(response)
		name := tsa
		if name == "" {
			name = v.Chain[0].Subject.String()
		}
		p := &remembrancer.ArtifactTimestamped{
			SHA256: sum.String(), Name: filepath.Base(file), Size: size,
			Token: base64.StdEncoding.EncodeToString(response), TokenSHA256: hex.EncodeToString(tsrSum[:]),
			GenTime: events.FormatTime(v.GenTime), TSA: name, Policy: v.Policy.String(),
		}
		w.onceFor(p.Name, response)
		out := recordResult{SHA256: sum.String(), Wrote: out, GenTime: &v.GenTime, TSA: name}
		return d.recordArtifact(ctx, c, "timestamp", p, w, out)
	})
}

// newToken asks for a token and verifies it completely.
func (d Deps) newToken(ctx context.Context, c *client, tsa, ca string, sum digest, roots tsaRoots) ([]byte, rfc3161.Verified, error) {
	nonce, err := newNonce(d.Rand)
	if err != nil {
		return nil, rfc3161.Verified{}, err
	}
	asked := d.Clock()
	response, err := d.askTSA(ctx, c, tsa, rfc3161.NewRequest(sum, nonce, nil))
	if err != nil {
		return nil, rfc3161.Verified{}, err
	}
	token, err := rfc3161.ParseResponse(response)
	if err != nil {
		return nil, rfc3161.Verified{}, tsaError(err, ca)
	}
	v, err := rfc3161.Verify(token, rfc3161.VerifyOptions{
		Digest: sum[:], Roots: roots.pool, Intermediates: roots.certs, Nonce: nonce,
		NotBefore: asked, NotAfter: d.Clock(), MaxClockSkew: clockSkew,
	})
	if err != nil {
		return nil, rfc3161.Verified{}, tsaError(err, ca)
	}
	return response, v, nil
}

// standingToken returns a good token that stands at out already, so that a repeat
// of the command records it instead of asking for another; nil if there is none.
func (d Deps) standingToken(file, out string, sum digest, roots tsaRoots, force bool) ([]byte, rfc3161.Verified, error) {
	response, err := readBeside(out, rfc3161.MaxTokenBytes)
	if err != nil || response == nil || force {
		return nil, rfc3161.Verified{}, err
	}
	if _, err := rfc3161.ParseResponse(response); err == nil {
		if v, err := d.verifyFileToken(file, sum, response, roots); err == nil {
			d.Term.Note("%s holds a good token over this file already", out)
			return response, v, nil
		}
	}
	return nil, rfc3161.Verified{}, term.Errorf(term.Conflict, "choose another name with --out, or replace it with --force",
		"%s is there and no token over this file by a known authority", out)
}

// newNonce returns 64 random bits that fill 8 bytes whatever they are.
func newNonce(random io.Reader) (*big.Int, error) {
	b := make([]byte, 8)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("read randomness for a nonce: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

const (
	queryType = "application/timestamp-query"
	replyType = "application/timestamp-reply"
)

// askTSA sends a query through the node or to a URL that the user named.
func (d Deps) askTSA(ctx context.Context, c *client, tsa string, query []byte) ([]byte, error) {
	if tsa == "" {
		return c.bytes(ctx, call{method: http.MethodPost, path: "/v1/timestamp", contentType: queryType, body: query, most: rfc3161.MaxTokenBytes})
	}
	web, err := dial.NewClient(dial.Options{URL: tsa, Operator: true, Timeout: tsaTime, MaxBody: rfc3161.MaxTokenBytes})
	if err != nil {
		return nil, term.As(term.Usage, "name the authority's URL", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, tsa, bytes.NewReader(query))
	if err != nil {
		return nil, term.As(term.Usage, "name the authority's URL", err)
	}
	req.Header.Set("Content-Type", queryType)
	req.Header.Set("Accept", replyType)
	resp, err := web.Do(req)
	if errors.Is(err, dial.ErrRefused) {
		return nil, term.As(term.NotAllowed, "", err)
	}
	if err != nil {
		return nil, term.As(term.Unavailable, "try again, or another authority", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, term.Errorf(term.Unavailable, "try again, or another authority", "%s answered %d", tsa, resp.StatusCode)
	}
	b, err := readAtMost(resp.Body, rfc3161.MaxTokenBytes)
	return b, term.As(term.Unavailable, "try again, or another authority", err)
}

func tsaError(err error, ca string) error {
	switch {
	case errors.Is(err, rfc3161.ErrRefused):
		return term.As(term.Unavailable, "try again, or another authority", err)
	case errors.Is(err, rfc3161.ErrChain) && ca == "":
		return unverified("name the authority's root with --tsa-ca FILE", "token refused, nothing was written: %w", err)
	}
	return unverified("nothing was written; use another authority", "token refused: %w", err)
}
