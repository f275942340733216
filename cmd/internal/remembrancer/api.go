package remembrancer

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events"
)

// recorded is the node's answer to a write.
type recorded struct {
	ID       events.ID       `json:"id"`
	Source   events.Source   `json:"source"`
	Type     events.Type     `json:"type"`
	Index    *uint64         `json:"index,omitempty"`
	LeafHash string          `json:"leaf_hash,omitempty"`
	Sealed   bool            `json:"sealed"`
	Payload  json.RawMessage `json:"payload,omitempty"`
}

// receipt is GET /v1/receipts/{event-id}. Nothing in it is true before
// checkReceipt.
type receipt struct {
	Format        string          `json:"format"`
	EventID       events.ID       `json:"event_id"`
	Source        events.Source   `json:"source"`
	Type          events.Type     `json:"type"`
	Index         uint64          `json:"index"`
	LeafHash      string          `json:"leaf_hash"`
	Event         json.RawMessage `json:"event"`
	Origin        string          `json:"origin"`
	Size          uint64          `json:"size"`
	Root          string          `json:"root"`
	Checkpoint    string          `json:"checkpoint"`
	CheckpointAsc string          `json:"checkpoint_asc,omitempty"`
	Token         []byte          `json:"token,omitempty"`
	TSA           string          `json:"tsa,omitempty"`
	GenTime       *time.Time      `json:"gen_time,omitempty"`
	Proof         string          `json:"proof"`
	Latest        *latest         `json:"latest,omitempty"`

	raw []byte // as the node sent it
}

// latest is the newest checkpoint and the way to it.
type latest struct {
	Size        uint64   `json:"size"`
	Root        string   `json:"root"`
	Checkpoint  string   `json:"checkpoint"`
	Consistency []string `json:"consistency"`
}

// receiptFormat is the version that this release reads.
const receiptFormat = "vaultmesh.cloud/receipt/v1"

// artifact is GET /v1/artifacts/{sha256}.
type artifact struct {
	SHA256 string       `json:"sha256"`
	Events []indexEvent `json:"events"`
}

type indexEvent struct {
	Index uint64          `json:"index"`
	Event json.RawMessage `json:"event"`
}

// item is one entry of GET /v1/list/...
type item struct {
	Index   uint64          `json:"index"`
	ID      events.ID       `json:"id"`
	Type    events.Type     `json:"type"`
	Kind    string          `json:"kind"`
	Time    time.Time       `json:"time,omitzero"`
	Source  events.Source   `json:"source"`
	Subject string          `json:"subject"`
	Title   string          `json:"title"`
	Detail  json.RawMessage `json:"detail,omitempty"`
	Private string          `json:"private,omitempty"` // commitment to text that is not in the log
	Sealed  bool            `json:"sealed"`
	Verdict string          `json:"verdict,omitempty"` // why it does not fit its schema
}

// record posts one fact and returns where it stands. key makes a repeat
// harmless; empty means a fresh one, so that only a lost answer is repeated.
func (c *client) record(ctx context.Context, what string, body any, key string) (recorded, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return recorded{}, fmt.Errorf("encode the %s: %w", what, err)
	}
	if key == "" {
		key = rand.Text()
	}
	var r recorded
	err = c.json(ctx, call{
		method: http.MethodPost, path: "/v1/record/" + what, contentType: "application/json", body: b,
		header: http.Header{"Idempotency-Key": {key}},
	}, &r)
	if err == nil && (r.ID == "" || len(r.ID) > 128) {
		err = errors.New("the node's answer names no event")
	}
	return r, err
}

// receipt asks once; a wait makes the node hold the answer until it is sealed.
func (c *client) receipt(ctx context.Context, id events.ID, source events.Source, wait time.Duration, stamped bool) (receipt, error) {
	q := url.Values{}
	if source != "" {
		q.Set("source", string(source))
	}
	if wait > 0 {
		q.Set("wait", wait.String())
	}
	if stamped {
		q.Set("stamped", "true")
	}
	b, err := c.bytes(ctx, call{method: http.MethodGet, path: "/v1/receipts/" + url.PathEscape(string(id)), query: q})
	if err != nil {
		return receipt{}, err
	}
	r := receipt{raw: b}
	if err := decode(b, &r); err != nil {
		return receipt{}, fmt.Errorf("receipt of %s: the node's answer: %w", id, err)
	}
	if r.Format != receiptFormat {
		return receipt{}, fmt.Errorf("receipt of %s has format %q, this release reads %s", id, r.Format, receiptFormat)
	}
	return r, nil
}

// holdTime is how long one request may be held by the node, pauseTime the pause
// between two if the node does not hold it.
const (
	holdTime  = 20 * time.Second
	pauseTime = 250 * time.Millisecond
)

// waitReceipt asks until the event is sealed (and stamped) or the time is over.
// An event that was just recorded exists, so "not found" means "not yet".
func (c *client) waitReceipt(ctx context.Context, r recorded, within time.Duration, stamped bool) (receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		got, err := c.receipt(ctx, r.ID, r.Source, min(holdTime, within), stamped)
		if err == nil {
			return got, nil
		}
		if k := term.KindOf(err); k != term.Unavailable && k != term.NotFound {
			return receipt{}, err
		}
		pause := time.NewTimer(pauseTime)
		select {
		case <-ctx.Done():
			pause.Stop()
			what := "sealed"
			if stamped {
				what = "time-stamped"
			}
			return receipt{}, term.Errorf(term.Unavailable, "ask later: remembrancer receipt "+string(r.ID),
				"%s was recorded, but was not %s within %v: %w", r.ID, what, within, err)
		case <-pause.C:
		}
	}
}

// list walks the pages of a list, oldest first, and calls each for every item.
func (c *client) list(ctx context.Context, kind string, q url.Values, each func(item) error) error {
	from := uint64(0)
	for {
		if from > 0 {
			q.Set("from", strconv.FormatUint(from, 10))
		}
		var page struct {
			Items []item  `json:"items"`
			Next  *uint64 `json:"next"`
		}
		if err := c.get(ctx, "/v1/list/"+kind, q, &page); err != nil {
			return err
		}
		for _, it := range page.Items {
			if err := each(it); err != nil {
				return err
			}
		}
		if page.Next == nil || *page.Next == 0 {
			return nil // an empty page with a next one is no end
		}
		if *page.Next <= from {
			return errors.New("the node's list does not advance")
		}
		from = *page.Next
	}
}
