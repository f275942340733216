package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors of this package. Each says what the caller owes; match with errors.Is.
var (
	// ErrFull means that a store has no room left: keep the event and try later.
	ErrFull = errors.New("the store is full: keep the event and try again later")
	// ErrTooLarge means that the message will never fit: put the evidence into a
	// blob and name its digest.
	ErrTooLarge = errors.New("the message is too large")
	// ErrNotAllowed means that the broker refused these credentials. The error is
	// a *NotAllowedError if the subject is known.
	ErrNotAllowed = errors.New("not allowed by the broker")
	// ErrUnavailable means that the broker did not answer in time, or cannot: it
	// says nothing about whether the message was stored.
	ErrUnavailable = errors.New("the broker is not available: try again")
	// ErrWrongLast means that another message came first: read again, decide again.
	ErrWrongLast = errors.New("the subject's last sequence is another")
	// ErrAmbiguous means that the message may have been stored or not: read the
	// subject from the leader and compare before anything else.
	ErrAmbiguous = errors.New("no answer: the message may have been stored")
	// ErrNoMessage means that the stream has no such message.
	ErrNoMessage = errors.New("no such message")
	// ErrNoStream means that the stream does not exist: EnsureStreams makes it.
	ErrNoStream = errors.New("no such stream")
	// ErrWrongStream means that the subject's stream is another than expected, as
	// after a repair that opened a new epoch: ask for the epoch, publish again.
	ErrWrongStream = errors.New("the events stream is another: a new epoch may have begun")
	// ErrRefused means that the broker refused for another reason; trying the same
	// again will not help.
	ErrRefused = errors.New("refused by the broker")
	// ErrGap means that a stream skipped a sequence: stop and raise an alarm. The
	// error is a *GapError.
	ErrGap = errors.New("the stream has a gap")
	// ErrRegressed means that a stream is younger or shorter than a stored
	// position: it was made anew or lost its tail. The error is a *RegressedError.
	ErrRegressed = errors.New("the stream has regressed")
	// ErrClosed means that the publisher, outbox or connection was closed.
	ErrClosed = errors.New("closed")
)

// A NotAllowedError names the subject that the broker did not allow.
type NotAllowedError struct {
	Action  string // "publish to" or "subscribe to"
	Subject string
}

func (e *NotAllowedError) Error() string {
	return fmt.Sprintf("the broker does not allow these credentials to %s %s: ask an admin for credentials that name this producer and domain", e.Action, e.Subject)
}

func (e *NotAllowedError) Unwrap() error { return ErrNotAllowed }

// A GapError says which sequence was expected in a stream and which came.
type GapError struct {
	Stream          string
	Expected, Found uint64
}

func (e *GapError) Error() string {
	return fmt.Sprintf("stream %s: expected sequence %d, found %d", e.Stream, e.Expected, e.Found)
}

func (e *GapError) Unwrap() error { return ErrGap }

// A RegressedError says how a stream contradicts a stored position.
type RegressedError struct {
	Stream       string
	Position     uint64    // the last sequence that was read before
	Last         uint64    // the stream's last sequence now
	Was, Created time.Time // when the stream was created, as stored and now
}

func (e *RegressedError) Error() string {
	if !e.Was.IsZero() && !e.Was.Equal(e.Created) {
		return fmt.Sprintf("stream %s was created anew at %s (was %s)", e.Stream, e.Created.Format(time.RFC3339Nano), e.Was.Format(time.RFC3339Nano))
	}
	return fmt.Sprintf("stream %s ends at sequence %d, before position %d", e.Stream, e.Last, e.Position)
}

func (e *RegressedError) Unwrap() error { return ErrRegressed }

// Error codes of JetStream's API (nats-server errors.json) that mean more to us
// than "refused".
const (
	codeNoStream         = 10059
	codeNoMessage        = 10037
	codeWrongLast        = 10071 // with the last sequence in the text
	codeWrongLastConst   = 10164 // the same, without
	codeStoreFailed      = 10077 // maximum bytes or messages, with DiscardNew
	codeMessageTooLarge  = 10054
	codeNoResources      = 10023
	codeAccountResources = 10002
	codeStorageResources = 10047
	codeMemoryResources  = 10028
	codeWrongStream      = 10060
	codeNotLeader        = 10009
	codeBatchIncomplete  = 10176
	codeBatchInflight    = 10210
	codeBatchInflightOld = 10211
	codeClusterNoPeers   = 10005
	codeNotAvailable     = 10008
)

// apiError maps an answer of JetStream to an error of this package.
func apiError(code int, status int, text string) error {
	var kind error
	switch code {
	case codeWrongLast, codeWrongLastConst:
		kind = ErrWrongLast
	case codeStoreFailed, codeNoResources, codeAccountResources, codeStorageResources, codeMemoryResources:
		kind = ErrFull
	case codeMessageTooLarge:
		kind = ErrTooLarge
	case codeWrongStream:
		kind = ErrWrongStream
	case codeNoMessage:
		kind = ErrNoMessage
	case codeNoStream:
		kind = ErrNoStream
	case codeNotLeader, codeNotAvailable, codeClusterNoPeers, codeBatchIncomplete, codeBatchInflight, codeBatchInflightOld:
		kind = ErrUnavailable
	default:
		kind = ErrRefused
		if status == 503 || status == 500 {
			kind = ErrUnavailable
		}
	}
	return fmt.Errorf("%w: %s (JetStream %d)", kind, text, code)
}

// brokerError maps an error of the NATS client to one of this package.
func brokerError(err error) error {
	if err == nil {
		return nil
	}
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api):
		return apiError(int(api.ErrorCode), api.Code, api.Description)
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, nats.ErrPermissionViolation), errors.Is(err, nats.ErrAuthorization):
		return fmt.Errorf("%w: %w", ErrNotAllowed, err)
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
