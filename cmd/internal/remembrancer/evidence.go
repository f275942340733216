package remembrancer

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

// unverified gives what a check refused its exit code.
func unverified(mend, format string, args ...any) error {
	return term.Errorf(term.Unverified, mend, format, args...)
}

// logKeys is what a node says its evidence rests on.
type logKeys struct {
	vkey                     string
	operatorArmor, nodeArmor []byte
	operator, node           *openpgp.PublicKey
}

// logKey fetches the log's verifier key.
func (c *client) logKey(ctx context.Context) (string, error) {
	b, err := c.getBytes(ctx, "/v1/keys/log.vkey", 1<<10)
	if err != nil {
		return "", err
	}
	vkey := string(bytes.TrimSuffix(b, []byte("\n")))
	if _, _, err := proof.ParseVKey(vkey); err != nil {
		return "", unverified("", "the node's log key: %w", err)
	}
	return vkey, nil
}

// keys fetches the node's public keys.
func (c *client) keys(ctx context.Context) (logKeys, error) {
	var k logKeys
	var err error
	if k.vkey, err = c.logKey(ctx); err != nil {
		return k, err
	}
	if k.operator, err = c.operatorKey(ctx); err != nil {
		return k, err
	}
	if k.operatorArmor, err = k.operator.Armor(); err != nil {
		return k, err
	}
	if k.nodeArmor, err = c.getBytes(ctx, "/v1/keys/node.asc", maxKey); err != nil {
		return k, err
	}
	if k.node, err = oneKey(k.nodeArmor); err != nil {
		return k, unverified("", "the node's key: %w", err)
	}
	return k, nil
}

// operatorKey fetches the key of the node's operator.
func (c *client) operatorKey(ctx context.Context) (*openpgp.PublicKey, error) {
	armored, err := c.getBytes(ctx, "/v1/keys/operator.asc", maxKey)
	if err != nil {
		return nil, err
	}
	key, err := oneKey(armored)
	if err != nil {
		return nil, unverified("", "the operator's key: %w", err)
	}
	return key, nil
}

func oneKey(armored []byte) (*openpgp.PublicKey, error) {
	ring, err := openpgp.ReadKeyRing(armored)
	if err != nil {
		return nil, err
	}
	if n := len(ring.Keys()); n != 1 {
		return nil, fmt.Errorf("%d keys, want one", n)
	}
	return ring.Keys()[0], nil
}

// A proven event is one whose receipt was checked.
type proven struct {
	receipt receipt
	event   events.Event
	body    []byte           // canonical
	head    proof.Checkpoint // that holds it
	newest  proof.Checkpoint // consistent with head
}

// checkReceipt proves a receipt with the log's key alone: the event's own bytes
// give the leaf, the leaf leads to the root, the root is signed, and the newest
// head continues it. Nothing that the node merely states is believed.
func checkReceipt(r receipt, id events.ID, vkey string) (proven, error) {
	p := proven{receipt: r}
	refuse := func(format string, args ...any) (proven, error) {
		return proven{}, unverified("keep what the node answered: it is evidence", "receipt of %s: %w", id, fmt.Errorf(format, args...))
	}
	var err error
	// A quarantined message is a leaf, too, but of another form.
	if p.event, p.body, err = events.Parse(r.Event); err != nil {
		return refuse("its event: %w", err)
	}
	if p.event.ID != id || r.EventID != id || p.event.Source != r.Source {
		return refuse("it is about %s from %s", p.event.ID, p.event.Source)
	}
	leaf := proof.LeafHash(p.body)
	var index uint64
	if p.head, index, err = proof.VerifyTLogProof([]byte(r.Proof), leaf, vkey); err != nil {
		return refuse("%w", err)
	}
	if index != r.Index || r.LeafHash != hex.EncodeToString(leaf[:]) || r.Origin != p.head.Origin {
		return refuse("index, leaf or origin differ from what is proven")
	}
	if err := sameHead(r.Checkpoint, vkey, p.head); err != nil {
		return refuse("its checkpoint: %w", err)
	}
	if r.Size != p.head.Size || r.Root != hex.EncodeToString(p.head.Root[:]) {
		return refuse("size or root differ from the signed checkpoint")
	}
	p.newest = p.head
	if r.Latest == nil {
		return p, nil
	}
	if p.newest, err = proof.OpenCheckpoint([]byte(r.Latest.Checkpoint), vkey); err != nil {
		return refuse("the newest checkpoint: %w", err)
	}
	path := make([]proof.Hash, len(r.Latest.Consistency))
	for i, s := range r.Latest.Consistency {
		if path[i], err = proof.ParseHash(s); err != nil {
			return refuse("consistency proof: %w", err)
		}
	}
	if err := proof.VerifyConsistency(p.head.Size, p.newest.Size, path, p.head.Root, p.newest.Root); err != nil {
		return refuse("%w", err)
	}
	return p, nil
}

