package remembrancer

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
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

// signatureKeys returns the keys that may have signed: the pinned ones alone, or
// the operator's and those that proven events carry.
func (f *fullCheck) signatureKeys() *openpgp.KeyRing {
	if f.pinned != nil {
		return f.pinned
	}
	if f.keys == nil {
		return nil
	}
	var rings []*openpgp.KeyRing
	if ring, err := openpgp.ReadKeyRing(f.keys.operatorArmor); err == nil {
		rings = append(rings, ring)
	}
	for fingerprint, armored := range f.signers {
		ring, err := openpgp.ReadKeyRing([]byte(armored))
		if armored == "" {
			continue
		}
		if err != nil || ring.Find(fingerprint) == nil {
			f.report.Warn("the log's event carries no readable key of the signer %s", fingerprint)
			continue
		}
		rings = append(rings, ring)
	}
	return openpgp.Merge(rings...)
}

// checkSignature checks FILE.asc. Its error is that of reading the file.
func (f *fullCheck) checkSignature() error {
	name := filepath.Base(f.file) + ".asc"
	if f.sig == nil {
		f.report.Miss(proof.LinkSignature, "%s is not there", name)
		return nil
	}
	ring := f.signatureKeys()
	if ring == nil {
		f.report.Miss(proof.LinkSignature, "no key to check %s with: name one with --key-file", name)
		return nil
	}
	// The first reading learns the claimed time, the second judges the key at the
	// first trusted time after it, which the holder of an expired key cannot choose.
	got, readErr, err := f.d.verifyDetached(f.file, ring, f.sig, time.Time{})
	if readErr == nil && err == nil {
		at := firstAfter(got.CreatedAt, f.tokenTime, f.sealTime)
		if at.IsZero() {
			f.report.Warn("no verified token is later than the signature: its key was judged at the time that the signature itself claims")
		} else {
			got, readErr, err = f.d.verifyDetached(f.file, ring, f.sig, at)
		}
	}
	if readErr != nil {
		return readErr
	}
	if err != nil {
		f.report.Fail(proof.LinkSignature, "%s: %v", name, err)
		return nil
	}
	facts := &f.report.Link(proof.LinkSignature).Facts
	facts.Fingerprint, facts.SignedAt = got.Fingerprint, &got.CreatedAt
	for _, w := range got.Warnings {
		f.report.Warn("%s: %s", name, w)
	}
	f.judgeSigner(ring.Find(got.Fingerprint), got.Fingerprint, facts)
	return nil
}

// verifyDetached tells an error of reading the file from a bad signature.
func (d Deps) verifyDetached(file string, ring *openpgp.KeyRing, sig []byte, at time.Time) (got openpgp.Signature, readErr, err error) {
	_, readErr = d.through(file, "verifying", func(r io.Reader) error {
		got, err = openpgp.VerifyDetached(ring, r, sig, at)
		if err != nil && openpgp.Reason(err) == nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		return nil
	})
	return got, readErr, err
}

// clockSkew is how far the signer's clock may be ahead of the TSA's.
const clockSkew = 5 * time.Minute

// firstAfter returns the first of the verified times that is not before t, or
// zero.
func firstAfter(t time.Time, verified ...time.Time) time.Time {
	var first time.Time
	for _, at := range verified {
		if !at.IsZero() && !at.Before(t.Add(-clockSkew)) && (first.IsZero() || at.Before(first)) {
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
func (f *fullCheck) judgeSigner(key *openpgp.PublicKey, fingerprint string, facts *proof.Facts) {
	_, logged := f.signers[fingerprint]
	if len(f.signers) > 0 && !logged {
		var names []string
		for name := range f.signers {
			names = append(names, name)
		}
		slices.Sort(names)
		f.report.Fail(proof.LinkSignature, "signed by %s, but the log's event names %s", fingerprint, strings.Join(names, ", "))
		return
	}
	if len(f.about) > 0 && len(f.signers) == 0 {
		f.report.Warn("no proven event says who signed the file")
	}
	switch {
	case f.pinned != nil:
		facts.SignerIs = signerPinned
	case fingerprint == f.keys.operator.Fingerprint():
		facts.SignerIs = signerOperator
	case key != nil && openpgp.CertifiedBy(key, f.keys.operator, time.Time{}) == nil:
		facts.SignerIs = signerCertified
	default: // it came from a proven event
		facts.SignerIs = signerLogged
		f.report.Warn("the operator does not certify the signer %s: only an event of the log names it; pin it with --key-file if you know it", fingerprint)
	}
	if facts.SignerIs == signerOperator {
		f.anchor("operator key", fingerprint, false)
	} else {
		f.anchor("signer key", fingerprint, f.pinned != nil)
	}
	f.report.Pass(proof.LinkSignature, "good signature by "+fingerprint+" ("+facts.SignerIs+")")
}

// verifyFileToken checks a token over a file. The file is read again only if the
// TSA used another digest than SHA-256.
func (d Deps) verifyFileToken(file string, sum digest, token []byte, roots tsaRoots) (v rfc3161.Verified, err error) {
	parsed, err := rfc3161.ParseToken(token)
	if err != nil {
		return v, err
	}
	o := rfc3161.VerifyOptions{Roots: roots.pool, Intermediates: roots.certs, Digest: sum[:]}
	if len(parsed.Imprint) == len(sum) {
		return rfc3161.Verify(parsed, o)
	}
	_, err = d.through(file, "verifying", func(r io.Reader) (err error) {
		o.Digest, o.Data = nil, r
		v, err = rfc3161.Verify(parsed, o)
		return err
	})
	return v, err
}

func certSum(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// statusColor marks a link for people; the word says it, too.
var statusColor = map[proof.Status]term.Color{
	proof.StatusOK: term.Good, proof.StatusFailed: term.Bad, proof.StatusMissing: term.Bad, proof.StatusAllowed: term.Doubt,
}

// printReport prints one line a link, what the verdict rests on, and returns the
// verdict as an error of its own exit code.
func (d Deps) printReport(r *proof.Report) error {
	t := term.NewTable("link", "status", "facts")
	for _, l := range r.Links {
		t.Cells(term.Cell{Text: string(l.Name)}, term.Cell{Text: string(l.Status), Color: statusColor[l.Status]}, term.Cell{Text: l.Detail})
	}
	t.Text("").Text("sha256 " + r.SHA256)
	unpinned := false
	for _, a := range r.Anchors {
		how := "named by you"
		if !a.Pinned {
			how, unpinned = "came with the evidence", true
		}
		t.Text("rests on " + a.Name + " " + a.Value + " (" + how + ")")
	}
	if r.Verified {
		t.Text("").Text("verified: " + r.File)
	}
	if err := d.Term.Print(r, t); err != nil {
		return err
	}
	if d.Term.Format() == term.TableFormat {
		for _, w := range r.Warnings {
			d.Term.Warn("%s", w)
		}
		if unpinned && r.Verified {
			d.Term.Note("what came with the evidence proves nothing by itself: compare it once with what you know from elsewhere")
		}
	}
	return notProven(r, "")
}

// notProven is the verdict as an error of its own exit code; nil if it is proven.
func notProven(r *proof.Report, mend string) error {
	err := r.Err()
	if err == nil {
		return nil
	}
	return unverified(mend, "%s", strings.TrimSuffix(err.Error(), ": "+proof.ErrNotProven.Error()))
}
