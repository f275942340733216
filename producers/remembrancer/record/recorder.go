package record

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/reads"
)

// Publisher is the way to the bus for one producer.
type Publisher interface {
	// Publish returns once the event is durable in the stream of events.
	Publish(ctx context.Context, e *events.Event) (bus.Ack, error)
	// PublishBatch stores all events next to each other, or none.
	PublishBatch(ctx context.Context, list []*events.Event) ([]bus.Ack, error)
}

// Log is the ledger, as far as recording reads it.
type Log interface {
	// WaitPosition returns once the message of this sequence is folded.
	WaitPosition(ctx context.Context, sequence uint64) (ledger.Head, error)
	// Lookup returns the index of an event, or ledger.ErrNotFound.
	Lookup(source events.Source, id events.ID) (uint64, error)
	Entry(index uint64) (ledger.Entry, error)
	// ByType returns the indexes of the events of a type, from an index on.
	ByType(t events.Type, from uint64, limit int) ([]uint64, error)
	// Quarantines returns the indexes of quarantine entries, from an index on.
	Quarantines(from uint64, limit int) ([]uint64, error)
}

// Seals says what of the log is sealed.
type Seals interface {
	// Receipt returns the receipt of an event, waiting for it if the query says so;
	// reads.ErrNotYet if it does not come in time.
	Receipt(ctx context.Context, q reads.ReceiptQuery) (reads.Receipt, error)
	// Sealed returns how many leaves the newest published checkpoint holds.
	Sealed() uint64
}

// PrivateStore keeps the texts that events only commit to.
type PrivateStore interface {
	// Put returns once the text is durable.
	Put(commitment string, p events.Private) error
	// Get returns the text, or reads.ErrNotFound if it was redacted.
	Get(commitment string) (events.Private, error)
	// Delete forgets the text, or fails with reads.ErrNotFound.
	Delete(commitment string) error
}

// Options are the parts of a Recorder.
type Options struct {
	Registry *events.Registry
	// Publisher returns that of a producer; the recorder asks for each request.
	Publisher func(events.Producer) (Publisher, error)
	Log       Log
	Seals     Seals
	Private   PrivateStore
	Clock     func() time.Time
	Rand      io.Reader
	LeafWait  time.Duration // for publishing and folding one request; 0 is 15 s
	SealWait  time.Duration // for a receipt, when one is asked for; 0 is 15 s
}

// A Recorder records. Its methods may be called from many goroutines.
type Recorder struct {
	o     Options
	locks locks

	decisions decisions // guarded by the lock of that name
}

// New returns a recorder.
func New(o Options) *Recorder {
	if o.LeafWait == 0 {
		o.LeafWait = 15 * time.Second
	}
	if o.SealWait == 0 {
		o.SealWait = 15 * time.Second
	}
	return &Recorder{o: o}
}

// Wait says what a caller waits for.
type Wait string

// What can be waited for. The zero value is WaitLeaf.
const (
	WaitLeaf    Wait = "leaf"    // the leaf index
	WaitReceipt Wait = "receipt" // a signed checkpoint over the leaf
	WaitNone    Wait = "none"    // the event's being durable on the bus
)

// An Order says on whose authority, and how, something is recorded.
type Order struct {
	Producer events.Producer // of the authenticated principal
	Domains  []events.Domain // in which it may speak; empty is all
	Key      string          // makes a repeat harmless: 1 to 128 printable ASCII characters; empty is none
	Private  bool            // free text goes to the private store, the event only commits to it
	Wait     Wait
}

// Recorded says what became of one intention.
type Recorded struct {
	ID       events.ID      `json:"id"`
	Source   events.Source  `json:"source"`
	Type     events.Type    `json:"type"`
	Index    *uint64        `json:"index,omitempty"`     // of the leaf; absent if it was not waited for
	LeafHash string         `json:"leaf_hash,omitempty"` // hex
	Sealed   bool           `json:"sealed"`              // a published checkpoint holds it
	Receipt  *reads.Receipt `json:"receipt,omitempty"`   // if it was waited for
	Payload  events.Payload `json:"payload,omitempty"`   // as recorded, of the typed intentions

	Repeated bool `json:"-"` // it stood in the log before
}

