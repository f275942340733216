package events

import (
	"bytes"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"vaultmesh.cloud/vaultmesh/events/canon"
)

// encode writes the attributes in the order of RFC 8785, by name.
func (e *Event) encode() ([]byte, error) {
	b := make([]byte, 0, 512+len(e.Data))
	b = append(b, '{')
	if e.Data != nil {
		data, err := canon.Canonicalize(e.Data)
		if err != nil {
			return nil, &Refusal{BadJSON, fmt.Sprintf("data of %s: %v", e, err)}
		}
		b = append(append(b, `"data":`...), data...)
		b = append(b, `,"datacontenttype":"application/json",`...)
	}
	b = appendMember(b, "dataschema", e.DataSchema)
	b = appendMember(b, "id", string(e.ID))
	b = appendMember(b, "source", string(e.Source))
	b = appendMember(b, "specversion", SpecVersion)
	b = appendMember(b, "subject", e.Subject)
	if !e.Time.IsZero() {
		b = appendMember(b, "time", e.Time.UTC().Format(time.RFC3339Nano))
	}
	b = appendMember(b, "traceparent", e.TraceParent)
	b = appendMember(b, "tracestate", e.TraceState)
	b = appendMember(b, "type", string(e.Type))
	b = appendMember(b, "vmcause", string(e.Cause))
	b = appendMember(b, "vmprivate", e.Private)
	b = bytes.TrimSuffix(b, []byte{','})
	return append(b, '}'), nil
}

// appendMember appends `"name":"value",` unless value is empty.
func appendMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, '"'), name...), `":`...)
	b, err := jsontext.AppendQuote(b, value)
	if err != nil { // invalid UTF-8: keep it wrong, so that Accept refuses it
		b = append(append(append(b, '"'), value...), '"')
	}
	return append(b, ',')
}
