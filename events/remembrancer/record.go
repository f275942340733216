package remembrancer

import (
	"path"
	"slices"

	"vaultmesh.cloud/vaultmesh/events"
)

// Bounds of payloads, in code points.
const (
	MaxName      = 128
	MaxTitle     = 200
	MaxNotes     = 8 << 10
	MaxBody      = 32 << 10
	MaxSignature = 16 << 10 // armored
	MaxPublicKey = 32 << 10 // armored
	MaxToken     = 32 << 10 // base64 of 24 KiB

	maxFile    = 255
	maxKey     = 512
	maxOrigin  = 255
	maxReason  = 2 << 10
	maxTSA     = 512
	maxTag     = 64
	maxTags    = 32
	maxMembers = 64
)

// Evidence is the file that a deployment was made of.
type Evidence struct {
	Name   string `json:"name,omitempty"` // base name of the file
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size,omitzero"` // bytes
}

func (e *Evidence) check(c *events.Checker) {
	c.SHA256("evidence.sha256", e.SHA256)
	c.Name("evidence.name", e.Name, 0, maxFile)
	c.Integer("evidence.size", e.Size, 0, events.MaxExact)
}

// DeployRecorded says that a version of a component was deployed. Without
// evidence it counts against provenance. Its fields stand in the order of RFC
// 8785, so that encoding the most frequent payload needs no sorting.
type DeployRecorded struct {
	Component   string    `json:"component"`
	Environment string    `json:"environment,omitempty"`
	Evidence    *Evidence `json:"evidence,omitempty"`
	Notes       string    `json:"notes,omitempty"`
	Version     string    `json:"version"`
}

// DeployRecordedType is the type of [DeployRecorded].
const DeployRecordedType events.Type = "cloud.vaultmesh.deploy.recorded.v1"

// EventType implements events.Payload.
func (*DeployRecorded) EventType() events.Type { return DeployRecordedType }

// Entity is the component.
func (p *DeployRecorded) Entity() string { return events.ClipEntity(p.Component) }

// Check implements events.Payload.
func (p *DeployRecorded) Check() error {
	var c events.Checker
	c.Name("component", p.Component, 1, MaxName)
	c.Name("version", p.Version, 1, MaxName)
	c.Name("environment", p.Environment, 0, MaxName)
	if p.Evidence != nil {
		p.Evidence.check(&c)
	}
	c.Text("notes", p.Notes, 0, MaxNotes)
	return c.Err()
}

// ArtifactSigned says that a key signed a file, and holds the signature.
type ArtifactSigned struct {
	SHA256          string `json:"sha256"`        // of the file
	Name            string `json:"name"`          // base name of the file
	Size            int64  `json:"size,omitzero"` // bytes
	Fingerprint     string `json:"fingerprint"`
	Signature       string `json:"signature"` // armored, detached
	SignatureSHA256 string `json:"signature_sha256"`
	PublicKey       string `json:"public_key,omitempty"` // armored, if it is not the operator's
}

// ArtifactSignedType is the type of [ArtifactSigned].
const ArtifactSignedType events.Type = "cloud.vaultmesh.artifact.signed.v1"

// EventType implements events.Payload.
func (*ArtifactSigned) EventType() events.Type { return ArtifactSignedType }

// Entity is the file's name.
func (p *ArtifactSigned) Entity() string { return events.ClipEntity(path.Base(p.Name)) }

// Check implements events.Payload.
func (p *ArtifactSigned) Check() error {
	var c events.Checker
	c.SHA256("sha256", p.SHA256)
	c.Name("name", p.Name, 1, maxFile)
	c.Integer("size", p.Size, 0, events.MaxExact)
	c.Fingerprint("fingerprint", p.Fingerprint)
	c.Text("signature", p.Signature, 1, MaxSignature)
	c.SHA256("signature_sha256", p.SignatureSHA256)
	c.Text("public_key", p.PublicKey, 0, MaxPublicKey)
	return c.Err()
}

// ArtifactTimestamped says that an authority stamped a file, and holds the token.
type ArtifactTimestamped struct {
	SHA256      string `json:"sha256"` // of the file
	Name        string `json:"name"`
	Size        int64  `json:"size,omitzero"` // bytes
	Token       string `json:"token"`         // base64 of the DER TimeStampResp
	TokenSHA256 string `json:"token_sha256"`
	GenTime     string `json:"gen_time"`
	TSA         string `json:"tsa"`              // URL, or name in the certificate
	Policy      string `json:"policy,omitempty"` // OID
}

// ArtifactTimestampedType is the type of [ArtifactTimestamped].
const ArtifactTimestampedType events.Type = "cloud.vaultmesh.artifact.timestamped.v1"

