package node

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/producers/remembrancer/record"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/reads"
)

// problems says how the layer's errors look over HTTP.
var problems = []daemon.Mapping{
	{Err: reads.ErrBadRequest, Status: http.StatusBadRequest, Title: "Bad request", Mend: "correct what the detail names"},
	{Err: reads.ErrNotFound, Status: http.StatusNotFound, Title: "Not found"},
	{Err: reads.ErrNotYet, Status: http.StatusServiceUnavailable, Title: "Not yet", Mend: "ask again after a second"},
	{Err: reads.ErrBusy, Status: http.StatusServiceUnavailable, Title: "Too many readers", Mend: "ask again later"},
	{Err: record.ErrNotAllowed, Status: http.StatusForbidden, Title: "Not allowed", Mend: "use credentials of a producer that may say this"},
	{Err: record.ErrConflict, Status: http.StatusConflict, Title: "Conflict", Mend: "the log holds something else in this place: use another id or Idempotency-Key"},
	{Err: record.ErrTooLarge, Status: http.StatusRequestEntityTooLarge, Title: "Too large", Mend: "put the evidence into a blob and name its digest"},
	{Err: record.ErrMediaType, Status: http.StatusUnsupportedMediaType, Title: "Unsupported media type", Mend: "send application/cloudevents+json"},
	{Err: record.ErrSchema, Status: http.StatusUnprocessableEntity, Title: "The data does not fit its schema", Mend: "correct the field that the detail names"},
	{Err: record.ErrPending, Status: http.StatusAccepted, Title: "Published, not folded yet", Mend: "do not send it again: ask for its receipt"},
	{Err: errTooMany, Status: http.StatusServiceUnavailable, Title: "Too many producers", Mend: "let producers publish over NATS with credentials of their own"},
	{Err: errAuditing, Status: http.StatusConflict, Title: "An audit is running", Mend: "wait until it has ended"},
	{Err: ledger.ErrNotFound, Status: http.StatusNotFound, Title: "Not found"},
	{Err: ledger.ErrStopped, Status: http.StatusServiceUnavailable, Title: "The ledger has stopped", Mend: "run `vaultmesh doctor` on the node"},
	{Err: ledger.ErrCorrupt, Status: http.StatusInternalServerError, Title: "The ledger is corrupt", Mend: "run `remembrancer verify-audit`, then `vaultmesh ledger rebuild`"},
}

var needs = map[reads.Need]daemon.Role{
	reads.Public: daemon.Public, reads.AnyRead: daemon.Reader, reads.Producer: daemon.Producer, reads.Admin: daemon.Admin,
}

// mount opens the layer's doors.
func (p *part) mount() {
	n := p.n
	routes := reads.Routes(p.reader, reads.Doors{Keys: p.publicKey, Fail: daemon.WriteError, PublicLog: n.Config.PublicLog})
	for _, r := range append(routes, record.Routes(p.recorder, record.Doors{Principal: speaker, Fail: daemon.WriteError})...) {
		h := r.Handler
		if r.Pattern == "GET /v1/events/stream" {
			h = streaming(h)
		}
		n.Handle(r.Pattern, needs[r.Need], h, operations[r.Pattern])
	}
	handle := func(pattern string, need daemon.Role, fn func(http.ResponseWriter, *http.Request) error) {
		n.Handle(pattern, need, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := fn(w, r); err != nil {
				daemon.WriteError(w, r, err)
			}
		}), operations[pattern])
	}
	handle("POST /v1/timestamp", daemon.Producer, p.relay)
	handle("GET /v1/tsa/chain.pem", daemon.Public, p.tsaChain)
	handle("POST /v1/audit", daemon.Admin, p.audit)
}

// speaker is in whose name a request writes.
func speaker(r *http.Request) (events.Producer, []events.Domain) {
	p := daemon.PrincipalOf(r.Context())
	return p.Producer, nil
}

// streaming lets a handler answer for as long as the client listens and the node
// runs.
func streaming(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, done, err := daemon.Stream(r)
		if err != nil {
			daemon.WriteError(w, r, err)
			return
		}
		defer done()
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// publicKey returns a public key of the node by the name of its file.
func (p *part) publicKey(name string) ([]byte, error) {
	switch name {
	case operatorPublic:
		return p.keys.operatorASC, nil
	case nodePublic:
		return p.keys.nodeASC, nil
	case logPublic:
		return []byte(p.keys.VKey + "\n"), nil
	case "tsa.pem":
		return p.tsa.chain, nil
	}
	return nil, fmt.Errorf("key %s: %w", name, ledger.ErrNotFound)
}

// info adds the layer's facts to /v1/node.
func (p *part) info() {
	p.n.Info("", func() any {
		head := p.log.Head()
		sealed, _ := p.heads.Latest()
		m := map[string]any{
			"size": head.Size, "root": hex.EncodeToString(head.Root[:]),
			"sealed_size": sealed.Size, "stamped_size": p.heads.Stamped(), "position": head.Position.String(),
			"log_vkey": p.keys.VKey, "tsas": p.tsa.names, "development_tsa": p.tsa.development,
		}
		if p.keys.Operator != nil {
			m["operator_fingerprint"], m["node_fingerprint"] = p.keys.Operator.Fingerprint(), p.keys.Node.Fingerprint()
		}
		if why := p.regressed.Load(); why != nil {
			m["alarm"] = (*why).Error()
		}
		return m
	})
}

// maxQuery is the largest RFC 3161 request that is relayed, in bytes.
const maxQuery = 4 << 10

// relay passes a time-stamp request on to the node's authority.
func (p *part) relay(w http.ResponseWriter, r *http.Request) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/timestamp-query" {
		return daemon.NewProblem(http.StatusUnsupportedMediaType, "send application/timestamp-query", "content type %q is no RFC 3161 request", kind)
	}
	der, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuery))
	if err != nil {
		return err
	}
	if _, err := rfc3161.ParseRequest(der); err != nil {
		return daemon.NewProblem(http.StatusBadRequest, "send the DER of a TimeStampReq", "%w", err)
	}
	reply, err := p.tsa.exchange(r.Context(), der)
	if err != nil {
		p.n.Logger.Warn("time-stamp request not answered", "err", err)
		return daemon.NewProblem(http.StatusServiceUnavailable, "try again, or use another authority with --tsa", "no time-stamping authority answered: %w", err)
	}
	w.Header().Set("Content-Type", "application/timestamp-reply")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(reply)
	return nil
}

