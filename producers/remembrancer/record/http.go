package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/canon"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/reads"
)

// Bounds of bodies in bytes, enforced before anything is parsed. A batch shares
// one bound, since a thousand events of the largest size would be 256 MB.
const (
	MaxBody      = events.MaxRaw
	MaxBatchBody = 8 << 20
	maxBatches   = 2 // read and parsed at once
)

// Media types of bodies.
const (
	typeEvent = "application/cloudevents+json"
	typeBatch = "application/cloudevents-batch+json"
	typeJSON  = "application/json"
)

// Doors are what HTTP needs beside a Recorder.
type Doors struct {
	// Principal returns in whose name a request writes, and in which domains it
	// may; no domains are all.
	Principal func(*http.Request) (events.Producer, []events.Domain)
	// Fail answers a failed request as application/problem+json.
	Fail func(http.ResponseWriter, *http.Request, error)
}

type doors struct {
	r       *Recorder
	o       Doors
	batches chan struct{} // a slot for each batch in memory
}

// Routes returns the doors of L2's writes.
func Routes(r *Recorder, o Doors) []reads.Route {
	d := &doors{r: r, o: o, batches: make(chan struct{}, maxBatches)}
	return []reads.Route{
		{Pattern: "POST /v1/events", Need: reads.Producer, Handler: d.handler(d.events)},
		{Pattern: "POST /v1/record/{kind}", Need: reads.Producer, Handler: d.handler(d.record)},
		{Pattern: "GET /v1/private/{commitment}", Need: reads.Admin, Handler: d.handler(d.private)},
		{Pattern: "DELETE /v1/private/{commitment}", Need: reads.Admin, Handler: d.handler(d.redact)},
	}
}

func (d *doors) handler(fn func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := fn(w, r); err != nil {
			d.o.Fail(w, r, err)
		}
	})
}

// order reads what every write has: who, the key, and what is waited for.
func (d *doors) order(r *http.Request) (Order, error) {
	var o Order
	o.Producer, o.Domains = d.o.Principal(r)
	switch keys := r.Header.Values("Idempotency-Key"); {
	case len(keys) > 1:
		return o, fmt.Errorf("%w: two Idempotency-Key headers", reads.ErrBadRequest)
	case len(keys) == 1 && keys[0] == "":
		return o, fmt.Errorf("%w: the Idempotency-Key is empty", reads.ErrBadRequest)
	case len(keys) == 1:
		o.Key = keys[0]
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return o, fmt.Errorf("%w: %w", reads.ErrBadRequest, err)
	}
	for name, values := range q {
		if name != "wait" || len(values) != 1 {
			return o, fmt.Errorf("%w: parameter %q: there is only wait, once", reads.ErrBadRequest, clip(name))
		}
		o.Wait = Wait(values[0])
	}
	return o, o.check()
}

// media returns the body's media type if it is one of those allowed.
func media(r *http.Request, allowed ...string) (string, error) {
	given := r.Header.Get("Content-Type")
	kind, params, err := mime.ParseMediaType(given)
	charset := params["charset"]
	switch {
	case err != nil || charset != "" && !strings.EqualFold(charset, "utf-8"):
	case r.Header.Get("Content-Encoding") != "":
		return "", fmt.Errorf("%w: send the body without Content-Encoding", ErrMediaType)
	case r.Header.Get("Ce-Specversion") != "" || r.Header.Get("Ce-Id") != "":
		return "", fmt.Errorf("%w: CloudEvents in binary mode; use structured mode, %s", ErrMediaType, typeEvent)
	default:
		for _, t := range allowed {
			if kind == t {
				return kind, nil
			}
		}
	}
	return "", fmt.Errorf("%w: Content-Type %q, want %s", ErrMediaType, clip(given), strings.Join(allowed, " or "))
}

// limit refuses a body that is too large by what it says of itself, and bounds
// what is read of one that does not say.
func limit(w http.ResponseWriter, r *http.Request, most int64) (io.Reader, error) {
	if r.ContentLength > most {
		return nil, fmt.Errorf("%w: the body has %d bytes, the most is %d", ErrTooLarge, r.ContentLength, most)
	}
	return http.MaxBytesReader(w, r.Body, most), nil
}

// readError marks an error of reading a body.
func readError(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return fmt.Errorf("%w: the body has more than %d bytes", ErrTooLarge, large.Limit)
	}
	return fmt.Errorf("%w: %w", reads.ErrBadRequest, err)
}

func body(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	limited, err := limit(w, r, most)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(limited)
	if err != nil {
		return nil, readError(err)
	}
	return b, nil
}

func (d *doors) events(w http.ResponseWriter, r *http.Request) error {
	o, err := d.order(r)
	if err != nil {
		return err
	}
	kind, err := media(r, typeEvent, typeBatch, typeJSON)
	if err != nil {
		return err
	}
	if kind == typeBatch {
		return d.batch(w, r, o)
	}
	b, err := body(w, r, MaxBody)
	if err != nil {
		return err
	}
	out, err := d.r.Events(r.Context(), o, []json.RawMessage{b})
	if err != nil && !errors.Is(err, ErrPending) {
		return err
	}
	return answer(w, out[0], out, o)
}

func (d *doors) batch(w http.ResponseWriter, r *http.Request, o Order) error {
	list, err := d.readBatch(w, r)
	if err != nil {
		return err
	}
	out, err := d.r.Events(r.Context(), o, list)
	if err != nil && !errors.Is(err, ErrPending) {
		return err
	}
	return answer(w, struct {
		Events []Recorded `json:"events"`
	}{out}, out, o)
}

