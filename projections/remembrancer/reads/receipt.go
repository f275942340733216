package reads

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// ReceiptFormat is the version of the form of [Receipt]. Verifiers of later
// releases read all earlier ones.
const ReceiptFormat = "vaultmesh.cloud/receipt/v1"

// A Receipt proves to a stranger that an event stands in the log: the event, its
// path to a signed checkpoint, what seals the checkpoint, and that the newest
// checkpoint continues it.
type Receipt struct {
	Format        string          `json:"format"`
	EventID       events.ID       `json:"event_id"`
	Source        events.Source   `json:"source"`
	Type          events.Type     `json:"type"`
	Index         uint64          `json:"index"`
	LeafHash      string          `json:"leaf_hash"` // hex
	Event         json.RawMessage `json:"event"`     // canonical: its RFC 6962 leaf hash is leaf_hash
	Origin        string          `json:"origin"`
	Size          uint64          `json:"size"`       // of the checkpoint
	Root          string          `json:"root"`       // hex
	Checkpoint    string          `json:"checkpoint"` // the signed note
	CheckpointASC string          `json:"checkpoint_asc"`
	Token         string          `json:"token,omitempty"` // base64 of the RFC 3161 response; absent until stamped
	TSA           string          `json:"tsa,omitempty"`
	GenTime       string          `json:"gen_time,omitempty"` // RFC 3339, by the TSA's clock
	Proof         string          `json:"proof"`              // C2SP tlog-proof for that checkpoint
	Latest        LatestHead      `json:"latest"`
}

// A LatestHead is the newest checkpoint, and why the receipt's is a prefix of it.
type LatestHead struct {
	Size        uint64   `json:"size"`
	Root        string   `json:"root"` // hex
	Checkpoint  string   `json:"checkpoint"`
	Consistency []string `json:"consistency"` // base64 hashes, RFC 6962 section 2.1.2, from the receipt's size
}

// A ReceiptQuery asks for the receipt of one event.
type ReceiptQuery struct {
	ID      events.ID
	Source  events.Source // may be empty while only one source used the id
	Stamped bool          // only a checkpoint that has a token will do
	Wait    time.Duration // for the event, its checkpoint and its token; at most MaxWait
}

// Receipt returns the receipt of an event at the smallest checkpoint that holds
// it. Without it in time: ErrNotFound if the log does not know the event, and
// ErrNotYet if it is not sealed, or stamped.
func (r *Reader) Receipt(ctx context.Context, q ReceiptQuery) (Receipt, error) {
	if q.Wait < 0 || q.Wait > MaxWait {
		return Receipt{}, fmt.Errorf("%w: wait must be 0 to %s", ErrBadRequest, MaxWait)
	}
	ctx, cancel := context.WithTimeout(ctx, max(q.Wait, time.Millisecond))
	defer cancel()
	e, err := r.awaitEvent(ctx, q)
	if err != nil {
		return Receipt{}, err
	}
	h, err := r.awaitHead(ctx, e.Index, q.Stamped)
	if err != nil {
		return Receipt{}, err
	}
	return r.receipt(e, h)
}

func (r *Reader) awaitEvent(ctx context.Context, q ReceiptQuery) (ledger.Entry, error) {
	for {
		changed := r.o.Ledger.Changed()
		e, err := r.find(q.ID, q.Source)
		if !errors.Is(err, ErrNotFound) || q.Wait == 0 || r.o.Ledger.Stopped() != nil {
			return e, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return e, err
		}
	}
}

func (r *Reader) awaitHead(ctx context.Context, index uint64, stamped bool) (remembrancer.Head, error) {
	for {
		changed := r.o.Heads.Changed()
		h, ok, err := r.o.Heads.Covering(index, stamped)
		if ok || err != nil {
			return h, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return h, ctx.Err()
			}
			what := "sealed"
			if stamped {
				what = "time-stamped"
			}
			return h, fmt.Errorf("%w: leaf %d is not %s", ErrNotYet, index, what)
		}
	}
}

// receipt builds the receipt of an entry at a head that covers it.
func (r *Reader) receipt(e ledger.Entry, h remembrancer.Head) (Receipt, error) {
	entry := newEntry(e)
	path, err := r.o.Ledger.Inclusion(e.Index, h.Size)
	if errors.Is(err, ledger.ErrNotFound) {
		return Receipt{}, fmt.Errorf("%w: this node has not folded the checkpoint of size %d", ErrNotYet, h.Size)
	}
	if err != nil {
		return Receipt{}, err
	}
	tlogProof := proof.TLogProof{Index: e.Index, Checkpoint: []byte(h.Checkpoint)}
	for _, hash := range path {
		tlogProof.Hashes = append(tlogProof.Hashes, proof.Hash(hash))
	}
	root, err := hexRoot(h)
	if err != nil {
		return Receipt{}, err
	}
	out := Receipt{
		Format: ReceiptFormat, EventID: e.Event.ID, Source: e.Event.Source, Type: e.Event.Type,
		Index: e.Index, LeafHash: entry.LeafHash, Event: entry.Event,
		Origin: h.Origin, Size: h.Size, Root: root, Checkpoint: h.Checkpoint, CheckpointASC: h.CheckpointASC,
		Proof: string(tlogProof.Marshal()),
	}
	if err := r.stamp(&out); err != nil {
		return Receipt{}, err
	}
	out.Latest, err = r.latest(h)
	return out, err
}

// stamp fills in the oldest token of the receipt's checkpoint.
func (r *Reader) stamp(out *Receipt) error {
	seals, err := r.o.Heads.Seals(out.Size)
	if err != nil {
		return err
	}
	for _, s := range seals {
		if s.Kind == remembrancer.SealToken {
			out.Token, out.TSA, out.GenTime = s.Token, s.TSA, s.GenTime
			return nil
		}
	}
	return nil
}

// latest returns the newest head that this node has folded, with the proof that
// h is a prefix of it.
func (r *Reader) latest(h remembrancer.Head) (LatestHead, error) {
	newest, ok := r.o.Heads.Latest()
	if !ok || newest.Size < h.Size || newest.Size > r.o.Ledger.Head().Size {
		newest = h
	}
	root, err := hexRoot(newest)
	if err != nil {
		return LatestHead{}, err
	}
	out := LatestHead{Size: newest.Size, Root: root, Checkpoint: newest.Checkpoint, Consistency: []string{}}
	path, err := r.o.Ledger.Consistency(h.Size, newest.Size)
	if err != nil {
		return LatestHead{}, err
	}
	for _, hash := range path {
		out.Consistency = append(out.Consistency, base64.StdEncoding.EncodeToString(hash[:]))
	}
	return out, nil
}

func hexRoot(h remembrancer.Head) (string, error) {
	root, err := proof.ParseHash(h.Root)
	if err != nil {
		return "", fmt.Errorf("read the root of the checkpoint of size %d: %w", h.Size, err)
	}
	return hex.EncodeToString(root[:]), nil
}
