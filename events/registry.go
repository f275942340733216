package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"vaultmesh.cloud/vaultmesh/events/canon"
)

// SchemaBase begins the dataschema of every event; the rest is the path of a
// file in the package schemas.
const SchemaBase = "https://vaultmesh.cloud/schemas/"

// A Payload is the typed data of an event. Check returns what is wrong with the
// values, naming the field; it accepts exactly what the JSON Schema of the type
// accepts.
type Payload interface {
	EventType() Type
	Entity() string // the event's subject: a bounded name
	Check() error
}

// A Definition makes one event type known.
type Definition struct {
	Type   Type
	Schema string         // path of the JSON Schema below schemas/, such as "aurora/route.decided.v1.json"
	New    func() Payload // a pointer to a zero payload, to decode into
	// Upcast rewrites the data of this version to that of the next; nil for the
	// newest. It is pure, and the stored bytes never change.
	Upcast func(data json.RawMessage) (Type, json.RawMessage, error)
}

// Registry knows event types. It is built once, in cmd, from the definitions of
// the layers, and never changes.
type Registry struct {
	defs map[Type]Definition
}

// Errors of Registry.Decode.
var (
	// ErrUnknownType means that no layer of this program knows the type: keep
	// the event, do not handle it.
	ErrUnknownType = errors.New("unknown event type")
	// ErrInvalidData means that the data does not fit the type's schema.
	ErrInvalidData = errors.New("event data does not fit its schema")
)

// NewRegistry joins the definitions of the layers. A type that is defined twice
// or malformed is an error.
func NewRegistry(layers ...[]Definition) (*Registry, error) {
	r := &Registry{defs: map[Type]Definition{}}
	for _, layer := range layers {
		for _, d := range layer {
			if !d.Type.valid() || d.New == nil || d.Schema == "" {
				return nil, fmt.Errorf("definition of event type %q is incomplete", d.Type)
			}
			if _, ok := r.defs[d.Type]; ok {
				return nil, fmt.Errorf("event type %s is defined twice", d.Type)
			}
			r.defs[d.Type] = d
		}
	}
	return r, nil
}

// Definitions returns all definitions, ordered by type.
func (r *Registry) Definitions() []Definition {
	var out []Definition
	for _, t := range slices.Sorted(maps.Keys(r.defs)) {
		out = append(out, r.defs[t])
	}
	return out
}

// Check gives the schema verdict on an event: nil, ErrUnknownType or
// ErrInvalidData, wrapped with what is wrong.
func (r *Registry) Check(e *Event) error {
	_, err := r.decode(e.Type, e.Data)
	return err
}

// Decode returns the typed data of an event, upcast to the newest version of its
// type.
func (r *Registry) Decode(e *Event) (Payload, error) {
	t, data := e.Type, e.Data
	for {
		d, ok := r.defs[t]
		if !ok || d.Upcast == nil {
			return r.decode(t, data)
		}
		if _, err := r.decode(t, data); err != nil {
			return nil, err
		}
		var err error
		if t, data, err = d.Upcast(data); err != nil {
			return nil, fmt.Errorf("upcast %s: %w", e, err)
		}
	}
}

func (r *Registry) decode(t Type, data json.RawMessage) (Payload, error) {
	d, ok := r.defs[t]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnknownType, t)
	}
	p := d.New()
	if err := Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalidData, t, err)
	}
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalidData, t, err)
	}
	return p, nil
}

// Origin says who publishes an event, when and why.
type Origin struct {
	ID          ID
	Source      Source
	Time        time.Time
	TraceParent string
	TraceState  string
	Cause       ID
	Private     string // a commitment, see [Private]
}

// New builds the event of a payload after checking it.
func (r *Registry) New(p Payload, o Origin) (*Event, error) {
	d, ok := r.defs[p.EventType()]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnknownType, p.EventType())
	}
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalidData, d.Type, err)
	}
	data, err := canon.Marshal(p)
	if err != nil {
		return nil, err
	}
	return &Event{
		ID: o.ID, Source: o.Source, Type: d.Type, Subject: p.Entity(), Time: o.Time,
		DataSchema: SchemaBase + d.Schema, TraceParent: o.TraceParent, TraceState: o.TraceState,
		Cause: o.Cause, Private: o.Private, Data: data,
	}, nil
}