// maxKey bounds an idempotency key in bytes.
const maxKey = 128

func (o *Order) check() error {
	if o.Producer == "" {
		return fmt.Errorf("%w: you speak for no producer", ErrNotAllowed)
	}
	if len(o.Key) > maxKey {
		return fmt.Errorf("%w: the idempotency key has %d characters, the most is %d", reads.ErrBadRequest, len(o.Key), maxKey)
	}
	for _, c := range []byte(o.Key) {
		if c < ' ' || c > '~' {
			return fmt.Errorf("%w: the idempotency key must be printable ASCII", reads.ErrBadRequest)
		}
	}
	switch o.Wait {
	case "", WaitLeaf, WaitReceipt, WaitNone:
		return nil
	}
	return fmt.Errorf("%w: wait %q must be leaf, receipt or none", reads.ErrBadRequest, o.Wait)
}

// may reports whether the producer may say the type, by fold-v1 and by what the
// broker would let it.
func (o *Order) may(t events.Type) error {
	if !events.MaySay(o.Producer, t) {
		return fmt.Errorf("%w: producer %s may not say %s", ErrNotAllowed, o.Producer, t)
	}
	if len(o.Domains) > 0 && !slices.Contains(o.Domains, t.Domain()) {
		return fmt.Errorf("%w: producer %s may not speak in the domain %s", ErrNotAllowed, o.Producer, t.Domain())
	}
	return nil
}

// id returns the id of the n-th event of an order, which follows from the key if
// there is one.
func (r *Recorder) id(o *Order, source events.Source, n int) (events.ID, error) {
	if o.Key != "" {
		return events.DerivedID(source, events.ID(o.Key), "http", n), nil
	}
	return events.NewID(r.o.Clock(), r.o.Rand)
}

// An intention is an event to be, and how to recognise it in the log.
type intention struct {
	event   *events.Event
	private map[string]string // text that the event must only commit to
	adapt   func(stored events.Payload) (events.Payload, error)
}

// find returns the entry that recorded the intention before: false if there is
// none, ErrConflict if its id stands for something else.
func (r *Recorder) find(in *intention) (e ledger.Entry, ok bool, err error) {
	index, err := r.o.Log.Lookup(in.event.Source, in.event.ID)
	if errors.Is(err, ledger.ErrNotFound) {
		return e, false, nil
	}
	if err == nil {
		e, err = r.o.Log.Entry(index)
	}
	if err != nil {
		return e, false, err
	}
	what, err := r.differs(in, &e.Event)
	if err != nil {
		return e, false, err
	}
	if what != "" {
		return e, false, fmt.Errorf("%w: event %s from %s is entry %d with another %s", ErrConflict, in.event.ID, in.event.Source, index, what)
	}
	return e, true, nil
}

// differs returns in what a stored event is not the intention, or "".
func (r *Recorder) differs(in *intention, stored *events.Event) (string, error) {
	want := in.event
	if in.adapt != nil && stored.Type == want.Type {
		p, err := r.o.Registry.Decode(stored)
		if err == nil {
			p, err = in.adapt(p)
		}
		if err == nil {
			want, err = r.o.Registry.New(p, events.Origin{ID: want.ID, Source: want.Source})
		}
		if err != nil {
			return "", fmt.Errorf("compare with event %s: %w", stored.ID, err)
		}
	}
	switch {
	case stored.Type != want.Type:
		return "type", nil
	case stored.Subject != want.Subject:
		return "subject", nil
	case !bytes.Equal(stored.Data, want.Data):
		return "content", nil
	case in.private == nil && stored.Private != want.Private, in.private != nil && stored.Private == "":
		return "private text", nil
	}
	if in.private != nil {
		p, err := r.o.Private.Get(stored.Private)
		// What was redacted cannot be compared any more; the rest is the same.
		if err != nil && !errors.Is(err, reads.ErrNotFound) {
			return "", err
		}
		if err == nil && !maps.Equal(p.Fields, in.private) {
			return "private text", nil
		}
	}
	return "", nil
}

