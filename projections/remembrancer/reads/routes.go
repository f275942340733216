package reads

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
)

// A Need is the role that a route asks for. Whoever mounts the route enforces it.
type Need string

// The needs, from least to most.
const (
	Public   Need = "public"
	AnyRead  Need = "reader"
	Producer Need = "producer"
	Admin    Need = "admin"
)

// A Route is one handler, to be mounted on an [http.ServeMux] with its pattern.
type Route struct {
	Pattern string
	Need    Need
	Handler http.Handler
}

// Doors are what HTTP needs beside a Reader.
type Doors struct {
	// Keys are the public keys, by file name: operator.asc, node.asc, log.vkey,
	// tsa.pem. Called for each request, since keys rotate.
	Keys func(name string) ([]byte, error)
	// Fail answers a failed request as application/problem+json.
	Fail func(w http.ResponseWriter, r *http.Request, err error)
	// Done is closed when the node stops: streams end, so that the server can.
	Done <-chan struct{}
	// PublicLog lets everyone read event bodies at /tile/entries.
	PublicLog bool

	Clock      func() time.Time                                         // nil is time.Now; must be the machine's, connections are cut by it
	Ticker     func(time.Duration) (tick <-chan time.Time, stop func()) // nil is time.NewTicker
	Heartbeat  time.Duration                                            // 0 is 15 s
	SlowReader time.Duration                                            // how long a stream waits for its reader; 0 is 10 s
	MaxStreams int                                                      // open at once; 0 is 256
}

// doors are the handlers of one reader.
type doors struct {
	r       *Reader
	o       Doors
	streams chan struct{} // one slot for each open stream
}

// Routes returns the doors of L2's reads.
func Routes(r *Reader, o Doors) []Route {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Ticker == nil {
		o.Ticker = func(d time.Duration) (<-chan time.Time, func()) {
			t := time.NewTicker(d)
			return t.C, t.Stop
		}
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 15 * time.Second
	}
	if o.SlowReader == 0 {
		o.SlowReader = 10 * time.Second
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = 256
	}
	d := &doors{r: r, o: o, streams: make(chan struct{}, o.MaxStreams)}
	bodies := AnyRead
	if o.PublicLog {
		bodies = Public
	}
	var out []Route
	add := func(pattern string, need Need, fn func(http.ResponseWriter, *http.Request) error) {
		out = append(out, Route{pattern, need, d.handler(fn)})
	}
	add("GET /checkpoint", Public, d.note)
	add("GET /tile/{path...}", Public, d.tile)
	add("GET /tile/entries/{path...}", bodies, d.bundle)
	add("GET /v1/keys/{name}", Public, d.key)
	add("GET /v1/checkpoint", AnyRead, d.checkpoint)
	add("GET /v1/events", AnyRead, d.events)
	add("GET /v1/events/stream", AnyRead, d.stream)
	add("GET /v1/events/{id}", AnyRead, d.event)
	add("GET /v1/entries/{index}", AnyRead, d.entry)
	add("GET /v1/receipts/{id}", AnyRead, d.receipt)
	add("GET /v1/list/{kind}", AnyRead, d.list)
	add("GET /v1/artifacts/{sha256}", AnyRead, d.artifact)
	return out
}

// handler answers errors, and waits for min_index before a question is put.
func (d *doors) handler(fn func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := d.await(r)
		if err == nil {
			err = fn(w, r)
		}
		if err != nil {
			if errors.Is(err, ErrNotYet) && w.Header().Get("Retry-After") == "" {
				w.Header().Set("Retry-After", "1")
			}
			d.o.Fail(w, r, err)
		}
	})
}

func (d *doors) await(r *http.Request) error {
	q := query{v: r.URL.Query()}
	if !q.has("min_index") {
		return nil
	}
	index := q.number("min_index")
	if q.err != nil {
		return q.err
	}
	return d.r.Await(r.Context(), index)
}

