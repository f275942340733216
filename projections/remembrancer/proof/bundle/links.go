package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

// Who a signer is, as the report says it.
const (
	signerOperator  = "operator"  // the operator's own key
	signerCertified = "certified" // certified by the operator's key
	signerPinned    = "pinned"    // named by the user
	signerLogged    = "logged"    // only a proven event of the log names it
)

var errNoArtifact = errors.New("the file is needed and was not given")

// checkToken checks FILE.tsr. The error is the artifact's, if it cannot be read.
func (v *verifier) checkToken() error {
	path := v.b.Manifest.Artifact.TokenPath()
	response := v.b.File(path)
	if response == nil {
		v.report.Miss(proof.LinkToken, "%s is not in the bundle", path)
		return nil
	}
	var readErr error
	stamp, err := v.verifyToken(response, v.sum, func() (rfc3161.VerifyOptions, error) {
		if v.subject.Data == nil {
			return rfc3161.VerifyOptions{}, errNoArtifact
		}
		r, err := v.subject.open(v.ctx)
		readErr = err
		return rfc3161.VerifyOptions{Data: r}, err
	})
	switch {
	case readErr != nil:
		return readErr
	case v.ctx.Err() != nil:
		return v.ctx.Err()
	case errors.Is(err, errNoArtifact):
		v.report.Miss(proof.LinkToken, "%s stamps another digest than SHA-256: %v", path, err)
		return nil
	case err != nil:
		v.report.Fail(proof.LinkToken, "%s: %v", path, err)
		return nil
	}
	v.warnUnlogged(path, func(a aboutArtifact) string { return a.TokenSHA256 })
	v.tokenTime = stamp.GenTime
	at := stamp.GenTime
	f := &v.report.Link(proof.LinkToken).Facts
	f.GenTime, f.TSA = &at, stamp.Chain[0].Subject.String()
	v.report.Pass(proof.LinkToken, "existed at "+at.Format(time.RFC3339))
	return nil
}

// checkSignature checks FILE.asc. The error is the artifact's, if it cannot be
// read.
func (v *verifier) checkSignature() error {
	path := v.b.Manifest.Artifact.SignaturePath()
	sig := v.b.File(path)
	key, keyPath := v.operator, operatorKeyPath
	if v.signer != nil {
		key, keyPath = v.signer, signerKeyPath
	}
	switch {
	case sig == nil:
		v.report.Miss(proof.LinkSignature, "%s is not in the bundle", path)
		return nil
	case key == nil:
		v.report.Miss(proof.LinkSignature, "no key to check it with is in the bundle")
		return nil
	case v.subject.Data == nil:
		v.report.Miss(proof.LinkSignature, "the file is needed to check its signature, and was not given")
		return nil
	}
	ring, err := openpgp.ReadKeyRing(v.b.File(keyPath))
	if err != nil {
		v.report.Fail(proof.LinkSignature, "%s: %v", keyPath, err)
		return nil
	}
	// The first reading learns the claimed time, the second judges the key at
	// the first trusted time after it, which the holder of an expired key cannot
	// choose.
	got, readErr, err := v.verifyFile(ring, sig, time.Time{})
	if readErr == nil && err == nil {
		if at := v.trustedTimeAfter(got.CreatedAt); at.IsZero() {
			v.report.Warn("no verified token is later than the signature: its key was judged at the time that the signature itself claims")
		} else {
			got, readErr, err = v.verifyFile(ring, sig, at)
		}
	}
	if readErr != nil {
		return readErr
	}
	if err != nil {
		v.report.Fail(proof.LinkSignature, "%s: %v", path, err)
		return nil
	}
	f := &v.report.Link(proof.LinkSignature).Facts
	signedAt := got.CreatedAt
	f.Fingerprint, f.SignedAt = got.Fingerprint, &signedAt
	for _, w := range got.Warnings {
		v.report.Warn("%s: %s", path, w)
	}
	v.warnUnlogged(path, func(a aboutArtifact) string { return a.SignatureSHA256 })
	v.judgeSigner(key, f)
	return nil
}

// verifyFile tells an error of reading the artifact from a bad signature.
func (v *verifier) verifyFile(ring *openpgp.KeyRing, sig []byte, at time.Time) (got openpgp.Signature, readErr, err error) {
	r, err := v.subject.open(v.ctx)
	if err != nil {
		return got, err, nil
	}
	got, err = openpgp.VerifyDetached(ring, r, sig, at)
	if err != nil && openpgp.Reason(err) == nil {
		return got, fmt.Errorf("read the artifact: %w", err), nil
	}
	return got, nil, err
}

// skew is how far the signer's clock may be ahead of the TSA's.
const skew = 5 * time.Minute

// trustedTimeAfter returns the first verified genTime that is not before t, or
// zero.
func (v *verifier) trustedTimeAfter(t time.Time) time.Time {
	var first time.Time
	for _, at := range []time.Time{v.tokenTime, v.sealTime} {
		if !at.IsZero() && !at.Before(t.Add(-skew)) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	if !first.IsZero() && first.Before(t) {
		return t
	}
	return first
}

// judgeSigner decides whether this key's signature counts, and compares it with
// what the log recorded.
func (v *verifier) judgeSigner(key *openpgp.PublicKey, f *proof.Facts) {
	fingerprint := key.Fingerprint()
	_, logged := v.signers[fingerprint]
	if len(v.signers) > 0 && !logged {
		v.report.Fail(proof.LinkSignature, "signed by %s, but the log's event names %s", fingerprint, strings.Join(names(v.signers), ", "))
		return
	}
	if len(v.signers) == 0 {
		v.report.Warn("no proven event says who signed the file")
	}
	if v.signer != nil {
		v.anchor("signer key", fingerprint, fingerprint == v.trust.Signer)
	}
	switch {
	case v.trust.Signer != "" && fingerprint != v.trust.Signer:
		v.report.Fail(proof.LinkSignature, "signed by %s, not by the pinned signer %s", fingerprint, v.trust.Signer)
		return
	case v.trust.Signer != "":
		f.SignerIs = signerPinned
	case v.operator != nil && fingerprint == v.operator.Fingerprint():
		f.SignerIs = signerOperator
	case v.operator != nil && openpgp.CertifiedBy(key, v.operator, time.Time{}) == nil:
		f.SignerIs = signerCertified
	case logged:
		f.SignerIs = signerLogged
		v.report.Warn("the operator does not certify the signer %s: only an event of the log names it; pin its fingerprint if you know it", fingerprint)
	default:
		v.report.Fail(proof.LinkSignature, "nobody vouches for the signer %s: neither the operator's key, nor the log, nor a pinned fingerprint", fingerprint)
		return
	}
	v.report.Pass(proof.LinkSignature, "good signature by "+fingerprint+" ("+f.SignerIs+")")
}

func names(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// checkGuide warns of a VERIFY.md that this package did not write: people run
// its commands.
func (v *verifier) checkGuide() {
	have := v.b.File(guidePath)
	if want, err := v.b.guide(); have != nil && (err != nil || !bytes.Equal(have, want)) {
		v.report.Warn("%s is not the page that this release writes: read its commands before you run them", guidePath)
	}
}