// sameHead checks that a note is signed and says what head says.
func sameHead(note, vkey string, head proof.Checkpoint) error {
	c, err := proof.OpenCheckpoint([]byte(note), vkey)
	if err != nil {
		return err
	}
	if c.Size != head.Size || c.Root != head.Root {
		return errors.New("it is another head than the proof's")
	}
	return nil
}

// A seal is what stands around a checkpoint besides the log's own signature.
type seal struct {
	node    string    // fingerprint of the key that signed it
	genTime time.Time // of its token; zero while there is none
	tsa     string
}

// checkSeal checks the node's OpenPGP signature over the checkpoint, that the
// operator certifies the node, and the token if it is there already.
func checkSeal(r receipt, k logKeys, roots tsaRoots) (seal, error) {
	s := seal{node: k.node.Fingerprint()}
	if len(r.Token) > 0 {
		v, err := roots.verify(r.Token, nil, []byte(r.Checkpoint))
		if err != nil {
			return s, fmt.Errorf("the checkpoint's token: %w", err)
		}
		s.genTime, s.tsa = v.GenTime, v.Chain[0].Subject.String()
	}
	ring, err := openpgp.ReadKeyRing(k.nodeArmor)
	if err != nil {
		return s, err
	}
	if _, err := openpgp.VerifyDetached(ring, bytes.NewReader([]byte(r.Checkpoint)), []byte(r.CheckpointAsc), s.genTime); err != nil {
		return s, fmt.Errorf("the node's signature over the checkpoint: %w", err)
	}
	if err := openpgp.CertifiedBy(k.node, k.operator, s.genTime); err != nil {
		return s, fmt.Errorf("the node's key is not certified by the operator's: %w", err)
	}
	return s, nil
}

// tsaRoots is what tokens are checked against.
type tsaRoots struct {
	pool    *x509.CertPool      // of trusted
	trusted []*x509.Certificate // the roots
	certs   []*x509.Certificate // all of them; those that are no root complete chains
	pinned  bool                // the user named them
}

// maxCertificates bounds the search for chains.
const maxCertificates = 64

// parseRoots reads certificates in PEM. Trusted are the self-issued authorities;
// without any, all authorities, for a user who trusts an intermediate.
func parseRoots(raw []byte, pinned bool) (tsaRoots, error) {
	t := tsaRoots{pool: x509.NewCertPool(), pinned: pinned}
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return t, fmt.Errorf("certificate %d: %w", len(t.certs)+1, err)
		}
		if t.certs = append(t.certs, cert); len(t.certs) > maxCertificates {
			return t, fmt.Errorf("over %d certificates", maxCertificates)
		}
	}
	for _, selfIssued := range []bool{true, false} {
		for _, c := range t.certs {
			if c.IsCA && (!selfIssued || bytes.Equal(c.RawSubject, c.RawIssuer)) {
				t.pool.AddCert(c)
				t.trusted = append(t.trusted, c)
			}
		}
		if len(t.trusted) > 0 {
			return t, nil
		}
	}
	return t, errors.New("no certificate of an authority in it")
}

// roots reads the user's file, or else asks the node.
func (c *client) roots(ctx context.Context, file string) (tsaRoots, error) {
	if file != "" {
		return rootsFile(file)
	}
	raw, err := c.getBytes(ctx, "/v1/tsa/chain.pem", maxKey)
	if err != nil {
		return tsaRoots{}, err
	}
	t, err := parseRoots(raw, false)
	if err != nil {
		return t, unverified("", "the node's TSA certificates: %w", err)
	}
	return t, nil
}

func rootsFile(file string) (tsaRoots, error) {
	raw, err := readFile(file, maxKey)
	if err != nil {
		return tsaRoots{}, err
	}
	t, err := parseRoots(raw, true)
	if err != nil {
		return t, term.Errorf(term.Usage, "name a PEM file with the TSA's root certificate", "%s: %w", file, err)
	}
	return t, nil
}

// and returns roots that trust what either trusts.
func (t tsaRoots) and(o tsaRoots) tsaRoots {
	both := tsaRoots{pool: x509.NewCertPool(), pinned: t.pinned && o.pinned}
	for _, from := range []tsaRoots{t, o} {
		if from.pool != nil {
			both.trusted = append(both.trusted, from.trusted...)
			both.certs = append(both.certs, from.certs...)
		}
	}
	for _, c := range both.trusted {
		both.pool.AddCert(c)
	}
	return both
}

// verify checks a response or bare token over data of which the SHA-256 or the
// bytes are known.
func (t tsaRoots) verify(token []byte, sum *digest, data []byte) (rfc3161.Verified, error) {
	parsed, err := rfc3161.ParseToken(token)
	if err != nil {
		return rfc3161.Verified{}, err
	}
	o := rfc3161.VerifyOptions{Roots: t.pool, Intermediates: t.certs}
	if sum != nil {
		o.Digest = sum[:]
	} else {
		o.Data = bytes.NewReader(data)
	}
	return rfc3161.Verify(parsed, o)
}
