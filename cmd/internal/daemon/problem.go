package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
)

// A Problem is an error as the HTTP interface says it (RFC 9457), with the way out.
// It is an error on both sides of the wire.
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitzero"`
	Instance string `json:"instance,omitzero"` // the request's id, as in the node's log
	Mend     string `json:"mend,omitzero"`

	cause error
}

// ProblemType is the media type of a Problem.
const ProblemType = "application/problem+json"

func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return strings.ToLower(p.Title)
}

// Unwrap returns the error that the problem was made of, on the node's side.
func (p *Problem) Unwrap() error { return p.cause }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return ProblemType }

// A Mapping says how an error looks over HTTP. Layers bring theirs.
type Mapping struct {
	Err    error // matched with errors.Is
	Status int
	Title  string
	Mend   string
}

// mappings is the one table from errors of shared packages to problems.
var mappings = []Mapping{
	{bus.ErrFull, http.StatusServiceUnavailable, "The store is full", "free disk space on the node, then try again"},
	{bus.ErrTooLarge, http.StatusRequestEntityTooLarge, "Too large", "put the evidence into a blob and name its digest"},
	{bus.ErrNotAllowed, http.StatusForbidden, "Not allowed by the broker", "use credentials that name this producer and domain"},
	{bus.ErrWrongLast, http.StatusConflict, "Changed meanwhile", "read again, then decide again"},
	{bus.ErrAmbiguous, http.StatusServiceUnavailable, "No answer", "ask for the event by its id before sending it again"},
	{bus.ErrUnavailable, http.StatusServiceUnavailable, "The broker is not available", "try again"},
	{bus.ErrClosed, http.StatusServiceUnavailable, "The node is stopping", "try again"},
	{bus.ErrNoMessage, http.StatusNotFound, "Not found", ""},
	{events.ErrUnknownType, http.StatusUnprocessableEntity, "Unknown event type", "use a type that a layer of this node defines"},
	{events.ErrInvalidData, http.StatusUnprocessableEntity, "The data does not fit its schema", "correct the field that the detail names"},
	{fs.ErrNotExist, http.StatusNotFound, "Not found", ""},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "Not done in time", "try again, or wait longer"},
	{context.Canceled, http.StatusServiceUnavailable, "Interrupted", "try again"},
}

// NewProblem returns a problem with a status, a detail and the way out.
func NewProblem(status int, mend, format string, args ...any) *Problem {
	err := fmt.Errorf(format, args...)
	return titled(&Problem{Status: status, Detail: err.Error(), Mend: mend, cause: errors.Unwrap(err)})
}

func titled(p *Problem) *Problem {
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	if p.Type == "" {
		p.Type = "urn:vaultmesh:problem:" + strings.ReplaceAll(strings.ToLower(p.Title), " ", "-")
	}
	return p
}

// ProblemOf returns how err looks over HTTP: itself if it is a Problem, or by the
// table. An error that no table knows is a 500 that says nothing of its text.
func ProblemOf(ctx context.Context, err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return titled(&Problem{Status: http.StatusRequestEntityTooLarge, cause: err,
			Detail: fmt.Sprintf("the body is over %d bytes", tooLarge.Limit), Mend: "send less at once"})
	}
	var refusal *events.Refusal
	if errors.As(err, &refusal) {
		return refused(refusal, err)
	}
	table := mappings
	if c := callOf(ctx); c != nil && c.node != nil {
		table = c.node.mappings
	}
	for _, m := range table {
		if errors.Is(err, m.Err) {
			return titled(&Problem{Status: m.Status, Title: m.Title, Detail: err.Error(), Mend: m.Mend, cause: err})
		}
	}
	return titled(&Problem{Status: http.StatusInternalServerError, cause: err,
		Detail: "the node failed; its log has the reason under this request's id"})
}

// refused maps the reasons of fold-v1.
func refused(r *events.Refusal, err error) *Problem {
	p := &Problem{Status: http.StatusBadRequest, Detail: err.Error(), cause: err}
	switch r.Reason {
	case events.TooLarge:
		p.Status, p.Mend = http.StatusRequestEntityTooLarge, "put the evidence into a blob and name its digest"
	case events.NotAllowed, events.WrongSubject:
		p.Status, p.Mend = http.StatusForbidden, "speak as a producer that may say this type"
	case events.Conflict:
		p.Status, p.Mend = http.StatusConflict, "use another id for another event"
	default:
		p.Mend = "correct what the detail names"
	}
	return titled(p)
}

// WriteError answers a request with the problem of err, and logs what is the node's
// own fault.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	p := ProblemOf(r.Context(), err)
	if p.Status == http.StatusInternalServerError {
		if c := callOf(r.Context()); c != nil && c.node != nil {
			c.node.log.Error("request failed", "request", c.id, "route", c.pattern, "err", err)
		}
	}
	WriteProblem(w, r, p)
}

// WriteProblem answers a request with a problem.
func WriteProblem(w http.ResponseWriter, r *http.Request, p *Problem) {
	out := *titled(p)
	if id := RequestID(r.Context()); id != "" && out.Instance == "" {
		out.Instance = "urn:vaultmesh:request:" + id
	}
	h := w.Header()
	h.Del("Content-Length")
	h.Del("Content-Encoding")
	h.Del("ETag")
	h.Del("Last-Modified")
	h.Set("Content-Type", ProblemType)
	h.Set("Cache-Control", "no-store")
	switch out.Status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		if h.Get("Retry-After") == "" {
			h.Set("Retry-After", "1")
		}
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="vaultmesh"`)
	}
	w.WriteHeader(out.Status)
	_ = json.NewEncoder(w).Encode(&out) // the client may be gone
}

// transform makes huma's own errors problems like ours; values that a request
// carried are not echoed.
func transform(ctx huma.Context, _ string, v any) (any, error) {
	var p *Problem
	switch e := v.(type) {
	case *Problem:
		p = e
	case *huma.ErrorModel:
		p = &Problem{Status: e.Status, Title: e.Title, Detail: e.Detail}
		if e.Status < http.StatusInternalServerError {
			for _, d := range e.Errors {
				p.Detail += "; " + strings.TrimPrefix(d.Location+": "+d.Message, ": ")
			}
			p.Mend = "correct what the detail names"
		}
	default:
		return v, nil
	}
	out := *titled(p)
	if id := RequestID(ctx.Context()); id != "" {
		out.Instance = "urn:vaultmesh:request:" + id
	}
	return &out, nil
}

// kinds says how a status ends a command.
var kinds = map[int]term.Kind{
	http.StatusUnauthorized:        term.NotAllowed,
	http.StatusForbidden:           term.NotAllowed,
	http.StatusNotFound:            term.NotFound,
	http.StatusGone:                term.NotFound,
	http.StatusConflict:            term.Conflict,
	http.StatusPreconditionFailed:  term.Conflict,
	http.StatusTooManyRequests:     term.Unavailable,
	http.StatusBadGateway:          term.Unavailable,
	http.StatusServiceUnavailable:  term.Unavailable,
	http.StatusGatewayTimeout:      term.Unavailable,
	http.StatusBadRequest:          term.Failure,
	http.StatusUnprocessableEntity: term.Failure,
}

// Err returns the problem as a command reports it, with kind and mend.
func (p *Problem) Err() error {
	kind, ok := kinds[p.Status]
	if !ok {
		kind = term.Failure
	}
	return term.As(kind, p.Mend, p)
}