// EventType implements events.Payload.
func (*ArtifactTimestamped) EventType() events.Type { return ArtifactTimestampedType }

// Entity is the file's name.
func (p *ArtifactTimestamped) Entity() string { return events.ClipEntity(path.Base(p.Name)) }

// Check implements events.Payload.
func (p *ArtifactTimestamped) Check() error {
	var c events.Checker
	c.SHA256("sha256", p.SHA256)
	c.Name("name", p.Name, 1, maxFile)
	c.Integer("size", p.Size, 0, events.MaxExact)
	c.Base64("token", p.Token, MaxToken)
	c.SHA256("token_sha256", p.TokenSHA256)
	c.Time("gen_time", p.GenTime)
	c.Name("tsa", p.TSA, 1, maxTSA)
	c.Name("policy", p.Policy, 0, MaxName)
	return c.Err()
}

// DecisionRecorded is an architectural decision. Body is absent when it is
// private: then the event's vmprivate commits to it.
type DecisionRecorded struct {
	Number     int64    `json:"number"` // from 1, unique in the log
	Title      string   `json:"title"`
	Status     string   `json:"status"` // proposed, accepted, rejected, deprecated, superseded
	Body       string   `json:"body,omitempty"`
	Tags       []string `json:"tags,omitempty"`
	Supersedes []int64  `json:"supersedes,omitempty"` // numbers
}

// DecisionRecordedType is the type of [DecisionRecorded].
const DecisionRecordedType events.Type = "cloud.vaultmesh.decision.recorded.v1"

// EventType implements events.Payload.
func (*DecisionRecorded) EventType() events.Type { return DecisionRecordedType }

// Entity is "adr" for every decision.
func (*DecisionRecorded) Entity() string { return "adr" }

// Check implements events.Payload.
func (p *DecisionRecorded) Check() error {
	var c events.Checker
	c.Integer("number", p.Number, 1, events.MaxExact)
	c.Name("title", p.Title, 1, MaxTitle)
	c.OneOf("status", p.Status, "proposed", "accepted", "rejected", "deprecated", "superseded")
	c.Text("body", p.Body, 0, MaxBody)
	checkTags(&c, p.Tags)
	c.Integer("number of supersedes", int64(len(p.Supersedes)), 0, maxTags)
	for _, n := range p.Supersedes {
		c.Integer("each of supersedes", n, 1, events.MaxExact)
	}
	unique(&c, "supersedes", p.Supersedes)
	return c.Err()
}

// IncidentReported is something that went wrong. Body is absent when it is
// private, as in [DecisionRecorded].
type IncidentReported struct {
	Title     string   `json:"title"`
	Severity  string   `json:"severity"` // low, medium, high, critical
	Component string   `json:"component,omitempty"`
	Body      string   `json:"body,omitempty"`
	StartedAt string   `json:"started_at,omitempty"`
	EndedAt   string   `json:"ended_at,omitempty"`
	Tags      []string `json:"tags,omitempty"`
}

// IncidentReportedType is the type of [IncidentReported].
const IncidentReportedType events.Type = "cloud.vaultmesh.incident.reported.v1"

// EventType implements events.Payload.
func (*IncidentReported) EventType() events.Type { return IncidentReportedType }

// Entity is the component, or "incident".
func (p *IncidentReported) Entity() string {
	if p.Component == "" {
		return "incident"
	}
	return events.ClipEntity(p.Component)
}

// Check implements events.Payload.
func (p *IncidentReported) Check() error {
	var c events.Checker
	c.Name("title", p.Title, 1, MaxTitle)
	c.OneOf("severity", p.Severity, "low", "medium", "high", "critical")
	c.Name("component", p.Component, 0, MaxName)
	c.Text("body", p.Body, 0, MaxBody)
	optionalTime(&c, "started_at", p.StartedAt)
	optionalTime(&c, "ended_at", p.EndedAt)
	checkTags(&c, p.Tags)
	return c.Err()
}

func checkTags(c *events.Checker, tags []string) {
	c.Integer("number of tags", int64(len(tags)), 0, maxTags)
	for _, t := range tags {
		c.Name("each of tags", t, 1, maxTag)
	}
	unique(c, "tags", tags)
}

// unique complains about an element that stands twice in a short list.
func unique[T comparable](c *events.Checker, field string, list []T) {
	if len(list) > maxMembers { // refused elsewhere; do not compare all with all
		return
	}
	for i, v := range list {
		if slices.Contains(list[:i], v) {
			c.Fail(field, "has an element twice")
		}
	}
}

func optionalTime(c *events.Checker, field, s string) {
	if s != "" {
		c.Time(field, s)
	}
}
