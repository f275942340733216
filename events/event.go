package events

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// MaxSize is the largest canonical event in bytes. A log entry holds 65,535
// bytes; larger evidence goes to the blob store.
const MaxSize = 60 << 10

// SpecVersion is the CloudEvents version of every event.
const SpecVersion = "1.0"

// typePrefix begins every event type of VaultMesh.
const typePrefix = "cloud.vaultmesh."

type (
	// ID names an event within its source: 1 to 128 printable ASCII bytes.
	// Ours are UUIDv7, or UUIDv8 for derived events.
	ID string
	// Source is the CloudEvents source, "/<producer>" or "/<producer>/...".
	Source string
	// Producer is a name that the broker lets speak: 1 to 64 bytes.
	Producer string
	// Type is "cloud.vaultmesh.<domain>.<what-happened>.v<n>".
	Type string
	// Domain is the second part of a type, and of a subject.
	Domain string
)

// An Event is a CloudEvents 1.0 event in structured JSON mode. The zero value of
// an optional field leaves its attribute out.
type Event struct {
	ID          ID              `json:"id"`
	Source      Source          `json:"source"`
	Type        Type            `json:"type"`
	Subject     string          `json:"subject"`       // the entity: a bounded name such as a component, never a job or event id; 1 to 128 bytes
	Time        time.Time       `json:"time,omitzero"` // when it happened, by the producer's clock
	DataSchema  string          `json:"dataschema,omitzero"`
	TraceParent string          `json:"traceparent,omitzero"` // W3C trace context
	TraceState  string          `json:"tracestate,omitzero"`
	Cause       ID              `json:"vmcause,omitzero"`   // the event that a derived event follows from
	Private     string          `json:"vmprivate,omitzero"` // commitment to private text, see [Private]
	Data        json.RawMessage `json:"data,omitzero"`
}

// SourceOf returns the source of a producer's events.
func SourceOf(p Producer) Source { return Source("/" + string(p)) }

// Producer returns the first segment of the source's path.
func (s Source) Producer() Producer {
	name, _, _ := strings.Cut(strings.TrimPrefix(string(s), "/"), "/")
	return Producer(name)
}

// Domain returns the domain of the type, or "" if t is not one of ours.
func (t Type) Domain() Domain {
	d, _, _ := t.split()
	return d
}

// Name returns the type without prefix and version, such as "deploy.recorded".
func (t Type) Name() string {
	d, what, _ := t.split()
	if d == "" {
		return string(t)
	}
	return string(d) + "." + what
}

func (t Type) split() (d Domain, what, version string) {
	rest, ok := strings.CutPrefix(string(t), typePrefix)
	if !ok {
		return "", "", ""
	}
	domain, rest, ok := strings.Cut(rest, ".")
	what, version, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return "", "", ""
	}
	return Domain(domain), what, version
}

func (t Type) valid() bool {
	d, what, version := t.split()
	return isWord(string(d)) && isWord(what) && len(t) <= 128 &&
		len(version) >= 2 && version[0] == 'v' && version[1] >= '1' && version[1] <= '9' && isDigits(version[2:])
}

func isWord(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return s != ""
}

func isDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// String names the event in logs and errors: its type and id, never its data.
func (e *Event) String() string { return fmt.Sprintf("%s %s from %s", e.Type.Name(), e.ID, e.Source) }

// Canonical returns the event's JCS bytes, the bytes that are published, hashed
// and sealed. The error is a *Refusal if fold-v1 would not accept them.
func (e *Event) Canonical() ([]byte, error) {
	b, err := e.encode()
	if err != nil {
		return nil, err
	}
	if _, _, err := Accept(e.NATSSubject(), b); err != nil {
		return nil, fmt.Errorf("encode %s: %w", e, err)
	}
	return b, nil
}
