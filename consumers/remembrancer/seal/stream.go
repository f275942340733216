package seal

import (
	"context"
	"errors"
	"fmt"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
)

// Stream is HEADS and RECEIPTS on a bus.
type Stream struct {
	Conn   *bus.Conn
	Origin string
}

// Last implements Heads.
func (s Stream) Last(ctx context.Context) (remembrancer.Head, uint64, error) {
	var h remembrancer.Head
	m, err := s.Conn.LastFor(ctx, events.HeadsStream, events.HeadSubject(s.Origin))
	if errors.Is(err, bus.ErrNoMessage) {
		return h, 0, nil
	}
	if err != nil {
		return h, 0, err
	}
	if h, err = remembrancer.ParseHead(m.Data); err != nil {
		return h, 0, fmt.Errorf("message %d of %s: %w", m.Sequence, events.HeadsStream, err)
	}
	return h, m.Sequence, nil
}

// CompareAndSet implements Heads.
func (s Stream) CompareAndSet(ctx context.Context, last uint64, h remembrancer.Head) error {
	b, err := canonical(h)
	if err != nil {
		return err
	}
	_, err = s.Conn.CompareAndSet(ctx, events.HeadSubject(s.Origin), last, b, nil)
	return err
}

// Publish implements Receipts: without waiting for an answer, since a receipt
// may be lost.
func (s Stream) Publish(_ context.Context, p events.Producer, note []byte) error {
	return s.Conn.NATS().Publish(events.ReceiptSubject(p), note)
}
