package remembrancer

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
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

// Caps on what a node may answer, in bytes.
const (
	maxAnswer  = 32 << 20 // a page of events of 60 KiB each
	maxProblem = 64 << 10
	maxKey     = 1 << 20
	maxAudit   = 16 << 20
)

// callTime bounds one call; waiting for a receipt has its own bound.
const callTime = 2 * time.Minute

// A client makes typed calls to one node.
type client struct {
	http *http.Client
	base string
}

// A problem is an error answer (RFC 9457).
type problem struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Mend   string `json:"mend"`
}

// kinds maps the statuses that a node answers with.
var kinds = map[int]term.Kind{
	http.StatusBadRequest:            term.Usage,
	http.StatusUnprocessableEntity:   term.Usage,
	http.StatusUnauthorized:          term.NotAllowed,
	http.StatusForbidden:             term.NotAllowed,
	http.StatusNotFound:              term.NotFound,
	http.StatusGone:                  term.NotFound,
	http.StatusConflict:              term.Conflict,
	http.StatusRequestTimeout:        term.Unavailable,
	http.StatusTooManyRequests:       term.Unavailable,
	http.StatusBadGateway:            term.Unavailable,
	http.StatusServiceUnavailable:    term.Unavailable,
	http.StatusGatewayTimeout:        term.Unavailable,
	http.StatusRequestEntityTooLarge: term.Failure,
}

// A call is one request.
type call struct {
	method, path string
	query        url.Values
	contentType  string
	body         []byte
	header       http.Header
	most         int64 // bytes of the answer
}

// open sends a call and returns the body of a 2xx answer, to be closed.
func (c *client) open(ctx context.Context, k call) (*http.Response, error) {
	target := c.base + k.path
	if len(k.query) > 0 {
		target += "?" + k.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, k.method, target, bytes.NewReader(k.body))
	if err != nil {
		return nil, term.As(term.Usage, "", err)
	}
	for name, values := range k.header {
		req.Header[name] = values
	}
	if k.contentType != "" {
		req.Header.Set("Content-Type", k.contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, fmt.Errorf("%s %s: %w", k.method, k.path, context.Cause(ctx))
		}
		return nil, term.Errorf(term.Unavailable, "is the node running? try again", "%s %s: %w", k.method, k.path, err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, problemOf(k, resp)
}

// problemOf reads an error answer. Its text is the node's, so untrusted.
func problemOf(k call, resp *http.Response) error {
	kind, ok := kinds[resp.StatusCode]
	if !ok {
		kind = term.Failure
	}
	var p problem
	b, err := readAtMost(resp.Body, maxProblem)
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || media != "application/problem+json" || json.Unmarshal(b, &p) != nil || p.Title+p.Detail == "" {
		return term.Errorf(kind, "", "%s %s: the node answered %d", k.method, k.path, resp.StatusCode)
	}
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	return term.Errorf(kind, p.Mend, "%s", text)
}

// bytes sends a call and returns the answer's body.
func (c *client) bytes(ctx context.Context, k call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	resp, err := c.open(ctx, k)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if k.most == 0 {
		k.most = maxAnswer
	}
	b, err := readAtMost(resp.Body, k.most)
	if err != nil {
		return nil, term.Errorf(term.Unavailable, "", "%s %s: read the answer: %w", k.method, k.path, err)
	}
	return b, nil
}

// json sends a call and decodes the one JSON value of its answer. Members that
// this release does not know are left out: a newer node may say more.
func (c *client) json(ctx context.Context, k call, into any) error {
	b, err := c.bytes(ctx, k)
	if err != nil {
		return err
	}
	if err := decode(b, into); err != nil {
		return fmt.Errorf("%s %s: the node's answer: %w", k.method, k.path, err)
	}
	return nil
}

func decode(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

func (c *client) get(ctx context.Context, path string, query url.Values, into any) error {
	return c.json(ctx, call{method: http.MethodGet, path: path, query: query}, into)
}

func (c *client) getBytes(ctx context.Context, path string, most int64) ([]byte, error) {
	return c.bytes(ctx, call{method: http.MethodGet, path: path, most: most})
}

var errTooLarge = errors.New("larger than it may be")

// readAtMost reads all of r, and refuses what is longer than most.
func readAtMost(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%w: over %d bytes", errTooLarge, most)
	}
	return b, nil
}
