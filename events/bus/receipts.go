package bus

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go"

	"vaultmesh.cloud/vaultmesh/events"
)

// A Receipt says that the ledger holds an event, under the log's signature.
type Receipt struct {
	Origin   string // of the log
	Producer events.Producer
	EventID  events.ID
	Index    uint64 // of the leaf
	Size     uint64 // of the signed tree that holds it
	Leaf     [32]byte
	Root     [32]byte
}

// ReceiptVerifier reads the messages of RECEIPTS.
type ReceiptVerifier interface {
	// VerifyReceipts returns the receipts of a message if the log's signature
	// is good, all for the same producer. It must not keep note.
	VerifyReceipts(note []byte) ([]Receipt, error)
}

// maxReceipts bounds what a publisher remembers: ids that it sent without having
// their receipts, and receipts that it has.
const maxReceipts = 1 << 16

// ReceiptCounts are totals since the publisher's start.
type ReceiptCounts struct {
	Verified   uint64 // receipts for events of this publisher
	Others     uint64 // receipts for events of others with the same producer
	Unverified uint64 // messages without a good signature, which were dropped
}

// receipts remembers the receipts of one publisher.
type receipts struct {
	producer events.Producer
	verifier ReceiptVerifier
	outbox   *Outbox
	log      *slog.Logger
	sub      *nats.Subscription

	mu     sync.Mutex
	sent   bounded[struct{}]
	got    bounded[Receipt]
	waits  map[events.ID][]chan Receipt
	counts ReceiptCounts
}

// bounded is a map that forgets its oldest keys.
type bounded[V any] struct {
	m    map[events.ID]V
	keys []events.ID // a ring
	next int
}

func (b *bounded[V]) put(id events.ID, v V) {
	if b.m == nil {
		b.m = map[events.ID]V{}
	}
	if _, ok := b.m[id]; ok {
		b.m[id] = v
		return
	}
	if len(b.keys) < maxReceipts {
		b.keys = append(b.keys, id)
	} else {
		delete(b.m, b.keys[b.next])
		b.keys[b.next] = id
		b.next = (b.next + 1) % maxReceipts
	}
	b.m[id] = v
}

func subscribeReceipts(c *Conn, o PublisherOptions) (*receipts, error) {
	r := &receipts{
		producer: o.Producer, verifier: o.Receipts, outbox: o.Outbox, log: o.Logger,
		waits: map[events.ID][]chan Receipt{},
	}
	subject := events.ReceiptSubject(o.Producer)
	var err error
	r.sub, err = c.nc.Subscribe(subject, func(m *nats.Msg) { r.take(m.Data) })
	if err == nil {
		err = r.sub.SetPendingLimits(1024, 64<<20)
	}
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, brokerError(err))
	}
	return r, nil
}

func (r *receipts) close() { _ = r.sub.Unsubscribe() }

func (r *receipts) expect(id events.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent.put(id, struct{}{})
}

func (r *receipts) take(note []byte) {
	list, err := r.verifier.VerifyReceipts(note)
	if err != nil {
		r.mu.Lock()
		r.counts.Unverified++
		r.mu.Unlock()
		r.log.Warn("dropped a receipt that does not verify", "err", err)
		return
	}
	var mine []Receipt
	var ids []events.ID
	r.mu.Lock()
	for _, receipt := range list {
		_, sent := r.sent.m[receipt.EventID]
		if receipt.Producer != r.producer || !sent && len(r.waits[receipt.EventID]) == 0 {
			r.counts.Others++
			continue
		}
		r.counts.Verified++
		mine, ids = append(mine, receipt), append(ids, receipt.EventID)
	}
	r.mu.Unlock()
	if r.outbox != nil && len(ids) > 0 {
		if err := r.outbox.Ack(ids...); err != nil {
			r.log.Error("take receipted events out of the outbox", "err", err)
		}
	}
	// Now, so that an event whose receipt was seen is not in the outbox.
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, receipt := range mine {
		r.got.put(receipt.EventID, receipt)
		for _, ch := range r.waits[receipt.EventID] {
			ch <- receipt // has room for one
		}
		delete(r.waits, receipt.EventID)
	}
}

// WaitReceipt waits for the verified receipt of an event that this publisher sent.
// A receipt that came while the connection was lost is not sent again: bound the
// context and then ask the ledger, at /v1/receipts/{event-id}.
func (p *Publisher) WaitReceipt(ctx context.Context, id events.ID) (Receipt, error) {
	r := p.receipts
	if r == nil {
		return Receipt{}, fmt.Errorf("wait for the receipt of %s: the publisher has no receipt verifier", id)
	}
	r.mu.Lock()
	if receipt, ok := r.got.m[id]; ok {
		r.mu.Unlock()
		return receipt, nil
	}
	ch := make(chan Receipt, 1)
	r.waits[id] = append(r.waits[id], ch)
	r.mu.Unlock()
	defer r.unwait(id, ch)
	select {
	case receipt := <-ch:
		return receipt, nil
	case <-ctx.Done():
		return Receipt{}, fmt.Errorf("wait for the receipt of %s: %w", id, ctx.Err())
	case <-p.ctx.Done():
		return Receipt{}, fmt.Errorf("wait for the receipt of %s: %w", id, ErrClosed)
	}
}

func (r *receipts) unwait(id events.ID, ch chan Receipt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var rest []chan Receipt
	for _, c := range r.waits[id] {
		if c != ch {
			rest = append(rest, c)
		}
	}
	if r.waits[id] = rest; len(rest) == 0 {
		delete(r.waits, id)
	}
}

// Receipts returns the newest verified receipts for events of this publisher, at
// most 65,536, in no order.
func (p *Publisher) Receipts() iter.Seq[Receipt] {
	return func(yield func(Receipt) bool) {
		if p.receipts == nil {
			return
		}
		p.receipts.mu.Lock()
		list := make([]Receipt, 0, len(p.receipts.got.m))
		for _, receipt := range p.receipts.got.m {
			list = append(list, receipt)
		}
		p.receipts.mu.Unlock()
		for _, receipt := range list {
			if !yield(receipt) {
				return
			}
		}
	}
}

// ReceiptCounts returns how many receipts came.
func (p *Publisher) ReceiptCounts() ReceiptCounts {
	if p.receipts == nil {
		return ReceiptCounts{}
	}
	p.receipts.mu.Lock()
	defer p.receipts.mu.Unlock()
	return p.receipts.counts
}
