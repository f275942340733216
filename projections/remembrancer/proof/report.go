package proof

import (
	"fmt"
	"strings"
	"time"
)

// A LinkName names one of the four things that tie a file to the log. The list
// is closed.
type LinkName string

// The links, in the order in which reports show them.
const (
	LinkDigest    LinkName = "digest"    // the log knows this SHA-256
	LinkSignature LinkName = "signature" // a detached OpenPGP signature over the file
	LinkToken     LinkName = "token"     // an RFC 3161 token over the file
	LinkInclusion LinkName = "inclusion" // its events stand in a sealed checkpoint
)

var linkNames = []LinkName{LinkDigest, LinkSignature, LinkToken, LinkInclusion}

// ParseLinkName reads a link's name, as --allow-missing takes it.
func ParseLinkName(s string) (LinkName, error) {
	for _, n := range linkNames {
		if s == string(n) {
			return n, nil
		}
	}
	return "", fmt.Errorf("%q is no link: use digest, signature, token or inclusion: %w", clip(s), ErrMalformed)
}

// A Status says how one link stands.
type Status string

// How a link can stand.
const (
	StatusOK      Status = "ok"      // checked and true
	StatusMissing Status = "missing" // nothing to check, or nothing to check it with
	StatusFailed  Status = "failed"  // there, and wrong; no exception covers this
	StatusAllowed Status = "allowed" // missing, and the user said that it may be
)

// Facts are what a link's evidence says. Only the fields of that link are set.
type Facts struct {
	Fingerprint  string     `json:"fingerprint,omitzero"`   // signature: of the key that signed, upper-case hex
	SignerIs     string     `json:"signer_is,omitzero"`     // signature: "operator", "certified", "pinned" or "logged"
	SignedAt     *time.Time `json:"signed_at,omitzero"`     // signature: by the signer's own clock
	GenTime      *time.Time `json:"gen_time,omitzero"`      // token: by the TSA's clock; inclusion: of the checkpoint's token
	TSA          string     `json:"tsa,omitzero"`           // token, inclusion: subject of the TSA's certificate
	Origin       string     `json:"origin,omitzero"`        // inclusion: the log
	Index        *uint64    `json:"index,omitzero"`         // digest, inclusion: first leaf about this file
	Size         *uint64    `json:"size,omitzero"`          // inclusion: leaves of the checkpoint
	Root         string     `json:"root,omitzero"`          // inclusion: root of the checkpoint, base64
	NodeKey      string     `json:"node_key,omitzero"`      // inclusion: fingerprint of the key that sealed the checkpoint
	Cosignatures []string   `json:"cosignatures,omitzero"`  // inclusion: witnesses whose cosignature was checked
	EventIDs     []string   `json:"event_ids,omitzero"`     // digest: the events about this file
	ConsistentTo *uint64    `json:"consistent_to,omitzero"` // inclusion: size of the newer head that was compared
}

// A Link is one row of a report.
type Link struct {
	Name   LinkName `json:"name"`
	Status Status   `json:"status"`
	Detail string   `json:"detail,omitzero"` // one sentence for people
	Facts  Facts    `json:"facts"`
}

// An Anchor is a key or certificate on which the verdict rests.
type Anchor struct {
	Name   string `json:"name"`   // "operator key", "signer key", "node key", "log key", "tsa roots", "witness key"
	Value  string `json:"value"`  // fingerprint, verifier key or SHA-256
	Pinned bool   `json:"pinned"` // true: the user named it; false: it came with the evidence and proves nothing by itself
}

// A Report says whether a file is proven and which link is not. verify-full and
// verify-proof print it; its JSON names are stable.
type Report struct {
	File     string   `json:"file"`              // name only
	SHA256   string   `json:"sha256"`            // lower-case hex
	Verified bool     `json:"verified"`          // every link is ok or allowed
	Links    []Link   `json:"links"`             // always four, in the order of the constants
	Anchors  []Anchor `json:"anchors,omitzero"`  // what the links rest on
	Warnings []string `json:"warnings,omitzero"` // true things that change no verdict
}

// NewReport returns a report whose links are all missing.
func NewReport(file, sha256 string) Report {
	r := Report{File: file, SHA256: sha256}
	for _, n := range linkNames {
		r.Links = append(r.Links, Link{Name: n, Status: StatusMissing})
	}
	return r
}

// Link returns the named link for reading or filling.
func (r *Report) Link(name LinkName) *Link {
	for i := range r.Links {
		if r.Links[i].Name == name {
			return &r.Links[i]
		}
	}
	panic("proof: report without link " + string(name))
}

// Pass marks a link as checked and true, unless it failed before.
func (r *Report) Pass(name LinkName, detail string) {
	if l := r.Link(name); l.Status != StatusFailed {
		l.Status, l.Detail = StatusOK, detail
	}
}

// Fail marks a link as wrong. The first reason stands.
func (r *Report) Fail(name LinkName, format string, args ...any) {
	if l := r.Link(name); l.Status != StatusFailed {
		l.Status, l.Detail = StatusFailed, fmt.Sprintf(format, args...)
	}
}

// Miss says why a link cannot be checked, unless it failed before.
func (r *Report) Miss(name LinkName, format string, args ...any) {
	if l := r.Link(name); l.Status != StatusFailed {
		l.Status, l.Detail = StatusMissing, fmt.Sprintf(format, args...)
	}
}

// Warn adds a remark that changes no verdict.
func (r *Report) Warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// Conclude computes the verdict. Links in allow that are missing become allowed
// and stay visible as such; a failed link is never excused. Without inclusion
// nothing shows what the log knows, so allowing inclusion allows digest too.
func (r *Report) Conclude(allow ...LinkName) {
	may := make(map[LinkName]bool)
	for _, n := range allow {
		may[n] = true
	}
	may[LinkDigest] = may[LinkDigest] || may[LinkInclusion]
	r.Verified = true
	for i := range r.Links {
		l := &r.Links[i]
		if l.Status == StatusMissing && may[l.Name] {
			l.Status = StatusAllowed
		}
		if l.Status != StatusOK && l.Status != StatusAllowed {
			r.Verified = false
		}
	}
}

// Err returns nil for a verified report, else an error that names each link that
// is missing or failed.
func (r *Report) Err() error {
	if r.Verified {
		return nil
	}
	var bad []string
	for _, l := range r.Links {
		if l.Status == StatusOK || l.Status == StatusAllowed {
			continue
		}
		s := string(l.Name) + " " + string(l.Status)
		if l.Detail != "" {
			s += " (" + l.Detail + ")"
		}
		bad = append(bad, s)
	}
	return fmt.Errorf("%s is not proven: %s: %w", clip(r.File), strings.Join(bad, "; "), ErrNotProven)
}
