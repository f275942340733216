package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
)

// maxVoices bounds the producers that speak through one node.
const maxVoices = 256

// errTooMany: more producers than one node speaks for.
var errTooMany = errors.New("too many producers speak through this node")

// voices are the publishers of the producers that speak through this node: the
// node itself, and those that its HTTP server has authenticated.
type voices struct {
	n *daemon.Node

	mu     sync.Mutex
	by     map[events.Producer]*bus.Publisher
	closed bool
}

func newVoices(n *daemon.Node) *voices {
	return &voices{n: n, by: map[events.Producer]*bus.Publisher{}}
}

func (v *voices) of(p events.Producer) (*bus.Publisher, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, bus.ErrClosed
	}
	if pub, ok := v.by[p]; ok {
		return pub, nil
	}
	if len(v.by) >= maxVoices {
		return nil, errTooMany
	}
	pub, err := bus.NewPublisher(v.n.Conn, bus.PublisherOptions{
		Producer: p, Stream: events.EventsStream(epoch), Check: v.n.Registry.Check, Clock: v.n.Clock, Rand: v.n.Rand, Logger: v.n.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("speak as %s: %w", p, err)
	}
	v.by[p] = pub
	return pub, nil
}

// Publish publishes an event under its own producer's name.
func (v *voices) Publish(ctx context.Context, e *events.Event) (bus.Ack, error) {
	pub, err := v.of(e.Source.Producer())
	if err != nil {
		return bus.Ack{}, err
	}
	return pub.Publish(ctx, e)
}

// PublishBatch publishes events of one producer, all or none.
func (v *voices) PublishBatch(ctx context.Context, batch []*events.Event) ([]bus.Ack, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	pub, err := v.of(batch[0].Source.Producer())
	if err != nil {
		return nil, err
	}
	return pub.PublishBatch(ctx, batch)
}

func (v *voices) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	for p, pub := range v.by {
		if err := pub.Close(); err != nil {
			v.n.Logger.Warn("publisher not closed", "producer", string(p), "err", err)
		}
	}
}

// A housekeeper records the node's own events.
type housekeeper struct{ p *part }

// Recorded reports whether the log holds the node's event with this id.
func (h housekeeper) Recorded(id events.ID) (bool, error) {
	_, err := h.p.log.Lookup(events.SourceOf(events.NodeProducer), id)
	if errors.Is(err, ledger.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Record publishes an event of the node.
func (h housekeeper) Record(ctx context.Context, payload events.Payload, id events.ID, at time.Time) error {
	e, err := h.p.n.Registry.New(payload, events.Origin{ID: id, Source: events.SourceOf(events.NodeProducer), Time: at})
	if err != nil {
		return err
	}
	_, err = h.p.voices.Publish(ctx, e)
	return err
}
