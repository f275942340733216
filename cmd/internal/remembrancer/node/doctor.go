package node

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/consumers/remembrancer/seal"
	"vaultmesh.cloud/vaultmesh/consumers/remembrancer/timestamp"
	"vaultmesh.cloud/vaultmesh/internal/dial"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

// expirySoon is how long before its end a certificate is a finding.
const expirySoon = 30 * 24 * time.Hour

// Checks returns the layer's lines of doctor.
func Checks(clock func() time.Time) []daemon.Check {
	return []daemon.Check{
		{Name: "identity", Run: checkIdentity},
		{Name: "ledger", Run: checkLedger},
		{Name: "head", Run: checkHead},
		{Name: "time stamps", Run: func(ctx context.Context, x daemon.Examined) (string, []daemon.Finding) {
			return checkTSA(ctx, x, clock)
		}},
	}
}

func found(mend, format string, args ...any) (string, []daemon.Finding) {
	return "", []daemon.Finding{{What: fmt.Sprintf(format, args...), Mend: mend}}
}

// checkIdentity reads the public keys and the operator's certification of the
// node's.
func checkIdentity(_ context.Context, x daemon.Examined) (string, []daemon.Finding) {
	dir := filepath.Join(x.Config.Data, "keys")
	read := func(name string) (*openpgp.PublicKey, error) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		ring, err := openpgp.ReadKeyRing(b)
		if err != nil {
			return nil, err
		}
		if len(ring.Keys()) != 1 {
			return nil, fmt.Errorf("%s holds %d keys, want 1", name, len(ring.Keys()))
		}
		return ring.Keys()[0], nil
	}
	operator, err := read(operatorPublic)
	if errors.Is(err, fs.ErrNotExist) {
		return "no keys yet: the first start makes them", nil
	}
	if err != nil {
		return found("restore keys/ from a backup", "the operator's key: %v", err)
	}
	node, err := read(nodePublic)
	if err != nil {
		return found("remove keys/node.asc: the next start makes it anew", "the node's key: %v", err)
	}
	if err := openpgp.CertifiedBy(node, operator, time.Time{}); err != nil {
		return found("remove keys/node.asc: the next start makes it anew", "the operator's key does not certify the node's: %v", err)
	}
	return "operator " + operator.Fingerprint() + " certifies node " + node.Fingerprint(), nil
}

// checkLedger asks the running node, or opens the store and recomputes its root
// from the tiles.
func checkLedger(ctx context.Context, x daemon.Examined) (string, []daemon.Finding) {
	if x.Running {
		var info struct {
			Size        uint64
			Root, Alarm string
		}
		if err := x.Client.Do(ctx, http.MethodGet, "/v1/node", nil, &info); err != nil {
			return found("look at the node's log", "the node does not tell: %v", err)
		}
		if info.Alarm != "" {
			return found("stop the node, keep a copy of the data directory, then run `remembrancer verify-audit`", "%s", info.Alarm)
		}
		return fmt.Sprintf("%d entries, root %.16s...", info.Size, info.Root), nil
	}
	dir := filepath.Join(x.Config.Data, "ledger")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return "no ledger yet: the first start makes one", nil
	}
	l, err := ledger.Open(dir, ledger.Options{ReadOnly: true})
	if err != nil {
		return found("run `vaultmesh ledger rebuild`", "%v", err)
	}
	head := l.Head()
	if err := l.Close(); err != nil {
		return found("run `vaultmesh ledger rebuild`", "%v", err)
	}
	return fmt.Sprintf("%d entries, root %s", head.Size, head.Root), nil
}

