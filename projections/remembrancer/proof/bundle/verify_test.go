package bundle

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

var all = []proof.LinkName{proof.LinkDigest, proof.LinkSignature, proof.LinkToken, proof.LinkInclusion}

func verify(t testing.TB, c Contents, s Subject, trust Trust) proof.Report {
	t.Helper()
	r, err := Verify(context.Background(), read(t, write(t, c)), s, trust)
	must(t, err)
	return r
}

func given() Subject { return Subject{Data: bytes.NewReader(artifact)} }

// statuses is one letter for each link: digest, signature, token, inclusion.
func statuses(r proof.Report) string {
	var s strings.Builder
	for _, n := range all {
		s.WriteString(map[proof.Status]string{proof.StatusOK: "o", proof.StatusMissing: "m", proof.StatusFailed: "F", proof.StatusAllowed: "a"}[r.Link(n).Status])
	}
	return s.String()
}

func TestVerifies(t *testing.T) {
	w := newWorld(t, "a")
	r := verify(t, w.standard(), given(), Trust{})
	if !r.Verified || statuses(r) != "oooo" || len(r.Warnings) != 0 {
		t.Fatalf("%v, %v", r.Err(), r.Warnings)
	}
	sig, tok, inc := r.Link(proof.LinkSignature).Facts, r.Link(proof.LinkToken).Facts, r.Link(proof.LinkInclusion).Facts
	if sig.SignerIs != signerOperator || sig.Fingerprint != w.operator.Fingerprint() || !sig.SignedAt.Equal(start.Add(time.Minute)) {
		t.Errorf("signature: %+v", sig)
	}
	if !tok.GenTime.Equal(start.Add(2*time.Minute)) || !strings.Contains(tok.TSA, "development TSA a") {
		t.Errorf("token: %+v", tok)
	}
	if inc.Origin != origin || *inc.Index != 21 || *inc.Size != 25 || inc.NodeKey != w.node.Fingerprint() || !inc.GenTime.Equal(start.Add(3*time.Minute)) {
		t.Errorf("inclusion: %+v", inc)
	}
	for _, a := range r.Anchors {
		if a.Pinned {
			t.Errorf("%s counts as pinned", a.Name)
		}
	}
	if len(r.Anchors) != 3 {
		t.Errorf("anchors: %+v", r.Anchors)
	}
}