func (p *part) tsaChain(w http.ResponseWriter, _ *http.Request) error {
	if len(p.tsa.chain) == 0 {
		return daemon.NewProblem(http.StatusNotFound, "name the authority's certificates with --tsa-ca", "this node trusts its authorities by the system's roots")
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(p.tsa.chain)
	return nil
}

// errAuditing: one audit at a time.
var errAuditing = errors.New("an audit is running already")

var auditing sync.Mutex

// An auditLine is one line of the answer of POST /v1/audit.
type auditLine struct {
	Phase  string       `json:"phase,omitempty"` // heads, store, stream
	Done   uint64       `json:"done,omitempty"`
	Total  uint64       `json:"total,omitempty"`
	Result *auditResult `json:"result,omitempty"` // in the last line
}

// An auditResult is what an audit found.
type auditResult struct {
	OK    bool    `json:"ok"`
	Size  uint64  `json:"size"`            // leaves audited
	Root  string  `json:"root"`            // hex, at that size
	Heads int     `json:"heads"`           // published checkpoints compared
	Index *uint64 `json:"index,omitempty"` // first leaf that differs
	What  string  `json:"what,omitempty"`  // why the audit failed
}

// audit recomputes the log from the store and from the stream, and checks every
// published checkpoint. It answers with a line of JSON for each step.
func (p *part) audit(w http.ResponseWriter, r *http.Request) error {
	if !auditing.TryLock() {
		return errAuditing
	}
	defer auditing.Unlock()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	var mu sync.Mutex
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	var last time.Time
	say := func(l auditLine) {
		mu.Lock()
		defer mu.Unlock()
		if now := p.n.Clock(); l.Result == nil && l.Done != l.Total && now.Sub(last) < 100*time.Millisecond {
			return
		}
		last = p.n.Clock()
		_ = out.Encode(l) // a reader that has gone ends the request's context
		_ = flush.Flush()
	}
	res, err := p.auditAll(r.Context(), say)
	if err != nil {
		var d *ledger.Divergence
		if errors.As(err, &d) {
			res.Index = &d.Index
		}
		res.What = err.Error()
	}
	res.OK = err == nil
	say(auditLine{Result: &res})
	return nil
}

func (p *part) auditAll(ctx context.Context, say func(auditLine)) (auditResult, error) {
	var res auditResult
	var heads []ledger.PublishedHead
	err := p.heads.Heads(func(h remembrancer.Head) error {
		if err := p.verifyHead(h); err != nil {
			return &ledger.Divergence{Index: h.Size, What: err.Error()}
		}
		root, err := proof.ParseHash(h.Root)
		heads = append(heads, ledger.PublishedHead{Size: h.Size, Root: ledger.Hash(root)})
		return err
	})
	res.Heads = len(heads)
	say(auditLine{Phase: "heads", Done: uint64(len(heads)), Total: uint64(len(heads))})
	if err != nil {
		return res, err
	}
	if n := len(heads); n > 0 {
		// The sealer may be ahead of this node's fold.
		if _, err := p.log.Wait(ctx, heads[n-1].Size-1); err != nil {
			return res, err
		}
	}
	total := p.log.Head().Size
	head, err := p.log.Audit(ctx, heads, func(done uint64) { say(auditLine{Phase: "store", Done: min(done, total), Total: total}) })
	res.Size, res.Root = head.Size, hex.EncodeToString(head.Root[:])
	if err != nil {
		return res, err
	}
	before := p.log.Head()
	info, err := p.n.Conn.StreamInfo(ctx, events.EventsStream(epoch))
	if err != nil {
		return res, err
	}
	tmp, err := os.MkdirTemp(p.n.Dir, "audit-")
	if err != nil {
		return res, err
	}
	err = p.log.AuditStream(ctx, filepath.Join(tmp, "ledger"), before, epoch, info.Created, p.stream, info.Last, func(done uint64) {
		say(auditLine{Phase: "stream", Done: min(done, info.Last), Total: info.Last})
	})
	return res, errors.Join(err, os.RemoveAll(tmp))
}
