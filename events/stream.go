package events

import (
	"fmt"
	"strings"
	"time"
)

// A Position names a message for ever: the epoch of its stream, its sequence in
// it, and its offset in a message that carries a batch (0 until messages do).
type Position struct {
	Epoch    uint32 `json:"epoch"`
	Sequence uint64 `json:"sequence"`
	Offset   uint32 `json:"offset,omitzero"`
}

func (p Position) String() string {
	if p.Offset > 0 {
		return fmt.Sprintf("%d/%d+%d", p.Epoch, p.Sequence, p.Offset)
	}
	return fmt.Sprintf("%d/%d", p.Epoch, p.Sequence)
}

// A Stream is the configuration of one JetStream stream, as far as it is a
// promise to others; the bus adds replicas and limits of the place.
type Stream struct {
	Name     string
	Subjects []string
	Memory   bool          // kept in memory only
	Log      bool          // a record: refuses new messages when full, forbids delete and purge, allows atomic batches and direct get
	MaxAge   time.Duration // 0 keeps messages for ever
	MaxMsg   int32         // bytes in one message, headers not counted; 0 is the broker's limit
	MaxBytes int64         // 0 is what the place allows
	Doc      string
}

// Names of streams and of the subjects in them.
const (
	HeadsStream     = "HEADS"
	SealsStream     = "SEALS"
	ReceiptsStream  = "RECEIPTS"
	TelemetryStream = "TELEMETRY"
	DeadStream      = "DLQ"
)

// MaxReceipt is the largest message on RECEIPTS, in bytes.
const MaxReceipt = 512 << 10

// EventsStream names the stream of an epoch, the first of which is 1.
func EventsStream(epoch uint32) string { return fmt.Sprintf("EVENTS_%d", epoch) }

// HeadSubject is where the checkpoints of a log are published.
func HeadSubject(log string) string { return "head." + Token(log) }

// SealSubject is where tokens and cosignatures of a log's checkpoints are published.
func SealSubject(log string) string { return "seal." + Token(log) }

// ReceiptSubject is where a producer finds its receipts.
func ReceiptSubject(p Producer) string { return "receipt." + Token(string(p)) }

// DeadSubject is where a consumer puts what it gave up on.
func DeadSubject(consumer string) string { return "dlq." + Token(consumer) }

// Streams is the catalogue of all streams, EVENTS of the given epoch first.
func Streams(epoch uint32) []Stream {
	const day = 24 * time.Hour
	return []Stream{
		{Name: EventsStream(epoch), Subjects: []string{SubjectPrefix + ".*.*.*"}, Log: true, MaxMsg: MaxRaw,
			Doc: "Every event, in intake order, replayable from 1. The subject is vm.<domain>.<entity>.<producer>."},
		{Name: HeadsStream, Subjects: []string{"head.*"}, Log: true, MaxMsg: 64 << 10,
			Doc: "Signed checkpoints, compare-and-set by the expected last sequence of the subject head.<log>."},
		{Name: SealsStream, Subjects: []string{"seal.*"}, Log: true, MaxMsg: 256 << 10,
			Doc: "RFC 3161 tokens and witness cosignatures, keyed by checkpoint size."},
		{Name: ReceiptsStream, Subjects: []string{"receipt.*"}, Memory: true, MaxAge: time.Hour, MaxMsg: MaxReceipt, MaxBytes: 16 << 20,
			Doc: "Receipts signed by the log key, per checkpoint and producer; later at /v1/receipts/{event-id}."},
		{Name: TelemetryStream, Subjects: []string{"tm.>"}, MaxAge: 7 * day, MaxBytes: 1 << 30,
			Doc: "Offers, prices and heartbeats: too many to keep for ever."},
		{Name: DeadStream, Subjects: []string{"dlq.*"}, MaxAge: 90 * day, MaxBytes: 1 << 30,
			Doc: "What a side-effect consumer gave up on, with body and reason."},
	}
}

// Housekeeping reports whether events of the type are the ledger's own, made by
// sealing and federating: a checkpoint that adds only such is not stamped.
func Housekeeping(t Type) bool {
	d := t.Domain()
	return d == "ledger" || d == "federation"
}

// EntityOf returns the entity of a message's subject, unescaped.
func EntityOf(subject string) (string, error) {
	parts := strings.Split(subject, ".")
	if len(parts) != 4 || parts[0] != SubjectPrefix {
		return "", fmt.Errorf("%q is not a subject of an event", subject)
	}
	return ParseToken(parts[2])
}
