package reads

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
)

// A Kind is a list that people ask for. The list of kinds is closed.
type Kind string

// The kinds.
const (
	Deployments Kind = "deployments"
	Decisions   Kind = "decisions"
	Artifacts   Kind = "artifacts"
	Incidents   Kind = "incidents"
	All         Kind = "all" // everything but the ledger's housekeeping
)

// kinds maps each list to its domain, and to what one item is called.
var kinds = map[Kind]struct {
	domain events.Domain
	item   string
}{
	Deployments: {"deploy", "deployment"},
	Decisions:   {"decision", "decision"},
	Artifacts:   {"artifact", "artifact"},
	Incidents:   {"incident", "incident"},
	All:         {},
}

// An Item is one event of a list.
type Item struct {
	Index   uint64          `json:"index"`
	ID      events.ID       `json:"id"`
	Type    events.Type     `json:"type"`
	Kind    string          `json:"kind"` // deployment, decision, artifact, incident, or the type's domain
	Time    time.Time       `json:"time,omitzero"`
	Source  events.Source   `json:"source"`
	Subject string          `json:"subject"`
	Title   string          `json:"title"`             // one line for people
	Detail  json.RawMessage `json:"detail,omitempty"`  // the payload
	Private string          `json:"private,omitempty"` // commitment to text that is not in the log
	Sealed  bool            `json:"sealed"`            // a published checkpoint holds it
	Verdict string          `json:"verdict,omitempty"` // why it does not fit its schema
}

// A ListQuery selects items. Its zero value but for the kind is the oldest page.
type ListQuery struct {
	Kind      Kind
	Component string    // the event's subject, exactly
	Since     time.Time // by the producers' clocks, inclusive; zero is always
	Until     time.Time // exclusive; zero is always
	From      uint64    // the smallest index
	Limit     int       // 0 is DefaultLimit, the most is MaxLimit
}

// A List holds items in the order of the log. A page may be short, or empty,
// before the end: go on while there is a Next.
type List struct {
	Items []Item `json:"items"`
	Next  uint64 `json:"next,omitzero"` // From of the next page; absent at the end
}

// List returns a page of items.
func (r *Reader) List(ctx context.Context, q ListQuery) (List, error) {
	kind, ok := kinds[q.Kind]
	if !ok {
		return List{}, fmt.Errorf("%w: no list %q: there are deployments, decisions, artifacts, incidents and all", ErrNotFound, clip(string(q.Kind)))
	}
	limit, err := checkLimit(q.Limit)
	if err != nil {
		return List{}, err
	}
	head, _ := r.o.Heads.Latest()
	out := List{Items: []Item{}}
	size, seen := 0, 0
	// add reports whether there is room for another.
	add := func(e ledger.Entry) bool {
		if q.match(&e) {
			out.Items = append(out.Items, r.item(e, head.Size))
			size += len(e.Bytes)
		}
		seen++
		return len(out.Items) < limit && size < maxPage && seen < scanBudget && ctx.Err() == nil
	}
	if kind.domain == "" {
		out.Next, err = r.scan(q.From, add)
	} else {
		out.Next, err = r.walk(kind.domain, q.From, add)
	}
	if err == nil {
		err = ctx.Err()
	}
	return out, err
}

func (q *ListQuery) match(e *ledger.Entry) bool {
	return e.Quarantine == nil && !events.Housekeeping(e.Event.Type) &&
		(q.Component == "" || e.Event.Subject == q.Component) &&
		(q.Since.IsZero() || !e.Event.Time.Before(q.Since)) &&
		(q.Until.IsZero() || e.Event.Time.Before(q.Until))
}

// walk calls fn with the events of a domain from an index on until it returns
// false, and returns the index of the next, 0 if there is none.
func (r *Reader) walk(domain events.Domain, from uint64, fn func(ledger.Entry) bool) (uint64, error) {
	var types []events.Type
	for _, d := range r.o.Registry.Definitions() {
		if d.Type.Domain() == domain {
			types = append(types, d.Type)
		}
	}
	for {
		var found []uint64
		whole := uint64(1 << 63) // below it, found misses nothing
		for _, t := range types {
			some, err := r.o.Ledger.ByType(t, from, chunk)
			if err != nil {
				return 0, err
			}
			if found = append(found, some...); len(some) == chunk {
				whole = min(whole, some[chunk-1]+1)
			}
		}
		slices.SortFunc(found, cmp.Compare[uint64])
		end, _ := slices.BinarySearch(found, whole)
		for _, index := range found[:end] {
			e, err := r.entry(index)
			if err != nil {
				return 0, err
			}
			if !fn(e) {
				return r.following(types, index+1)
			}
		}
		if whole == 1<<63 {
			return 0, nil
		}
		from = whole
	}
}

// following returns from if one of the types has an event there or later, or 0.
func (r *Reader) following(types []events.Type, from uint64) (uint64, error) {
	for _, t := range types {
		some, err := r.o.Ledger.ByType(t, from, 1)
		if err != nil || len(some) > 0 {
			return from, err
		}
	}
	return 0, nil
}

func (r *Reader) item(e ledger.Entry, sealed uint64) Item {
	ev := &e.Event
	out := Item{
		Index: e.Index, ID: ev.ID, Type: ev.Type, Kind: string(ev.Type.Domain()), Time: ev.Time, Source: ev.Source,
		Subject: ev.Subject, Detail: ev.Data, Private: ev.Private, Sealed: e.Index < sealed, Verdict: e.Verdict,
	}
	for _, k := range kinds {
		if k.domain == ev.Type.Domain() {
			out.Kind = k.item
		}
	}
	out.Title = ev.Type.Name() + " " + ev.Subject
	if p, err := r.o.Registry.Decode(ev); err == nil {
		if t := title(p); t != "" {
			out.Title = t
		}
	}
	return out
}

// title says in one line what a payload of this layer is about.
func title(p events.Payload) string {
	switch p := p.(type) {
	case *remembrancer.DeployRecorded:
		if p.Environment != "" {
			return fmt.Sprintf("%s %s to %s", p.Component, p.Version, p.Environment)
		}
		return p.Component + " " + p.Version
	case *remembrancer.DecisionRecorded:
		return fmt.Sprintf("ADR-%d %s", p.Number, p.Title)
	case *remembrancer.IncidentReported:
		return fmt.Sprintf("%s: %s", p.Severity, p.Title)
	case *remembrancer.ArtifactSigned:
		return "signed " + p.Name
	case *remembrancer.ArtifactTimestamped:
		return "time-stamped " + p.Name
	}
	return ""
}