func TestPins(t *testing.T) {
	w, foreign := newWorld(t, "a"), newWorld(t, "b")
	c := w.standard()
	roots := x509.NewCertPool()
	roots.AddCert(w.tsa.Root())
	wrong := x509.NewCertPool()
	wrong.AddCert(foreign.tsa.Root())
	fpr := w.operator.Fingerprint()
	for name, x := range map[string]struct {
		trust  Trust
		want   string
		pinned int
	}{
		"all right":         {Trust{Operator: strings.ToLower(fpr), LogVKey: w.vkey, TSARoots: roots}, "oooo", 3},
		"spaces in print":   {Trust{Operator: fpr[:20] + " " + fpr[20:]}, "oooo", 1},
		"signer is pinned":  {Trust{Signer: fpr}, "oooo", 0},
		"another operator":  {Trust{Operator: foreign.operator.Fingerprint()}, "oFoF", 0},
		"another log":       {Trust{LogVKey: foreign.vkey}, "oooF", 0},
		"another TSA":       {Trust{TSARoots: wrong}, "ooFF", 1},
		"another signer":    {Trust{Signer: w.other.Fingerprint()}, "oFoo", 0},
		"absent witness":    {Trust{Witnesses: []string{witnessKey(t)}, Quorum: 1}, "oooF", 0},
		"witness, reported": {Trust{Witnesses: []string{witnessKey(t)}}, "oooo", 0},
	} {
		r := verify(t, c, given(), x.trust)
		pinned := 0
		for _, a := range r.Anchors {
			if a.Pinned {
				pinned++
			}
		}
		if statuses(r) != x.want || pinned != x.pinned {
			t.Errorf("%s: %s with %d pinned, want %s with %d: %v", name, statuses(r), pinned, x.want, x.pinned, r.Err())
		}
	}
	b := read(t, write(t, c))
	for name, trust := range map[string]Trust{
		"short fingerprint": {Operator: w.operator.Fingerprint()[24:]},
		"bad log key":       {LogVKey: "x"},
		"quorum":            {Quorum: 1},
	} {
		if _, err := Verify(context.Background(), b, given(), trust); !errors.Is(err, proof.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func witness() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) }

func witnessKey(t testing.TB) string {
	t.Helper()
	return proof.CosignatureKey("w.example", witness().Public().(ed25519.PublicKey))
}

func TestWitnesses(t *testing.T) {
	w := newWorld(t, "a")
	c := w.standard()
	var err error
	c.Cosigned, err = proof.Cosign(c.Checkpoint, "w.example", witness(), start)
	must(t, err)
	r := verify(t, c, given(), Trust{Witnesses: []string{witnessKey(t)}, Quorum: 1})
	if statuses(r) != "oooo" || len(r.Link(proof.LinkInclusion).Facts.Cosignatures) != 1 {
		t.Errorf("%s, %v", statuses(r), r.Err())
	}
	if r := verify(t, c, given(), Trust{}); !r.Verified || len(r.Warnings) != 1 {
		t.Errorf("not pinned: %v, %v", r.Err(), r.Warnings)
	}
	older, err := proof.SignCheckpoint(origin, 1, proof.LeafHash(w.entries[0]), w.log)
	must(t, err)
	c.Cosigned, err = proof.Cosign(older, "w.example", witness(), start)
	must(t, err)
	if r := verify(t, c, given(), Trust{}); statuses(r) != "oooF" {
		t.Errorf("an older head cosigned: %s", statuses(r))
	}
}

func TestSigners(t *testing.T) {
	t.Run("logged", func(t *testing.T) {
		w := newWorld(t, "a")
		r := verify(t, w.signedBy(w.other), given(), Trust{})
		if statuses(r) != "oooo" || r.Link(proof.LinkSignature).Facts.SignerIs != signerLogged || len(r.Warnings) != 1 {
			t.Errorf("%s %v", statuses(r), r.Warnings)
		}
	})
	t.Run("certified", func(t *testing.T) {
		w := newWorld(t, "a")
		c := w.signedBy(w.other)
		var err error
		c.SignerKey, err = w.operator.Certify(w.other.Public(), start)
		must(t, err)
		if r := verify(t, c, given(), Trust{}); r.Link(proof.LinkSignature).Facts.SignerIs != signerCertified || len(r.Warnings) != 0 {
			t.Errorf("%s %v", statuses(r), r.Warnings)
		}
	})
	t.Run("pinned", func(t *testing.T) {
		w := newWorld(t, "a")
		r := verify(t, w.signedBy(w.other), given(), Trust{Signer: w.other.Fingerprint()})
		if r.Link(proof.LinkSignature).Facts.SignerIs != signerPinned || !r.Verified {
			t.Errorf("%s %v", statuses(r), r.Warnings)
		}
	})
	t.Run("nobody vouches", func(t *testing.T) {
		w := newWorld(t, "a")
		stamped := w.add("artifact.timestamped", map[string]any{"sha256": hexSum(artifact)})
		if r := verify(t, w.contents(w.other, stamped), given(), Trust{}); statuses(r) != "oFoo" {
			t.Errorf("%s %v", statuses(r), r.Err())
		}
	})
	t.Run("the log names another", func(t *testing.T) {
		w := newWorld(t, "a")
		signed := w.add("artifact.signed", map[string]any{"sha256": hexSum(artifact), "fingerprint": w.operator.Fingerprint()})
		if r := verify(t, w.contents(w.other, signed), given(), Trust{}); statuses(r) != "oFoo" {
			t.Errorf("%s %v", statuses(r), r.Err())
		}
	})
	t.Run("no event of signing", func(t *testing.T) {
		w := newWorld(t, "a")
		stamped := w.add("artifact.timestamped", map[string]any{"sha256": hexSum(artifact)})
		if r := verify(t, w.contents(w.operator, stamped), given(), Trust{}); statuses(r) != "oooo" || len(r.Warnings) != 1 {
			t.Errorf("%s %v", statuses(r), r.Warnings)
		}
	})
}

func TestMissing(t *testing.T) {
	for name, x := range map[string]struct {
		drop    func(*Contents)
		subject Subject
		want    string
		allow   []proof.LinkName
	}{
		"signature":         {func(c *Contents) { c.Signature = nil }, given(), "omoo", []proof.LinkName{proof.LinkSignature}},
		"token":             {func(c *Contents) { c.Token = nil }, given(), "oomo", []proof.LinkName{proof.LinkToken}},
		"operator key":      {func(c *Contents) { c.OperatorKey = nil }, given(), "omom", []proof.LinkName{proof.LinkSignature, proof.LinkInclusion}},
		"node key":          {func(c *Contents) { c.NodeKey = nil }, given(), "ooom", []proof.LinkName{proof.LinkInclusion}},
		"seal":              {func(c *Contents) { c.CheckpointSignature = nil }, given(), "ooom", []proof.LinkName{proof.LinkInclusion}},
		"checkpoint token":  {func(c *Contents) { c.CheckpointToken = nil }, given(), "ooom", []proof.LinkName{proof.LinkInclusion}},
		"file":              {func(*Contents) {}, Subject{}, "omoo", []proof.LinkName{proof.LinkSignature}},
		"file, digest only": {func(*Contents) {}, Subject{SHA256: hexSum(artifact)}, "omoo", []proof.LinkName{proof.LinkSignature}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newWorld(t, "a").standard()
			x.drop(&c)
			r := verify(t, c, x.subject, Trust{})
			if statuses(r) != x.want || r.Verified {
				t.Fatalf("%s, want %s: %v", statuses(r), x.want, r.Err())
			}
			if r.Conclude(x.allow...); !r.Verified {
				t.Errorf("with %v allowed: %v", x.allow, r.Err())
			}
		})
	}
}

