package bundle

import (
	_ "embed"
	"fmt"
	"math/bits"
	"strings"
	"text/template"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

//go:embed guide.md.tmpl
var guideText string

var guideTemplate = template.Must(template.New(guidePath).Option("missingkey=error").
	Funcs(template.FuncMap{"sh": shellQuote, "dot": func(p string) string { return shellQuote("./" + p) }}).Parse(guideText))

// guideData is what the page shows. Every string that the bundle's maker chose
// stands in it quoted for the shell, or has been parsed into a form that cannot
// hold anything else.
type guideData struct {
	Manifest      Manifest
	FileURL       string // the artifact, as seen from the unpacked folder
	Files         []File
	Signature     string // path, empty if the bundle has none; so are the next
	SignerKey     string
	SignerPrint   string
	OperatorPrint string
	NodePrint     string
	NodeSealed    bool
	OperatorID    string // 16 digits
	Token         string
	TokenTime     int64 // Unix seconds, rounded up
	SealToken     string
	SealTime      int64
	Events        []guideEvent
}

type guideEvent struct {
	Index        uint64
	Event, Proof string
	Steps        []guideStep
	About        bool // it names the artifact's digest
	Signed       bool // it names the signer's key, too
	First        int  // line of the proof file at which its checkpoint begins
}

// A guideStep hashes in the neighbour that stands in one line of the proof file.
type guideStep struct {
	Line int
	Side string // where the neighbour stands: left or right
}

// guide writes VERIFY.md for this bundle: the same bytes for the same files.
func (b *Bundle) guide() ([]byte, error) {
	m := b.Manifest
	d := guideData{Manifest: m, FileURL: "../" + m.Artifact.Name}
	for _, path := range sortedPaths(b.files) {
		if path != manifestPath && path != guidePath {
			d.Files = append(d.Files, File{Path: path, SHA256: digest(b.files[path])})
		}
	}
	operator, err := b.oneKey(operatorKeyPath)
	if err != nil {
		return nil, refuse(operatorKeyPath, "%v", err)
	}
	node, err := b.oneKey(nodeKeyPath)
	if err != nil {
		return nil, refuse(nodeKeyPath, "%v", err)
	}
	signer, err := b.oneKey(signerKeyPath)
	if err != nil {
		return nil, refuse(signerKeyPath, "%v", err)
	}
	if operator != nil {
		d.OperatorPrint, d.OperatorID = operator.Fingerprint(), operator.KeyID()
		d.SignerKey, d.SignerPrint = operatorKeyPath, operator.Fingerprint()
	}
	if signer != nil {
		d.SignerKey, d.SignerPrint = signerKeyPath, signer.Fingerprint()
	}
	if b.File(m.Artifact.SignaturePath()) != nil && d.SignerKey != "" {
		d.Signature = m.Artifact.SignaturePath()
	}
	if node != nil {
		d.NodePrint = node.Fingerprint()
		d.NodeSealed = b.File(checkpointSigPath) != nil && operator != nil
	}
	if b.File(chainPath) != nil {
		if d.Token, d.TokenTime, err = b.guideToken(m.Artifact.TokenPath()); err != nil {
			return nil, err
		}
		if d.SealToken, d.SealTime, err = b.guideToken(checkpointTSRPath); err != nil {
			return nil, err
		}
	}
	for _, e := range m.Events {
		ge, err := b.guideEvent(e, d.SignerPrint)
		if err != nil {
			return nil, err
		}
		d.Events = append(d.Events, ge)
	}
	var out strings.Builder
	if err := guideTemplate.Execute(&out, d); err != nil {
		return nil, fmt.Errorf("%s: %w", guidePath, err)
	}
	if out.Len() > maxGuide {
		return nil, refuse(guidePath, "%d bytes, the most is %d: put fewer events into the bundle", out.Len(), maxGuide)
	}
	return []byte(out.String()), nil
}

// guideToken returns the token's time, at which openssl must judge the chain.
func (b *Bundle) guideToken(path string) (string, int64, error) {
	response := b.File(path)
	if response == nil {
		return "", 0, nil
	}
	token, err := rfc3161.ParseResponse(response)
	if err != nil {
		return "", 0, refuse(path, "%v", err)
	}
	return path, token.GenTime.Unix(), nil
}

func (b *Bundle) guideEvent(e LogEvent, signer string) (guideEvent, error) {
	p, err := proof.ParseTLogProof(b.File(e.Proof))
	if err != nil {
		return guideEvent{}, refuse(e.Proof, "%v", err)
	}
	const firstHash = 3 // after the header and the index
	sides := neighbours(e.Index, b.Manifest.Log.Size)
	if len(sides) != len(p.Hashes) {
		return guideEvent{}, refuse(e.Proof, "%d hashes, leaf %d of %d needs %d", len(p.Hashes), e.Index, b.Manifest.Log.Size, len(sides))
	}
	ge := guideEvent{Index: e.Index, Event: e.Event, Proof: e.Proof, First: firstHash + len(sides) + 1}
	if about, ok := parseAbout(b.File(e.Event), b.Manifest.Artifact.SHA256); ok {
		ge.About = true
		ge.Signed = about.event.Type.Name() == signedType && signer != "" && about.Fingerprint == signer
	}
	for i, side := range sides {
		ge.Steps = append(ge.Steps, guideStep{firstHash + i, side})
	}
	return ge, nil
}

// neighbours tells for each hash of an inclusion path on which side it stands
// (RFC 6962 section 2.1.1): below the point where the paths of the leaf and of
// the last leaf part, by the bits of the index; above, always left.
func neighbours(index, size uint64) []string {
	inner := bits.Len64(index ^ (size - 1))
	var sides []string
	for i := range inner {
		if index>>i&1 == 0 {
			sides = append(sides, "right")
		} else {
			sides = append(sides, "left")
		}
	}
	for range bits.OnesCount64(index >> inner) {
		sides = append(sides, "left")
	}
	return sides
}

// shellQuote makes one word of s for a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
