package remembrancer

import (
	"context"
	"encoding/json"
	"strings"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events"
)

// artifactFacts is what an event about a file says, as far as a verifier needs it.
type artifactFacts struct {
	Fingerprint string // of the signer, upper-case hex; empty if it is no signature
	Key         string // the signer's armored public key, if the event carries it
}

// Members of an event's data that name a file's digest. Free text never counts.
type aboutData struct {
	SHA256      string `json:"sha256"`
	Fingerprint string `json:"fingerprint"`
	PublicKey   string `json:"public_key"`
	Evidence    struct {
		SHA256 string `json:"sha256"`
	} `json:"evidence"`
}

// signedName is the event that says who signed a file.
const signedName = "artifact.signed"

// factsAbout reports whether an event names the digest in a member made for it.
func factsAbout(e events.Event, sum digest) (artifactFacts, bool) {
	var d aboutData
	if json.Unmarshal(e.Data, &d) != nil || d.SHA256 != sum.String() && d.Evidence.SHA256 != sum.String() {
		return artifactFacts{}, false
	}
	if e.Type.Name() != signedName {
		return artifactFacts{}, true
	}
	return artifactFacts{Fingerprint: strings.ToUpper(d.Fingerprint), Key: d.PublicKey}, true
}

// artifact asks what the log knows about a digest.
func (c *client) artifact(ctx context.Context, sum digest) (artifact, error) {
	var a artifact
	err := c.get(ctx, "/v1/artifacts/"+sum.String(), nil, &a)
	return a, err
}

// prove1 asks for the receipt of a listed event and checks it. With stamped it
// prefers a checkpoint that has a token: the smallest one need never get one.
func (c *client) prove1(ctx context.Context, e indexEvent, vkey string, stamped bool) (proven, error) {
	parsed, _, err := events.Parse(e.Event)
	if err != nil {
		return proven{}, unverified("", "event at index %d: %w", e.Index, err)
	}
	r, err := c.receipt(ctx, parsed.ID, parsed.Source, 0, stamped)
	if k := term.KindOf(err); stamped && (k == term.Unavailable || k == term.NotFound) {
		r, err = c.receipt(ctx, parsed.ID, parsed.Source, 0, false)
	}
	if err != nil {
		return proven{}, err
	}
	return checkReceipt(r, parsed.ID, vkey)
}
