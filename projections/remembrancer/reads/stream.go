package reads

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
)

// A Filter selects events of the feed. Its zero value is all of them.
type Filter struct {
	Types   []string        // exactly, or a beginning that ends in *
	Domains []events.Domain // any of
	Sources []events.Source // any of
	Valid   bool            // only what fits a schema that this node knows
}

// maxFilter bounds each list of a Filter.
const maxFilter = 32

// Match reports whether the feed shows the entry. Quarantine entries are not
// events.
func (f *Filter) Match(e *ledger.Entry) bool {
	return e.Quarantine == nil && (!f.Valid || e.Valid()) &&
		(len(f.Domains) == 0 || slices.Contains(f.Domains, e.Event.Type.Domain())) &&
		(len(f.Sources) == 0 || slices.Contains(f.Sources, e.Event.Source)) &&
		(len(f.Types) == 0 || slices.ContainsFunc(f.Types, func(t string) bool {
			if begin, ok := strings.CutSuffix(t, "*"); ok {
				return strings.HasPrefix(string(e.Event.Type), begin)
			}
			return t == string(e.Event.Type)
		}))
}

// chunk is how many entries the feed reads between two looks at its context.
const chunk = 256

// Feed calls fn for each matching entry from an index on, in the order of the
// log, as they come, and idle with the index of the next whenever it has caught
// up: then fn and idle may wait, since nothing is buffered. idle returns once
// there may be more, or an error to end the feed. Feed returns the first error
// of either, of ctx, or why the ledger stopped.
func (r *Reader) Feed(ctx context.Context, from uint64, f Filter, fn func(ledger.Entry) error, idle func(next uint64, changed <-chan struct{}) error) error {
	for {
		changed := r.o.Ledger.Changed()
		head := r.o.Ledger.Head()
		for from < head.Size {
			if err := ctx.Err(); err != nil {
				return err
			}
			to := min(from+chunk, head.Size)
			err := r.o.Ledger.Entries(from, to, func(e ledger.Entry) error {
				if !f.Match(&e) {
					return nil
				}
				return fn(e)
			})
			if err != nil {
				return err
			}
			from = to
		}
		if err := r.o.Ledger.Stopped(); err != nil {
			return err
		}
		if err := idle(from, changed); err != nil {
			return err
		}
	}
}

// errEnd ends a stream that has nothing wrong with it.
var errEnd = errors.New("the stream ends")

// sse is one subscriber of the feed over Server-Sent Events (WHATWG HTML,
// section 9.2). A subscriber that does not take what it is sent within the
// deadline is disconnected; Last-Event-ID brings it back.
type sse struct {
	w        http.ResponseWriter
	rc       *http.ResponseController
	deadline time.Duration
	clock    func() time.Time
	line     []byte
}

// send writes one block and pushes it out.
func (s *sse) send(block []byte) error {
	if err := s.rc.SetWriteDeadline(s.clock().Add(s.deadline)); err != nil {
		return fmt.Errorf("set a deadline for a slow reader: %w", err)
	}
	if _, err := s.w.Write(block); err != nil {
		return err
	}
	return s.rc.Flush()
}

func (s *sse) event(e ledger.Entry) error {
	s.line = strconv.AppendUint(append(s.line[:0], "id: "...), e.Index, 10)
	s.line = append(s.line, "\nevent: "...)
	s.line = append(s.line, e.Event.Type...)
	s.line = append(s.line, "\ndata: "...)
	s.line = append(s.line, e.Bytes...) // canonical JSON has no line ends
	s.line = append(s.line, "\n\n"...)
	return s.send(s.line)
}

// heartbeat sends a comment and where a reconnecting reader goes on: an id
// without data dispatches nothing but is remembered.
func (s *sse) heartbeat(next uint64) error {
	s.line = append(s.line[:0], ": heartbeat\n"...)
	if next > 0 {
		s.line = append(s.line, "id: "...)
		s.line = append(strconv.AppendUint(s.line, next-1, 10), '\n')
	}
	s.line = append(s.line, '\n')
	return s.send(s.line)
}

func (d *doors) stream(w http.ResponseWriter, r *http.Request) error {
	filter, from, err := d.streamQuery(r)
	if err != nil {
		return err
	}
	select {
	case d.streams <- struct{}{}:
		defer func() { <-d.streams }()
	default:
		w.Header().Set("Retry-After", "10")
		return fmt.Errorf("%w: %d streams are open", ErrBusy, cap(d.streams))
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx buffers otherwise
	s := &sse{w: w, rc: http.NewResponseController(w), deadline: d.o.SlowReader, clock: d.o.Clock}
	tick, stop := d.o.Ticker(d.o.Heartbeat)
	defer stop()
	// The status goes out with the first block, so that a subscriber knows that
	// what comes from now on reaches it.
	err = s.heartbeat(from)
	idle := func(next uint64, changed <-chan struct{}) error {
		for {
			select {
			case <-changed:
				return nil
			case <-tick:
				if err := s.heartbeat(next); err != nil {
					return err
				}
			case <-r.Context().Done():
				return errEnd
			case <-d.o.Done:
				return errEnd
			}
		}
	}
	if err == nil {
		err = d.r.Feed(r.Context(), from, filter, func(e ledger.Entry) error {
			select {
			case <-d.o.Done:
				return errEnd
			default:
				return s.event(e)
			}
		}, idle)
	}
	if errors.Is(err, errEnd) {
		_ = s.rc.SetWriteDeadline(time.Time{})
	}
	return nil // the status is sent: the connection ends, the reader resumes
}

func (d *doors) streamQuery(r *http.Request) (f Filter, from uint64, err error) {
	q := query{v: r.URL.Query()}
	f.Types = q.list("type")
	for _, t := range f.Types {
		if i := strings.IndexByte(t, '*'); i >= 0 && i != len(t)-1 {
			q.fail("type %q: * may stand only at the end", clip(t))
		}
	}
	for _, s := range q.list("domain") {
		f.Domains = append(f.Domains, events.Domain(s))
	}
	for _, s := range q.list("source") {
		f.Sources = append(f.Sources, events.Source(s))
	}
	f.Valid = q.bool("valid")
	from = d.r.o.Ledger.Head().Size // only what comes from now on
	if q.has("from") {
		from = q.number("from")
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		n, ok := decimal(last, 1<<62)
		if !ok {
			q.fail("Last-Event-ID %q is not a leaf index", clip(last))
		}
		from = n + 1
	}
	q.only("type", "domain", "source", "valid", "from")
	return f, from, q.err
}