func TestForgeries(t *testing.T) {
	for name, x := range map[string]struct {
		change  func(w, foreign *world, c *Contents)
		subject Subject
		want    string
	}{
		"another file":            {nil, Subject{Data: strings.NewReader("another")}, "FFFm"},
		"another digest":          {nil, Subject{SHA256: hexSum([]byte("another"))}, "FmFm"},
		"signature over another":  {func(w, _ *world, c *Contents) { c.Signature = w.sign(w.operator, []byte("x")) }, given(), "oFoo"},
		"signed by the node":      {func(w, _ *world, c *Contents) { c.Signature = w.sign(w.node, artifact) }, given(), "oFoo"},
		"signature is junk":       {func(_, _ *world, c *Contents) { c.Signature = []byte("x") }, given(), "oFoo"},
		"token over another":      {func(w, _ *world, c *Contents) { c.Token = w.stamp([]byte("x"), start) }, given(), "ooFo"},
		"tokens swapped":          {func(_, _ *world, c *Contents) { c.Token, c.CheckpointToken = c.CheckpointToken, c.Token }, given(), "ooFF"},
		"token of another TSA":    {func(_, f *world, c *Contents) { c.Token = f.stamp(artifact, start) }, given(), "ooFo"},
		"seal over another":       {func(w, _ *world, c *Contents) { c.CheckpointSignature = w.sign(w.node, []byte("x")) }, given(), "oooF"},
		"sealed by the operator":  {func(w, _ *world, c *Contents) { c.CheckpointSignature = w.sign(w.operator, c.Checkpoint) }, given(), "oooF"},
		"seal token over another": {func(w, _ *world, c *Contents) { c.CheckpointToken = w.stamp([]byte("x"), start) }, given(), "oooF"},
		"chain is junk":           {func(_, _ *world, c *Contents) { c.TSAChain = []byte("x") }, given(), "ooFF"},
		"no chain":                {func(_, _ *world, c *Contents) { c.TSAChain = nil }, given(), "ooFF"},
		"event changed":           {func(_, _ *world, c *Contents) { c.Events[0].Body = append(c.Events[0].Body, ' ') }, given(), "oooF"},
		"event of another leaf":   {func(_, _ *world, c *Contents) { c.Events[0].Body = c.Events[1].Body }, given(), "oooF"},
		"all events changed": {func(_, _ *world, c *Contents) {
			c.Events[0].Body, c.Events[1].Body = c.Events[1].Body, c.Events[0].Body
		}, given(), "FooF"},
		"foreign operator's key":   {func(_, f *world, c *Contents) { c.OperatorKey, _ = f.operator.PublicArmor() }, given(), "oFoF"},
		"node not certified":       {func(w, _ *world, c *Contents) { c.NodeKey, _ = w.node.PublicArmor() }, given(), "oooF"},
		"node certified elsewhere": {func(w, f *world, c *Contents) { c.NodeKey, _ = f.operator.Certify(w.node.Public(), start) }, given(), "oooF"},
	} {
		t.Run(name, func(t *testing.T) {
			w, foreign := newWorld(t, "a"), newWorld(t, "b")
			c := w.standard()
			if x.change != nil {
				x.change(w, foreign, &c)
			}
			// Junk that VERIFY.md cannot be written for is put in after writing.
			r, err := Verify(context.Background(), assemble(t, c), x.subject, Trust{})
			must(t, err)
			if statuses(r) != x.want || r.Verified {
				t.Fatalf("%s, want %s: %v", statuses(r), x.want, r.Err())
			}
			if r.Conclude(all...); r.Verified {
				t.Error("a failed link was allowed")
			}
		})
	}
}

// assemble makes a bundle in memory as a hostile writer could: consistent in
// form, whatever its files are worth.
func assemble(t testing.TB, c Contents) *Bundle {
	t.Helper()
	files, err := c.files()
	if err != nil {
		t.Fatalf("%v: a forgery must reach Verify, not stop at Write", err)
	}
	b, err := open(files)
	must(t, err)
	return b
}

