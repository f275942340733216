package record

import "errors"

// The kinds of failure beside those of the packages reads, events and bus. The
// list is closed; match with errors.Is.
var (
	// ErrNotAllowed (403): this producer may not say that.
	ErrNotAllowed = errors.New("not allowed")
	// ErrConflict (409): the log holds something else in this place. Nothing was
	// recorded, or it was quarantined.
	ErrConflict = errors.New("conflict")
	// ErrTooLarge (413): put the evidence into a blob and name its digest.
	ErrTooLarge = errors.New("too large")
	// ErrMediaType (415): the body is in a form that nobody here reads.
	ErrMediaType = errors.New("unsupported media type")
	// ErrSchema (422): well-formed, but a field does not say what it must.
	ErrSchema = errors.New("does not fit its schema")
	// ErrPending (202): the event is durable on the bus, but the ledger has not
	// come to it. Do not send it again: ask for its receipt.
	ErrPending = errors.New("published, not folded yet")
)
