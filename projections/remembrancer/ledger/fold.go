package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
)

// A Message is one message of the stream of events.
type Message struct {
	Subject  string
	Sequence uint64
	Data     []byte // not changed afterwards
}

// A Batch is consecutive messages of one epoch, prepared for Apply.
type Batch struct {
	Epoch   uint32
	Created time.Time // when the epoch's stream was created
	msgs    []Message
	items   []item
}

// An item is a message after the part of the fold that needs no order.
type item struct {
	event     events.Event
	bytes     []byte // canonical
	leaf      Hash
	refusal   *events.Refusal // why it is not an event, or nil
	verdict   string
	digests   [][32]byte
	deploy    bool
	evidenced bool
}

// Prepare canonicalises, checks and hashes messages on all cores. It reads
// nothing of the ledger, so the next batch can be prepared while one is applied.
func (l *Ledger) Prepare(epoch uint32, created time.Time, msgs []Message) *Batch {
	b := &Batch{Epoch: epoch, Created: created, msgs: msgs, items: make([]item, len(msgs))}
	const chunk = 128
	work := func(from int) {
		for i := from; i < min(from+chunk, len(msgs)); i++ {
			b.items[i].prepare(l.opts.Registry, &msgs[i])
		}
	}
	if len(msgs) <= chunk {
		work(0)
		return b
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (len(msgs)+chunk-1)/chunk) {
		wg.Go(func() {
			for from := range next {
				work(from)
			}
		})
	}
	for from := 0; from < len(msgs); from += chunk {
		next <- from
	}
	close(next)
	wg.Wait()
	return b
}

func (it *item) prepare(registry *events.Registry, m *Message) {
	e, b, err := events.Accept(m.Subject, m.Data)
	if err != nil {
		if !errors.As(err, &it.refusal) {
			it.refusal = &events.Refusal{Reason: events.BadEnvelope, Detail: err.Error()}
		}
		return
	}
	it.event, it.bytes, it.leaf = e, b, tlog.RecordHash(b)
	if registry == nil {
		return
	}
	p, err := registry.Decode(&e)
	if err != nil {
		it.verdict = err.Error()
		return
	}
	it.describe(p)
}

// describe takes from a payload what the indexes need.
func (it *item) describe(p events.Payload) {
	switch p := p.(type) {
	case *remembrancer.DeployRecorded:
		it.deploy = true
		if p.Evidence != nil {
			it.evidenced = true
			it.digest(p.Evidence.SHA256)
		}
	case *remembrancer.ArtifactSigned:
		it.digest(p.SHA256)
	case *remembrancer.ArtifactTimestamped:
		it.digest(p.SHA256)
	}
}

func (it *item) digest(s string) {
	var sum [32]byte
	if n, err := hex.Decode(sum[:], []byte(s)); err == nil && n == len(sum) {
		it.digests = append(it.digests, sum)
	}
}

// quarantine turns the item into a quarantine entry, with the raw bytes made
// durable first.
func (it *item) quarantine(ctx context.Context, blobs Blobs, m *Message) (Quarantine, error) {
	sum := sha256.Sum256(m.Data)
	q := Quarantine{Reason: it.refusal.Reason, SHA256: hex.EncodeToString(sum[:]), Size: len(m.Data), Subject: m.Subject}
	if len(q.Subject) > 256 {
		q.Subject = q.Subject[:256]
	}
	if blobs != nil {
		if _, err := blobs.Put(ctx, m.Data); err != nil {
			return q, fmt.Errorf("keep the bytes of message %d: %w", m.Sequence, err)
		}
	}
	b, err := q.encode()
	if err != nil {
		return q, err
	}
	it.bytes, it.leaf = b, tlog.RecordHash(b)
	return q, nil
}
