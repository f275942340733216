package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/canon"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/reads"
)

// attributes are those that an event of ours has. CloudEvents extensions beside
// them would not survive, so they are refused, not dropped.
var attributes = map[string]bool{
	"specversion": true, "id": true, "source": true, "type": true, "subject": true, "time": true, "datacontenttype": true,
	"dataschema": true, "traceparent": true, "tracestate": true, "vmcause": true, "vmprivate": true, "data": true,
}

// Events records CloudEvents in structured JSON mode that the producer made,
// next to each other or not at all. What is missing of specversion, id, source
// and time is filled in. Those that the log already holds with the same type,
// subject and data are answered from there.
func (r *Recorder) Events(ctx context.Context, o Order, raw []json.RawMessage) ([]Recorded, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if n := len(raw); n < 1 || n > bus.MaxBatch {
		return nil, fmt.Errorf("%w: a batch has 1 to %d events, not %d", reads.ErrBadRequest, bus.MaxBatch, n)
	}
	list := make([]*intention, len(raw))
	names := make([]string, 0, len(raw)+1)
	at := map[string]int{}
	for i, b := range raw {
		in, err := r.incoming(&o, b, i)
		if err != nil {
			return nil, inBatch(raw, i, err)
		}
		name := lockName(in.event)
		if first, twice := at[name]; twice {
			return nil, inBatch(raw, i, fmt.Errorf("%w: it has the id of event %d", reads.ErrBadRequest, first))
		}
		at[name] = i
		list[i], names = in, append(names, name)
	}
	if slices.ContainsFunc(list, isDecision) {
		names = append(names, decisionsLock)
	}
	within, cancel := context.WithTimeout(ctx, r.o.LeafWait)
	defer cancel()
	unlock, err := r.locks.lock(within, names...)
	if err != nil {
		return nil, err
	}
	out, err := r.batch(within, &o, list)
	unlock()
	if err != nil {
		return out, err
	}
	return out, r.sealBatch(ctx, &o, out)
}

// inBatch says which event of several an error is about.
func inBatch(raw []json.RawMessage, i int, err error) error {
	if len(raw) == 1 {
		return err
	}
	return fmt.Errorf("event %d of the batch: %w", i, err)
}

// incoming reads, completes and checks one event.
func (r *Recorder) incoming(o *Order, raw []byte, n int) (*intention, error) {
	if len(raw) > events.MaxRaw {
		return nil, fmt.Errorf("%w: %d bytes, the most is %d", ErrTooLarge, len(raw), events.MaxRaw)
	}
	b, err := canon.Canonicalize(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", reads.ErrBadRequest, err)
	}
	var members map[string]json.RawMessage // canonical: no name stands twice
	if err := json.Unmarshal(b, &members); err != nil || members == nil {
		return nil, fmt.Errorf("%w: an event is a JSON object", reads.ErrBadRequest)
	}
	for name := range members {
		if !attributes[name] {
			return nil, fmt.Errorf("%w: attribute %q: events here have no extensions; say it in data, as JSON", reads.ErrBadRequest, clip(name))
		}
	}
	source := events.SourceOf(o.Producer)
	if given, ok := members["source"]; ok {
		var s string
		if err := json.Unmarshal(given, &s); err == nil && s != "" {
			source = events.Source(s)
		}
	}
	id, err := r.id(o, source, n)
	if err != nil {
		return nil, err
	}
	fill(members, "specversion", events.SpecVersion)
	fill(members, "id", string(id))
	fill(members, "source", string(source))
	fill(members, "time", r.o.Clock().UTC().Format(time.RFC3339Nano))
	if b, err = canon.Marshal(members); err != nil {
		return nil, fmt.Errorf("%w: %w", reads.ErrBadRequest, err)
	}
	e, _, err := events.Parse(b)
	if err != nil {
		return nil, refusal(err)
	}
	if got := e.Source.Producer(); got != o.Producer {
		return nil, fmt.Errorf("%w: source %q is not of your producer, %s", ErrNotAllowed, clip(string(e.Source)), o.Producer)
	}
	if err := o.may(e.Type); err != nil {
		return nil, err
	}
	if err := r.o.Registry.Check(&e); err != nil {
		return nil, schemaError(err)
	}
	return &intention{event: &e}, nil
}

func fill(members map[string]json.RawMessage, name, value string) {
	if _, ok := members[name]; !ok {
		members[name], _ = json.Marshal(value) // a string always encodes
	}
}

// batch records what the log does not hold yet, under the locks of all.
func (r *Recorder) batch(ctx context.Context, o *Order, list []*intention) ([]Recorded, error) {
	out := make([]Recorded, len(list))
	var fresh []*intention
	var places []int // of fresh, in list
	for i, in := range list {
		e, ok, err := r.find(in)
		if err != nil {
			return nil, err
		}
		if ok {
			out[i].Repeated = true
			r.place(&out[i], e)
			continue
		}
		fresh, places = append(fresh, in), append(places, i)
	}
	if len(fresh) == 0 {
		return out, nil
	}
	if slices.ContainsFunc(fresh, isDecision) {
		if err := r.checkDecisions(fresh); err != nil {
			return nil, err
		}
	}
	before := r.o.Seals.Sealed()
	acks, err := r.send(ctx, o, fresh)
	if err != nil {
		return nil, refusal(err)
	}
	var pending error
	for i, in := range fresh {
		at := &out[places[i]]
		*at = Recorded{ID: in.event.ID, Source: in.event.Source, Type: in.event.Type}
		if o.Wait == WaitNone || pending != nil {
			continue
		}
		e, err := r.settle(ctx, in, acks[i], before)
		switch {
		case errors.Is(err, ErrPending):
			pending = err
		case err != nil:
			return out, err
		default:
			r.place(at, e)
		}
	}
	return out, pending
}

func (r *Recorder) send(ctx context.Context, o *Order, fresh []*intention) ([]bus.Ack, error) {
	publisher, err := r.o.Publisher(o.Producer)
	if err != nil {
		return nil, err
	}
	if len(fresh) == 1 {
		ack, err := publisher.Publish(ctx, fresh[0].event)
		return []bus.Ack{ack}, err
	}
	list := make([]*events.Event, len(fresh))
	for i, in := range fresh {
		list[i] = in.event
	}
	return publisher.PublishBatch(ctx, list)
}

// sealBatch waits for the receipt of a single event; of several, until the last
// is sealed, and leaves the receipts to be asked for.
func (r *Recorder) sealBatch(ctx context.Context, o *Order, out []Recorded) error {
	if o.Wait != WaitReceipt {
		return nil
	}
	last := 0
	for i := range out {
		if *out[i].Index > *out[last].Index {
			last = i
		}
	}
	if err := r.seal(ctx, o, &out[last]); err != nil {
		return err
	}
	if len(out) > 1 {
		out[last].Receipt = nil
		for i := range out {
			out[i].Sealed = out[last].Sealed
		}
	}
	return nil
}

func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

var _ Log = (*ledger.Ledger)(nil)