func (d *doors) note(w http.ResponseWriter, r *http.Request) error {
	h, err := d.r.Latest(r.Context())
	if err != nil {
		return err
	}
	return write(w, "text/plain; charset=utf-8", "no-cache", []byte(h.Checkpoint))
}

// tile serves hash tiles only: the pattern of entry bundles is more specific and
// may need a role.
func (d *doors) tile(w http.ResponseWriter, r *http.Request) error {
	t, err := ParseTile(r.PathValue("path"))
	if err == nil && t.Entries {
		err = fmt.Errorf("%w: entries are at /tile/entries/", ErrBadRequest)
	}
	if err != nil {
		return err
	}
	return d.serve(w, r, t, "public")
}

func (d *doors) bundle(w http.ResponseWriter, r *http.Request) error {
	t, err := ParseTile("entries/" + r.PathValue("path"))
	if err != nil {
		return err
	}
	who := "private" // a shared cache must not hand bodies to those who may not read them
	if d.o.PublicLog {
		who = "public"
	}
	return d.serve(w, r, t, who)
}

func (d *doors) serve(w http.ResponseWriter, r *http.Request, t Tile, who string) error {
	b, err := d.r.Tile(r.Context(), t)
	if err != nil {
		return err
	}
	return write(w, "application/octet-stream", who+", max-age=31536000, immutable", b)
}

// keyTypes are the public keys that a node hands out.
var keyTypes = map[string]string{
	"operator.asc": "application/pgp-keys",
	"node.asc":     "application/pgp-keys",
	"log.vkey":     "text/plain; charset=utf-8",
	"tsa.pem":      "application/x-pem-file",
}

func (d *doors) key(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	kind, ok := keyTypes[name]
	if !ok {
		return fmt.Errorf("%w: key %q: there are operator.asc, node.asc, log.vkey and tsa.pem", ErrNotFound, clip(name))
	}
	b, err := d.o.Keys(name)
	if err != nil {
		return err
	}
	// The files' names differ by little from those of secrets.
	if len(b) == 0 || bytes.Contains(b, []byte("PRIVATE")) {
		return fmt.Errorf("%w: this node has no public key %s", ErrNotFound, name)
	}
	return write(w, kind, "no-cache", b)
}

func (d *doors) checkpoint(w http.ResponseWriter, r *http.Request) error {
	q := query{v: r.URL.Query()}
	size := q.number("size")
	if q.only("size"); q.err != nil {
		return q.err
	}
	c, err := d.r.Checkpoint(r.Context(), size)
	return writeJSON(w, c, err)
}

func (d *doors) events(w http.ResponseWriter, r *http.Request) error {
	q := query{v: r.URL.Query()}
	ask := Query{Type: events.Type(q.text("type")), Digest: q.text("digest"), From: q.number("from"), Limit: q.limit()}
	if q.only("type", "digest", "from", "limit"); q.err != nil {
		return q.err
	}
	page, err := d.r.Events(r.Context(), ask)
	return writeJSON(w, page, err)
}

func (d *doors) event(w http.ResponseWriter, r *http.Request) error {
	q := query{v: r.URL.Query()}
	source := q.text("source")
	if q.only("source"); q.err != nil {
		return q.err
	}
	e, err := d.r.Event(r.Context(), events.ID(r.PathValue("id")), events.Source(source))
	return writeJSON(w, e, err)
}

func (d *doors) entry(w http.ResponseWriter, r *http.Request) error {
	index, ok := decimal(r.PathValue("index"), 1<<62)
	if !ok {
		return fmt.Errorf("%w: %q is not a leaf index", ErrBadRequest, clip(r.PathValue("index")))
	}
	e, err := d.r.Entry(r.Context(), index)
	return writeJSON(w, e, err)
}