func (d *doors) readBatch(w http.ResponseWriter, r *http.Request) ([]json.RawMessage, error) {
	select {
	case d.batches <- struct{}{}:
		defer func() { <-d.batches }()
	case <-r.Context().Done():
		return nil, fmt.Errorf("%w: %w", reads.ErrBusy, r.Context().Err())
	}
	// Read whole before parsing: a decoder that is fed in pieces looks at white
	// space again with every piece.
	b, err := body(w, r, MaxBatchBody)
	if err != nil {
		return nil, err
	}
	return split(b)
}

// split cuts a JSON array into its elements, each of which is checked later.
func split(b []byte) ([]json.RawMessage, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(b))
	if dec.PeekKind() != '[' {
		return nil, fmt.Errorf("%w: a batch is a JSON array", reads.ErrBadRequest)
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, readError(err)
	}
	var list []json.RawMessage
	for dec.PeekKind() != ']' {
		raw, err := dec.ReadValue()
		if err != nil {
			return nil, readError(err)
		}
		if len(raw) > MaxBody {
			return nil, fmt.Errorf("%w: event %d of the batch has %d bytes, the most is %d", ErrTooLarge, len(list), len(raw), MaxBody)
		}
		if list = append(list, bytes.Clone(raw)); len(list) > bus.MaxBatch {
			return nil, fmt.Errorf("%w: more than %d events in a batch", ErrTooLarge, bus.MaxBatch)
		}
	}
	if _, err := dec.ReadToken(); err != nil { // the closing bracket
		return nil, readError(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the array", reads.ErrBadRequest)
	}
	return list, nil
}

// kinds are the typed intentions by their name in paths.
var kinds = map[string]func(*Recorder, context.Context, Order, []byte) (Recorded, error){
	"deploy":    typed((*Recorder).Deploy),
	"decision":  typed((*Recorder).Decision),
	"incident":  typed((*Recorder).Incident),
	"signature": typed((*Recorder).Signature),
	"timestamp": typed((*Recorder).Timestamp),
}

func typed[P any](do func(*Recorder, context.Context, Order, P) (Recorded, error)) func(*Recorder, context.Context, Order, []byte) (Recorded, error) {
	return func(r *Recorder, ctx context.Context, o Order, data []byte) (Recorded, error) {
		var p P
		if err := events.Unmarshal(data, &p); err != nil {
			return Recorded{}, fmt.Errorf("%w: %w", ErrSchema, err)
		}
		return do(r, ctx, o, p)
	}
}

func (d *doors) record(w http.ResponseWriter, r *http.Request) error {
	do, ok := kinds[r.PathValue("kind")]
	if !ok {
		return fmt.Errorf("%w: %q cannot be recorded: there are deploy, decision, incident, signature and timestamp", reads.ErrNotFound, clip(r.PathValue("kind")))
	}
	o, err := d.order(r)
	if err != nil {
		return err
	}
	if _, err := media(r, typeJSON); err != nil {
		return err
	}
	b, err := body(w, r, MaxBody)
	if err != nil {
		return err
	}
	data, err := cutPrivate(b, &o)
	if err != nil {
		return err
	}
	out, err := do(d.r, r.Context(), o, data)
	if err != nil && !errors.Is(err, ErrPending) {
		return err
	}
	return answer(w, out, []Recorded{out}, o)
}

// cutPrivate takes the member that is not the payload's out of a body, and
// returns the rest in canonical form.
func cutPrivate(b []byte, o *Order) ([]byte, error) {
	b, err := canon.Canonicalize(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", reads.ErrBadRequest, err)
	}
	var members map[string]json.RawMessage // canonical: no name stands twice
	if err := json.Unmarshal(b, &members); err != nil || members == nil {
		return nil, fmt.Errorf("%w: the body must be a JSON object", reads.ErrBadRequest)
	}
	private, ok := members["private"]
	if !ok {
		return b, nil
	}
	switch string(private) {
	case "true":
		o.Private = true
	case "false":
	default:
		return nil, fmt.Errorf("%w: private must be true or false", ErrSchema)
	}
	delete(members, "private")
	return canon.Marshal(members)
}

// answer says what was recorded: 201 for new leaves, 200 when all of them stood
// in the log before, 202 while the ledger has not come to one.
func answer(w http.ResponseWriter, v any, list []Recorded, o Order) error {
	status := http.StatusOK
	for i := range list {
		switch {
		case list[i].Index == nil:
			status = http.StatusAccepted
		case !list[i].Repeated && status == http.StatusOK:
			status = http.StatusCreated
		}
	}
	b, err := reads.EncodeJSON(v)
	if err != nil {
		return err
	}
	h := w.Header()
	if len(list) == 1 {
		h.Set("Location", "/v1/events/"+url.PathEscape(string(list[0].ID))+"?source="+url.QueryEscape(string(list[0].Source)))
	}
	if status == http.StatusAccepted && o.Wait != WaitNone {
		h.Set("Retry-After", "1")
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // the status is sent; a client that has gone needs nothing
	return nil
}

func (d *doors) private(w http.ResponseWriter, r *http.Request) error {
	p, err := d.r.o.Private.Get(r.PathValue("commitment"))
	if err != nil {
		return err
	}
	b, err := canon.Marshal(p)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(b)
	return nil
}

func (d *doors) redact(w http.ResponseWriter, r *http.Request) error {
	if err := d.r.o.Private.Delete(r.PathValue("commitment")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
