package proof

import "errors"

// The kinds of refusal. Match them with errors.Is; the text says which rule.
var (
	// ErrMalformed: the bytes are not the format. Nothing in them may be used.
	ErrMalformed = errors.New("malformed")
	// ErrSignature: well-formed, but not signed by the key that it needs.
	ErrSignature = errors.New("not signed by the expected key")
	// ErrOrigin: it speaks of another log than the one that was asked about.
	ErrOrigin = errors.New("belongs to another log")
	// ErrAudience: a receipt that was addressed to another producer.
	ErrAudience = errors.New("addressed to another producer")
	// ErrNotProven: a report with a link that is missing or failed.
	ErrNotProven = errors.New("not proven")
	// ErrProof: the hashes do not lead to the root. Whoever handed them out is
	// wrong or lies: keep both sides as evidence.
	ErrProof = errors.New("does not lead to the root")
)