func TestUnrelatedEventAndForeignGuideAreReported(t *testing.T) {
	w := newWorld(t, "a")
	signed := w.add("artifact.signed", map[string]any{"sha256": hexSum(artifact), "fingerprint": w.operator.Fingerprint()})
	b := read(t, write(t, w.contents(w.operator, 3, signed)))
	b.files[guidePath] = []byte("```sh\nrm -rf ~\n```\n")
	r, err := Verify(context.Background(), b, given(), Trust{})
	must(t, err)
	if !r.Verified || len(r.Warnings) != 2 {
		t.Errorf("%v %v", r.Err(), r.Warnings)
	}
	none := w.contents(w.operator, 3)
	if r := verify(t, none, given(), Trust{}); statuses(r) != "Foom" {
		t.Errorf("no event about the file: %s", statuses(r))
	}
}

// A deployment is about the file that is its evidence; names that differ in case
// are other names.
func TestDeploymentsNameTheirEvidence(t *testing.T) {
	w := newWorld(t, "a")
	deploy := w.add("deploy.recorded", map[string]any{"component": "app", "evidence": map[string]any{"sha256": hexSum(artifact)}})
	if r := verify(t, w.contents(w.operator, deploy), given(), Trust{}); strings.Contains(strings.Join(r.Warnings, " "), "no event about") || r.Link(proof.LinkDigest).Status != proof.StatusOK {
		t.Errorf("%v %v", r.Err(), r.Warnings)
	}
	for name, data := range map[string]map[string]any{
		"deploy.recorded": {"sha256": hexSum(artifact), "Evidence": map[string]any{"sha256": hexSum(artifact)}},
		"artifact.signed": {"SHA256": hexSum(artifact)},
		"decision.signed": {"sha256": hexSum(artifact)},
	} {
		if r := verify(t, w.contents(w.operator, w.add(name, data)), given(), Trust{}); r.Link(proof.LinkDigest).Status != proof.StatusFailed {
			t.Errorf("%s %v: %v", name, data, r.Link(proof.LinkDigest))
		}
	}
}

// A TSA may stamp another digest than SHA-256; then the file itself is needed.
func TestTokenOverSHA512(t *testing.T) {
	w := newWorld(t, "a")
	c := w.standard()
	sum := sha512.Sum512(artifact)
	request, err := asn1.Marshal(struct {
		Version int
		Imprint struct {
			Algorithm pkix.AlgorithmIdentifier
			Hash      []byte
		}
		CertReq bool
	}{1, struct {
		Algorithm pkix.AlgorithmIdentifier
		Hash      []byte
	}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, Parameters: asn1.NullRawValue}, sum[:]}, true})
	must(t, err)
	c.Token, err = w.tsa.Respond(request, start.Add(time.Minute))
	must(t, err)
	if r := verify(t, c, given(), Trust{}); statuses(r) != "oooo" {
		t.Errorf("%s: %v", statuses(r), r.Err())
	}
	if r := verify(t, c, Subject{SHA256: hexSum(artifact)}, Trust{}); statuses(r) != "ommo" {
		t.Errorf("without the file: %s: %v", statuses(r), r.Err())
	}
	if r := verify(t, c, Subject{Data: strings.NewReader("another")}, Trust{}); r.Link(proof.LinkToken).Status != proof.StatusFailed {
		t.Errorf("another file: %s: %v", statuses(r), r.Err())
	}
}

// The key's validity is judged at a token's time, not at the signer's claim.
func TestSignatureAfterEveryToken(t *testing.T) {
	w := newWorld(t, "a")
	c := w.standard()
	var err error
	c.Signature, err = w.operator.SignDetached(bytes.NewReader(artifact), start.Add(24*time.Hour))
	must(t, err)
	// One warning for the time, one because the log holds another signature.
	if r := verify(t, c, given(), Trust{}); !r.Verified || len(r.Warnings) != 2 {
		t.Errorf("%v %v", r.Err(), r.Warnings)
	}
}

func TestReadingErrorsAreNoVerdict(t *testing.T) {
	w := newWorld(t, "a")
	b := read(t, write(t, w.standard()))
	for after := range 4 {
		_, err := Verify(context.Background(), b, Subject{Data: &failing{Reader: bytes.NewReader(artifact), after: after}}, Trust{})
		if after < 3 && !errors.Is(err, os.ErrClosed) {
			t.Errorf("reading %d fails: %v", after, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Verify(ctx, b, given(), Trust{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Verify(context.Background(), b, Subject{SHA256: "x"}, Trust{}); !errors.Is(err, proof.ErrMalformed) {
		t.Errorf("bad digest: %v", err)
	}
}

// failing is a file that cannot be read any more after so many passes.
type failing struct {
	*bytes.Reader
	after int
	seeks int
}

func (f *failing) Seek(offset int64, whence int) (int64, error) {
	f.seeks++
	return f.Reader.Seek(offset, whence)
}

func (f *failing) Read(p []byte) (int, error) {
	if f.seeks > f.after {
		return 0, os.ErrClosed
	}
	return f.Reader.Read(p)
}
