package bundle

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

// signedType is the event by which the log knows who signed an artifact.
const signedType = "artifact.signed"

// Domains whose events name a file: by data.sha256, or a deployment's by
// data.evidence.sha256.
const (
	artifactDomain events.Domain = "artifact"
	deployDomain   events.Domain = "deploy"
)

// Verify checks all four links of a bundle, offline. The report's verdict allows
// nothing to be missing; call its Conclude to allow a link. An error means that
// there is no verdict: trust is malformed, or the artifact cannot be read.
func Verify(ctx context.Context, b *Bundle, subject Subject, trust Trust) (proof.Report, error) {
	v := &verifier{ctx: ctx, b: b, subject: subject, trust: trust}
	if err := v.prepare(); err != nil {
		return proof.Report{}, err
	}
	// The checkpoint's token comes first: its time judges the seal and the keys.
	v.checkKeys()
	v.checkHead()
	v.checkSeal()
	v.checkCosignatures()
	v.checkEvents()
	if err := v.checkToken(); err != nil {
		return proof.Report{}, err
	}
	if err := v.checkSignature(); err != nil {
		return proof.Report{}, err
	}
	v.checkGuide()
	v.report.Conclude()
	return v.report, nil
}

type verifier struct {
	ctx     context.Context
	b       *Bundle
	subject Subject
	trust   Trust
	report  proof.Report

	sum       string // of the artifact, hex
	operator  *openpgp.PublicKey
	node      *openpgp.PublicKey
	signer    *openpgp.PublicKey // nil: the operator signed
	roots     *x509.CertPool
	chain     []*x509.Certificate
	sealTime  time.Time         // genTime of the checkpoint's token, zero if none
	tokenTime time.Time         // genTime of the artifact's token, zero if none
	about     []aboutArtifact   // proven events about the artifact
	signers   map[string]string // fingerprint in proven artifact.signed events → event id
}

func (v *verifier) prepare() error {
	m := v.b.Manifest
	if v.trust.LogVKey != "" {
		if _, _, err := proof.ParseVKey(v.trust.LogVKey); err != nil {
			return fmt.Errorf("pinned log key: %w", err)
		}
	}
	for _, f := range []*string{&v.trust.Operator, &v.trust.Signer} {
		*f = strings.ToUpper(strings.ReplaceAll(*f, " ", ""))
		if n := len(*f); n != 0 && n != 40 && n != 64 {
			return fmt.Errorf("pinned fingerprint %q is not a full one of 40 or 64 hex digits: %w", clip(*f), proof.ErrMalformed)
		}
	}
	if v.trust.Quorum > len(v.trust.Witnesses) {
		return fmt.Errorf("a quorum of %d cannot come from %d witnesses: %w", v.trust.Quorum, len(v.trust.Witnesses), proof.ErrMalformed)
	}
	sum, size, err := v.subject.measure(v.ctx)
	if err != nil {
		return err
	}
	if sum = strings.ToLower(sum); sum == "" {
		sum = m.Artifact.SHA256
	} else if !isDigest(sum) {
		return fmt.Errorf("artifact digest %q is not SHA-256 in hex: %w", clip(sum), proof.ErrMalformed)
	}
	v.sum = sum
	v.report = proof.NewReport(m.Artifact.Name, sum)
	if sum != m.Artifact.SHA256 {
		v.report.Fail(proof.LinkDigest, "the file's SHA-256 is %s, the bundle is about %s", sum, m.Artifact.SHA256)
	} else if size >= 0 && size != m.Artifact.Size {
		v.report.Fail(proof.LinkDigest, "the file has %d bytes, the manifest says %d", size, m.Artifact.Size)
	}
	return nil
}

func (v *verifier) anchor(name, value string, pinned bool) {
	v.report.Anchors = append(v.report.Anchors, proof.Anchor{Name: name, Value: value, Pinned: pinned})
}

