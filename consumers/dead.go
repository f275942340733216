package consumers

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
)

const letterVersion = 1

// A DeadLetter is one message on dlq.<consumer>, as JSON:
//
//	{"version":1, "consumer":"router", "index":42, "reason":"...", "permanent":false,
//	 "attempts":8, "at":"2026-11-23T03:19:00Z", "event":{...}}
//
// A consumer that crashed may have sent the same letter twice: (consumer, index)
// names it.
type DeadLetter struct {
	Version   int             `json:"version"`
	Consumer  string          `json:"consumer"`
	Index     uint64          `json:"index"`
	Reason    string          `json:"reason"`    // the handler's last error
	Permanent bool            `json:"permanent"` // trying again is useless
	Attempts  int             `json:"attempts"`
	At        time.Time       `json:"at"`
	Event     json.RawMessage `json:"event"` // canonical, as in the log
}

// BusDeadLetters publishes dead letters on the bus.
type BusDeadLetters struct{ Conn *bus.Conn }

// maxReason bounds the reason in a letter, in bytes: errors may quote their input.
const maxReason = 4 << 10

// Bury implements DeadLetters. It waits for the broker's acknowledgement.
func (d BusDeadLetters) Bury(ctx context.Context, letter DeadLetter) error {
	letter.Reason = letter.Reason[:min(len(letter.Reason), maxReason)]
	body, err := json.Marshal(letter)
	if err != nil {
		return fmt.Errorf("encode the dead letter of index %d: %w", letter.Index, err)
	}
	subject := events.DeadSubject(letter.Consumer)
	if _, err := d.Conn.JetStream().Publish(ctx, subject, body, jetstream.WithExpectStream(events.DeadStream)); err != nil {
		return fmt.Errorf("publish the dead letter of index %d on %s: %w", letter.Index, subject, err)
	}
	return nil
}