// commit makes the private text durable and the event commit to it. That comes
// before publishing: a commitment to text that a crash has lost proves nothing.
func (r *Recorder) commit(in *intention) error {
	if in.private == nil {
		return nil
	}
	p, err := events.NewPrivate(in.private, r.o.Rand)
	if err != nil {
		return err
	}
	if in.event.Private, err = p.Commitment(); err != nil {
		return err
	}
	return r.o.Private.Put(in.event.Private, p)
}

// settle waits for the ledger and returns the entry that holds a published
// event: its own, or that of the same intention by someone else.
func (r *Recorder) settle(ctx context.Context, in *intention, ack bus.Ack, before uint64) (ledger.Entry, error) {
	if _, err := r.o.Log.WaitPosition(ctx, ack.Sequence); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: event %s: %w", ErrPending, in.event.ID, err)
		}
		return ledger.Entry{}, err
	}
	e, ok, err := r.find(in)
	if err == nil && !ok {
		err = r.quarantined(in.event, before)
	}
	return e, err
}

// place fills in where an entry stands.
func (r *Recorder) place(out *Recorded, e ledger.Entry) {
	leaf := proof.LeafHash(e.Bytes)
	out.ID, out.Source, out.Type = e.Event.ID, e.Event.Source, e.Event.Type
	out.Index, out.LeafHash = &e.Index, hex.EncodeToString(leaf[:])
	out.Sealed = e.Index < r.o.Seals.Sealed()
}

// quarantined says why the ledger did not accept an event.
func (r *Recorder) quarantined(e *events.Event, before uint64) error {
	const most = 256
	found, err := r.o.Log.Quarantines(before, most)
	if err != nil {
		return err
	}
	for _, index := range found {
		q, err := r.o.Log.Entry(index)
		if err != nil {
			return err
		}
		if q.Quarantine != nil && q.Quarantine.Subject == e.NATSSubject() {
			return fmt.Errorf("%w: event %s was quarantined as entry %d: %s", ErrConflict, e.ID, index, q.Quarantine.Reason)
		}
	}
	return fmt.Errorf("%w: the ledger did not accept event %s", ErrConflict, e.ID)
}

// seal waits for the receipt if the order says so. That none comes in time is no
// failure: the event stands, and the answer says that it is not sealed.
func (r *Recorder) seal(ctx context.Context, o *Order, out *Recorded) error {
	if o.Wait != WaitReceipt {
		return nil
	}
	receipt, err := r.o.Seals.Receipt(ctx, reads.ReceiptQuery{ID: out.ID, Source: out.Source, Wait: r.o.SealWait})
	if errors.Is(err, reads.ErrNotYet) {
		return nil
	}
	if err != nil {
		return err
	}
	out.Receipt, out.Sealed = &receipt, true
	return nil
}

// schemaError marks the verdict of the registry.
func schemaError(err error) error {
	if errors.Is(err, events.ErrInvalidData) || errors.Is(err, events.ErrUnknownType) {
		return fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return err
}

// refusal marks what fold-v1 says of an event with the kind of failure it is.
func refusal(err error) error {
	var r *events.Refusal
	if !errors.As(err, &r) {
		return err
	}
	kind := reads.ErrBadRequest
	switch r.Reason {
	case events.TooLarge:
		kind = ErrTooLarge
	case events.NotAllowed, events.WrongSubject:
		kind = ErrNotAllowed
	case events.Conflict:
		kind = ErrConflict
	}
	return fmt.Errorf("%w: %w", kind, err)
}

var _ PrivateStore = (*PrivateDir)(nil)