// checkKeys reads keys and certificates and compares them with what is pinned. A
// pinned key that the bundle lacks or replaces fails what rests on it.
func (v *verifier) checkKeys() {
	var err error
	if v.operator, err = v.b.oneKey(operatorKeyPath); err != nil {
		v.report.Fail(proof.LinkSignature, "%v", err)
		v.report.Fail(proof.LinkInclusion, "%v", err)
	}
	if v.node, err = v.b.oneKey(nodeKeyPath); err != nil {
		v.report.Fail(proof.LinkInclusion, "%v", err)
	}
	if v.signer, err = v.b.oneKey(signerKeyPath); err != nil {
		v.report.Fail(proof.LinkSignature, "%v", err)
	}
	if v.operator != nil {
		pinned := v.trust.Operator != "" && v.operator.Fingerprint() == v.trust.Operator
		v.anchor("operator key", v.operator.Fingerprint(), pinned)
		if v.trust.Operator != "" && !pinned {
			v.report.Fail(proof.LinkSignature, "the bundle's operator key is %s, not the pinned %s", v.operator.Fingerprint(), v.trust.Operator)
			v.report.Fail(proof.LinkInclusion, "the bundle's operator key is not the pinned one")
		}
	}
	pinnedLog := v.trust.LogVKey != ""
	v.anchor("log key", v.b.Manifest.Log.VKey, pinnedLog && v.trust.LogVKey == v.b.Manifest.Log.VKey)
	if pinnedLog && v.trust.LogVKey != v.b.Manifest.Log.VKey {
		v.report.Fail(proof.LinkInclusion, "the bundle's log key is not the pinned one")
	}
	if v.chain, err = parseChain(v.b.File(chainPath)); err != nil {
		v.report.Fail(proof.LinkToken, "%v", err)
		v.report.Fail(proof.LinkInclusion, "%v", err)
	}
	v.roots = v.trust.TSARoots
	if v.roots != nil {
		v.anchor("tsa roots", "given by the user", true)
		return
	}
	pool, roots := rootsOf(v.chain)
	v.roots = pool
	for _, c := range roots {
		v.anchor("tsa root", strings.ToUpper(digest(c.Raw)), false)
	}
}

// checkHead opens the checkpoint.
func (v *verifier) checkHead() {
	m := v.b.Manifest
	head, err := proof.OpenCheckpoint(v.b.File(checkpointPath), m.Log.VKey)
	if err != nil {
		v.report.Fail(proof.LinkInclusion, "%v", err)
		return
	}
	f := &v.report.Link(proof.LinkInclusion).Facts
	f.Origin, f.Size, f.Root = head.Origin, &head.Size, head.Root.String()
}

// checkSeal checks the node's signature and the token over the checkpoint.
func (v *verifier) checkSeal() {
	f := &v.report.Link(proof.LinkInclusion).Facts
	if b := v.b.File(checkpointTSRPath); b != nil {
		stamp, err := v.verifyToken(b, digest(v.b.File(checkpointPath)), nil)
		if err != nil {
			v.report.Fail(proof.LinkInclusion, "%s: %v", checkpointTSRPath, err)
		} else {
			v.sealTime = stamp.GenTime
			at := stamp.GenTime
			f.GenTime, f.TSA = &at, stamp.Chain[0].Subject.String()
		}
	}
	if v.node == nil || v.b.File(checkpointSigPath) == nil {
		return
	}
	f.NodeKey = v.node.Fingerprint()
	ring, err := openpgp.ReadKeyRing(v.b.File(nodeKeyPath))
	if err == nil {
		_, err = openpgp.VerifyDetached(ring, bytes.NewReader(v.b.File(checkpointPath)), v.b.File(checkpointSigPath), v.sealTime)
	}
	if err != nil {
		v.report.Fail(proof.LinkInclusion, "%s: %v", checkpointSigPath, err)
		return
	}
	if v.operator == nil {
		return
	}
	if err := openpgp.CertifiedBy(v.node, v.operator, v.sealTime); err != nil {
		v.report.Fail(proof.LinkInclusion, "the node's key is not certified by the operator's: %v", err)
	}
}

func (v *verifier) checkCosignatures() {
	b := v.b.File(cosignedPath)
	if b == nil {
		if v.trust.Quorum > 0 {
			v.report.Fail(proof.LinkInclusion, "%d witnesses must have cosigned, and the bundle has no %s", v.trust.Quorum, cosignedPath)
		}
		return
	}
	m := v.b.Manifest
	head, err := proof.OpenCheckpoint(b, m.Log.VKey)
	if err != nil || head.Size != m.Log.Size || head.Root != m.Log.Root || len(head.Extensions) > 0 {
		v.report.Fail(proof.LinkInclusion, "%s is not the checkpoint (%v)", cosignedPath, err)
		return
	}
	if len(v.trust.Witnesses) == 0 {
		v.report.Warn("%s was not checked against witnesses: none are pinned", cosignedPath)
		return
	}
	got, err := proof.VerifyCosignatures(b, v.trust.Witnesses)
	if err != nil {
		v.report.Fail(proof.LinkInclusion, "%s: %v", cosignedPath, err)
		return
	}
	f := &v.report.Link(proof.LinkInclusion).Facts
	for _, c := range got {
		f.Cosignatures = append(f.Cosignatures, c.Witness)
		v.anchor("witness key", c.Witness, true)
	}
	if len(got) < v.trust.Quorum {
		v.report.Fail(proof.LinkInclusion, "%d of the pinned witnesses cosigned, %d must", len(got), v.trust.Quorum)
	}
}

