package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/canon"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/receipts"
)

// A stream is the events of the epoch on the bus.
type stream struct {
	conn    *bus.Conn
	created time.Time
}

// Follow implements ledger.Stream.
func (s stream) Follow(ctx context.Context, from uint64, fn func(context.Context, []ledger.Message) error) error {
	o := bus.FollowOptions{Stream: events.EventsStream(epoch), From: from, Created: s.created}
	return s.conn.Follow(ctx, o, func(ctx context.Context, msgs []bus.Message) error {
		out := make([]ledger.Message, len(msgs))
		for i := range msgs {
			out[i] = ledger.Message{Subject: msgs[i].Subject, Sequence: msgs[i].Sequence, Data: msgs[i].Data}
		}
		return fn(ctx, out)
	})
}

// Message implements ledger.Stream.
func (s stream) Message(ctx context.Context, sequence uint64) (ledger.Message, error) {
	m, err := s.conn.Message(ctx, events.EventsStream(epoch), sequence)
	if errors.Is(err, bus.ErrNoMessage) {
		return ledger.Message{}, fmt.Errorf("message %d: %w", sequence, ledger.ErrNotFound)
	}
	return ledger.Message{Subject: m.Subject, Sequence: m.Sequence, Data: m.Data}, err
}

// followHeads folds what HEADS or SEALS holds of this log into the store of
// checkpoints. Other logs may share the streams.
func (p *part) followHeads(ctx context.Context, name, subject string) error {
	from, err := p.heads.Position(name)
	if err != nil {
		return err
	}
	o := bus.FollowOptions{Stream: name, From: from + 1, Filter: subject}
	return p.n.Conn.Follow(ctx, o, func(_ context.Context, msgs []bus.Message) error {
		out := make([]receipts.Message, len(msgs))
		for i := range msgs {
			out[i] = receipts.Message{Sequence: msgs[i].Sequence, Data: msgs[i].Data}
		}
		return p.heads.Apply(name, out)
	})
}

// seals is the stream SEALS.
type seals struct {
	conn   *bus.Conn
	origin string
}

// Publish implements timestamp.Seals.
func (s seals) Publish(ctx context.Context, seal remembrancer.Seal) error {
	b, err := canon.Marshal(seal)
	if err != nil {
		return fmt.Errorf("encode a seal: %w", err)
	}
	_, err = s.conn.JetStream().Publish(ctx, events.SealSubject(s.origin), b)
	return err
}
