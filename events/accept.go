package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"vaultmesh.cloud/vaultmesh/events/canon"
)

// A Reason says which rule of fold-v1 a message breaks. The list is closed: the
// codes stand in leaves of the log.
type Reason string

// The reasons of fold-v1.
const (
	TooLarge     Reason = "too_large"     // over MaxSize when canonical, or over MaxRaw as sent
	BadJSON      Reason = "bad_json"      // not strict I-JSON
	BadEnvelope  Reason = "bad_envelope"  // an attribute is missing or malformed
	WrongSubject Reason = "wrong_subject" // published on another subject than its attributes say
	NotAllowed   Reason = "not_allowed"   // this producer may not say this type
	Conflict     Reason = "conflict"      // the same (source, id) was accepted with other bytes
)

// MaxRaw is the largest message that is parsed at all, in bytes. JCS can only
// shrink white space and escapes, so a larger one is not worth reading.
const MaxRaw = 256 << 10

// A Refusal says why a message is not an event. Match one with errors.As.
type Refusal struct {
	Reason Reason
	Detail string
}

func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Detail }

// Accept applies fold-v1 to a message: strict I-JSON, size, envelope, subject,
// who may say what. It returns the event and its canonical bytes (raw itself if
// it was canonical), or a *Refusal. The rules are frozen: they decide what is a
// leaf of the log, so they depend on no release and no configuration. The
// event's Data shares memory with the canonical bytes.
func Accept(subject string, raw []byte) (Event, []byte, error) {
	e, b, err := Parse(raw)
	if err != nil {
		return e, nil, err
	}
	if want := e.NATSSubject(); subject != want {
		return e, nil, refuse(WrongSubject, "published on %s, but its type, subject and source say %s", clip(subject), want)
	}
	if p := e.Source.Producer(); !MaySay(p, e.Type) {
		return e, nil, refuse(NotAllowed, "producer %s may not say %s", p, e.Type)
	}
	return e, b, nil
}

// Parse reads one event and checks everything of fold-v1 that does not need the
// message's subject.
func Parse(raw []byte) (Event, []byte, error) {
	if len(raw) > MaxRaw {
		return Event{}, nil, refuse(TooLarge, "%d bytes, the most is %d", len(raw), MaxRaw)
	}
	var v envelope
	if len(raw) <= MaxSize && canon.Members(raw, v.visit) { // one pass shows that it is canonical, too
		return v.event, raw, v.check()
	}
	b, err := canon.Canonicalize(raw)
	if err != nil {
		return Event{}, nil, &Refusal{BadJSON, err.Error()}
	}
	if len(b) > MaxSize {
		return Event{}, nil, refuse(TooLarge, "%d bytes when canonical, the most is %d", len(b), MaxSize)
	}
	if b[0] != '{' {
		return Event{}, nil, refuse(BadEnvelope, "an event is a JSON object")
	}
	v = envelope{}
	if err := members(b, v.visit); err != nil {
		return Event{}, nil, refuse(BadEnvelope, "%v", err)
	}
	return v.event, b, v.check()
}

func refuse(r Reason, format string, args ...any) error {
	return &Refusal{r, fmt.Sprintf(format, args...)}
}

// An envelope collects the attributes of an event and the first thing that is
// wrong with them.
type envelope struct {
	event             Event
	spec, contentType string
	err               error
}

func (v *envelope) note(format string, args ...any) {
	if v.err == nil {
		v.err = refuse(BadEnvelope, format, args...)
	}
}

// visit takes one member of the canonical object.
func (v *envelope) visit(name, value []byte) {
	e := &v.event
	if string(name) == "data" {
		e.Data = json.RawMessage(value)
		return
	}
	var s string
	if value[0] == '"' {
		s = unquote(value)
	}
	if value[0] != '"' || s == "" {
		if known(string(name)) {
			v.note("attribute %s must be a string that is not empty", name)
			return
		}
	}
	switch string(name) {
	case "id":
		e.ID = ID(s)
	case "source":
		e.Source = Source(s)
	case "type":
		e.Type = Type(s)
	case "subject":
		e.Subject = s
	case "specversion":
		v.spec = s
	case "datacontenttype":
		v.contentType = s
	case "dataschema":
		e.DataSchema = s
	case "time":
		t, ok := parseTime(s)
		if !ok {
			v.note("time %q is not an RFC 3339 timestamp", clip(s))
		}
		e.Time = t
	case "traceparent":
		e.TraceParent = s
	case "tracestate":
		e.TraceState = s
	case "vmcause":
		e.Cause = ID(s)
	case "vmprivate":
		e.Private = s
	default:
		if !isExtension(string(name)) || value[0] == '{' || value[0] == '[' || value[0] == 'n' {
			v.note("attribute %q is not a CloudEvents extension: use 1 to 20 of a-z and 0-9, with a string, number or boolean", clip(string(name)))
		}
	}
}

// check applies CloudEvents 1.0 section 3 and the bounds of this package.
func (v *envelope) check() error {
	e := &v.event
	if v.spec != SpecVersion {
		v.note("specversion is %q, want %q", clip(v.spec), SpecVersion)
	}
	if v.contentType != "" && v.contentType != "application/json" {
		v.note("datacontenttype is %q, want application/json", clip(v.contentType))
	}
	if n := len(e.ID); n < 1 || n > 128 || !isPrintable(string(e.ID)) {
		v.note("id must be 1 to 128 printable ASCII characters without spaces")
	}
	if !e.Type.valid() {
		v.note("type %q is not cloud.vaultmesh.<domain>.<what-happened>.v<n>", clip(string(e.Type)))
	}
	if p := e.Source.Producer(); !strings.HasPrefix(string(e.Source), "/") || len(e.Source) > 256 || len(p) < 1 || len(p) > 64 || !isPrintable(string(e.Source)) {
		v.note("source must be /<producer> or /<producer>/..., up to 256 printable characters, the producer up to 64")
	}
	if n := len(e.Subject); n < 1 || n > 128 {
		v.note("subject, the entity that this is about, must be 1 to 128 bytes")
	}
	if e.Private != "" && !isCommitment(e.Private) {
		v.note("vmprivate must be sha256: and 64 lower-case hex digits")
	}
	if n := len(e.TraceParent); n > 64 || !isPrintable(e.TraceParent) {
		v.note("traceparent must be at most 64 printable characters (W3C Trace Context)")
	}
	if len(e.TraceState) > 512 {
		v.note("tracestate must be at most 512 bytes (W3C Trace Context)")
	}
	if n := len(e.Cause); n > 128 || !isPrintable(string(e.Cause)) {
		v.note("vmcause must be an event id")
	}
	return v.err
}

// members visits the members of any canonical object; the slow twin of
// canon.Members.
func members(b []byte, visit func(name, value []byte)) error {
	d := jsontext.NewDecoder(bytes.NewReader(b))
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		n := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		visit([]byte(n), bytes.Clone(value))
	}
	_, err := d.ReadToken()
	return err
}

func unquote(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	out, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return ""
	}
	return string(out)
}

func known(name string) bool {
	switch name {
	case "id", "source", "type", "subject", "specversion", "datacontenttype", "dataschema", "time",
		"traceparent", "tracestate", "vmcause", "vmprivate":
		return true
	}
	return false
}

// isExtension applies the naming rule of CloudEvents 1.0 section 3.1; binary
// data would be a second place for a payload.
func isExtension(name string) bool {
	if len(name) < 1 || len(name) > 20 || name == "data_base64" {
		return false
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9') {
			return false
		}
	}
	return true
}

func isPrintable(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