// aboutArtifact is an event about a file: of the artifact domain, or a deployment
// whose evidence it is. Of its data this package reads these members, by their
// exact names; others are the schema's business.
type aboutArtifact struct {
	event           events.Event
	SHA256          string `json:"sha256"`
	Fingerprint     string `json:"fingerprint"`
	SignatureSHA256 string `json:"signature_sha256"` // of the signature file
	TokenSHA256     string `json:"token_sha256"`     // of the time-stamp response
	Evidence        struct {
		SHA256 string `json:"sha256"`
	} `json:"evidence"` // of a deployment
}

// warnUnlogged reports a signature or token other than those that the log holds:
// it may be good, but nothing bounds when it was made.
func (v *verifier) warnUnlogged(path string, logged func(aboutArtifact) string) {
	sum, others := digest(v.b.File(path)), 0
	for _, a := range v.about {
		switch logged(a) {
		case sum:
			return
		case "":
		default:
			others++
		}
	}
	if others > 0 {
		v.report.Warn("%s is another one than the log recorded", path)
	}
}

// parseAbout reads a canonical event about the file with that digest.
func parseAbout(body []byte, sum string) (aboutArtifact, bool) {
	var a aboutArtifact
	e, canonical, err := events.Parse(body)
	if err != nil || !bytes.Equal(canonical, body) || json.Unmarshal(e.Data, &a) != nil {
		return a, false
	}
	switch e.Type.Domain() {
	case artifactDomain:
	case deployDomain:
		a = aboutArtifact{SHA256: a.Evidence.SHA256}
	default:
		return a, false
	}
	a.event, a.Fingerprint = e, strings.ToUpper(a.Fingerprint)
	return a, a.SHA256 == sum
}

// checkEvents proves every event and decides digest and inclusion.
func (v *verifier) checkEvents() {
	m := v.b.Manifest
	v.signers = make(map[string]string)
	var first *uint64
	for _, le := range m.Events {
		body := v.b.File(le.Event)
		if _, _, err := proof.VerifyTLogProof(v.b.File(le.Proof), proof.LeafHash(body), m.Log.VKey); err != nil {
			v.report.Fail(proof.LinkInclusion, "%s: %v", le.Event, err)
			continue
		}
		about, ok := parseAbout(body, v.sum)
		if !ok {
			v.report.Warn("%s is proven, but is no event about this file", le.Event)
			continue
		}
		if first == nil {
			first = &le.Index
		}
		v.about = append(v.about, about)
		if about.event.Type.Name() == signedType && about.Fingerprint != "" {
			v.signers[about.Fingerprint] = string(about.event.ID)
		}
	}
	if len(v.about) == 0 {
		v.report.Fail(proof.LinkDigest, "no proven event names %s", v.sum)
		v.report.Miss(proof.LinkInclusion, "no event about this file")
		return
	}
	f := &v.report.Link(proof.LinkDigest).Facts
	f.Index = first
	for _, e := range v.about {
		f.EventIDs = append(f.EventIDs, string(e.event.ID))
	}
	v.report.Link(proof.LinkInclusion).Facts.Index = first
	v.report.Pass(proof.LinkDigest, fmt.Sprintf("%d events of the log name it", len(v.about)))
	if v.subject.Data == nil && v.subject.SHA256 == "" {
		v.report.Warn("the file was not given: only the digest that the bundle itself names was checked")
	}
	for _, path := range []string{checkpointSigPath, nodeKeyPath, operatorKeyPath, checkpointTSRPath} {
		if v.b.File(path) == nil {
			v.report.Miss(proof.LinkInclusion, "the checkpoint is not sealed: %s is not in the bundle", path)
			return
		}
	}
	v.report.Pass(proof.LinkInclusion, fmt.Sprintf("%d events below a checkpoint of %d entries, signed, stamped and sealed", len(v.about), m.Log.Size))
}

// verifyToken checks a response over data whose SHA-256 is known; data is read
// only if the TSA used another digest.
func (v *verifier) verifyToken(response []byte, sum string, data func() (rfc3161.VerifyOptions, error)) (rfc3161.Verified, error) {
	token, err := rfc3161.ParseResponse(response)
	if err != nil {
		return rfc3161.Verified{}, err
	}
	o := rfc3161.VerifyOptions{}
	if token.HashAlgorithm == crypto.SHA256 {
		if o.Digest, err = hex.DecodeString(sum); err != nil {
			return rfc3161.Verified{}, err
		}
	} else if data != nil {
		if o, err = data(); err != nil {
			return rfc3161.Verified{}, err
		}
	} else {
		o.Data = bytes.NewReader(v.b.File(checkpointPath))
	}
	o.Roots, o.Intermediates = v.roots, v.chain
	return rfc3161.Verify(token, o)
}