func (d *doors) receipt(w http.ResponseWriter, r *http.Request) error {
	q := query{v: r.URL.Query()}
	ask := ReceiptQuery{ID: events.ID(r.PathValue("id")), Source: events.Source(q.text("source")), Stamped: q.bool("stamped"), Wait: q.duration("wait")}
	if q.only("source", "stamped", "wait"); q.err != nil {
		return q.err
	}
	out, err := d.r.Receipt(r.Context(), ask)
	return writeJSON(w, out, err)
}

func (d *doors) list(w http.ResponseWriter, r *http.Request) error {
	q := query{v: r.URL.Query()}
	ask := ListQuery{
		Kind: Kind(r.PathValue("kind")), Component: q.text("component"),
		Since: q.time("since", false), Until: q.time("until", true), From: q.number("from"), Limit: q.limit(),
	}
	if q.only("since", "until", "component", "from", "limit"); q.err != nil {
		return q.err
	}
	out, err := d.r.List(r.Context(), ask)
	return writeJSON(w, out, err)
}

func (d *doors) artifact(w http.ResponseWriter, r *http.Request) error {
	a, err := d.r.Artifact(r.Context(), r.PathValue("sha256"))
	return writeJSON(w, a, err)
}

func write(w http.ResponseWriter, kind, cache string, b []byte) error {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", cache)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // the status is sent; a reader that has gone needs nothing
	return nil
}

func writeJSON(w http.ResponseWriter, v any, err error) error {
	if err != nil {
		return err
	}
	b, err := EncodeJSON(v)
	if err != nil {
		return err
	}
	return write(w, "application/json", "no-store", b)
}

// A query reads parameters strictly: what is misspelt or repeated is refused, or
// a filter would silently not filter. It keeps the first error.
type query struct {
	v   url.Values
	err error
}

func (q *query) fail(format string, args ...any) {
	if q.err == nil {
		q.err = fmt.Errorf("%w: "+format, append([]any{ErrBadRequest}, args...)...)
	}
}

// only refuses parameters that the route does not have.
func (q *query) only(names ...string) {
	for name := range q.v {
		if name != "min_index" && !slices.Contains(names, name) {
			q.fail("parameter %q is unknown here: there are %s", clip(name), strings.Join(append(names, "min_index"), ", "))
		}
	}
}

func (q *query) has(name string) bool { return q.v.Has(name) }

func (q *query) text(name string) string {
	if len(q.v[name]) > 1 {
		q.fail("parameter %s is given twice", name)
	}
	return q.v.Get(name)
}

func (q *query) list(name string) []string {
	if len(q.v[name]) > maxFilter {
		q.fail("parameter %s is given more than %d times", name, maxFilter)
	}
	return q.v[name]
}

func (q *query) number(name string) uint64 {
	s := q.text(name)
	if !q.has(name) {
		return 0
	}
	n, ok := decimal(s, 1<<62)
	if !ok {
		q.fail("%s %q is not a number", name, clip(s))
	}
	return n
}

func (q *query) limit() int {
	n := q.number("limit")
	if q.has("limit") && (n < 1 || n > MaxLimit) {
		q.fail("limit must be 1 to %d", MaxLimit)
	}
	return int(n)
}

func (q *query) bool(name string) bool {
	switch s := q.text(name); s {
	case "", "false":
		return false
	case "true":
		return true
	default:
		q.fail("%s %q must be true or false", name, clip(s))
		return false
	}
}

func (q *query) duration(name string) time.Duration {
	s := q.text(name)
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > MaxWait {
		q.fail("%s %q must be a duration such as 500ms or 10s, at most %s", name, clip(s), MaxWait)
	}
	return d
}

// time reads a moment, or a day: since its beginning, or until its end.
func (q *query) time(name string, end bool) time.Time {
	s := q.text(name)
	if s == "" {
		return time.Time{}
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		q.fail("%s %q must be a time such as 2025-10-01T12:00:00Z, or a day such as 2025-10-01", name, clip(s))
	}
	if end {
		t = t.AddDate(0, 0, 1)
	}
	return t
}