// checkHead compares the newest published checkpoint with what this node has
// signed.
func checkHead(ctx context.Context, x daemon.Examined) (string, []daemon.Finding) {
	signed, err := seal.FileState{Path: filepath.Join(x.Config.Data, "keys", "signed.json")}.Load()
	if err != nil {
		return found("restore keys/signed.json from a backup; never remove it, since it keeps the log from forking", "the signer's state: %v", err)
	}
	if !x.Running {
		return fmt.Sprintf("the last signed size is %d; the published head is compared when a node runs", signed.Size), nil
	}
	vkey, err := fetch(ctx, x.Client, "/v1/keys/log.vkey")
	if err != nil {
		return found("look at the node's log", "the log's key: %v", err)
	}
	note, err := fetch(ctx, x.Client, "/checkpoint")
	if err != nil {
		return found("wait a second, then look at the node's log", "no checkpoint: %v", err)
	}
	c, err := proof.OpenCheckpoint(note, strings.TrimSpace(string(vkey)))
	if err != nil {
		return found("stop the node and run `remembrancer verify-audit`", "the published checkpoint: %v", err)
	}
	if c.Size == signed.Size && c.Root != proof.Hash(signed.Root) {
		return found("stop the node: do not let it sign before you know why", "at size %d the published root is %s, this node signed %s", c.Size, c.Root, proof.Hash(signed.Root))
	}
	return fmt.Sprintf("size %d of %s, signed", c.Size, c.Origin), nil
}

func fetch(ctx context.Context, c *daemon.Client, path string) (b []byte, err error) {
	req, err := c.Request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Send(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
}

// checkTSA gets a real token from each configured authority; of the development
// authority it reads the certificate.
func checkTSA(ctx context.Context, x daemon.Examined, clock func() time.Time) (string, []daemon.Finding) {
	if len(x.Config.TSA) == 0 {
		b, err := os.ReadFile(filepath.Join(x.Config.Data, "keys", tsaRoot))
		if errors.Is(err, fs.ErrNotExist) {
			return "a development authority will be made; name a real one with --tsa", nil
		}
		block, _ := pem.Decode(b)
		if err != nil || block == nil {
			return found("remove keys/tsa.pem and keys/tsa-root.pem", "the development authority's certificate cannot be read")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return found("remove keys/tsa.pem and keys/tsa-root.pem", "the development authority's certificate: %v", err)
		}
		return expiry(clock, "development authority "+cert.Subject.CommonName, cert, "remove keys/tsa.pem")
	}
	roots, _, err := readRoots(x.Config.TSACA)
	if err == nil && len(x.Config.TSACA) == 0 {
		roots, err = x509.SystemCertPool()
	}
	if err != nil {
		return found("correct --tsa-ca", "%v", err)
	}
	var well []string
	var findings []daemon.Finding
	for _, url := range x.Config.TSA {
		line, f := probe(ctx, url, roots, clock)
		findings = append(findings, f...)
		well = append(well, line)
	}
	return strings.Join(well, "; "), findings
}

func probe(ctx context.Context, url string, roots *x509.CertPool, clock func() time.Time) (string, []daemon.Finding) {
	const mend = "check the URL and the network; until it answers, checkpoints are sealed but not stamped"
	hc, err := dial.NewClient(dial.Options{URL: url, Operator: true, MaxBody: timestamp.MaxReply + 1})
	if err != nil {
		return found("correct --tsa", "%v", err)
	}
	s, err := timestamp.Client{URL: url, HTTP: hc, Roots: roots, Clock: clock, Timeout: 10 * time.Second}.Stamp(ctx, sha256.Sum256([]byte("vaultmesh doctor")))
	if err != nil {
		return found(mend, "%v", err)
	}
	t, err := rfc3161.ParseResponse(s.Token)
	if err != nil || t.Certificate == nil {
		return "stamped by " + url, nil
	}
	return expiry(clock, url, t.Certificate, "ask the authority for its next certificate's root, and add it with --tsa-ca")
}

func expiry(clock func() time.Time, name string, cert *x509.Certificate, mend string) (string, []daemon.Finding) {
	day := cert.NotAfter.UTC().Format(time.DateOnly)
	if cert.NotAfter.Before(clock().Add(expirySoon)) {
		return found(mend, "the certificate of %s ends on %s", name, day)
	}
	return name + ", certificate until " + day, nil
}
