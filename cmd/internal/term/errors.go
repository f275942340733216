package term

import (
	"errors"
	"fmt"
)

// A Kind is what went wrong, as far as a script needs to tell. The list is
// closed.
type Kind string

// The kinds of error.
const (
	Failure     Kind = "failure"             // anything without a kind of its own
	Usage       Kind = "usage"               // the command line is wrong; nothing was done
	NotFound    Kind = "not found"           // what was named does not exist
	Unverified  Kind = "verification failed" // evidence is missing or wrong
	Conflict    Kind = "conflict"            // something else stands there already
	Findings    Kind = "findings"            // the command worked and found problems
	NotAllowed  Kind = "not allowed"         // the caller may not do this
	Unavailable Kind = "unavailable"         // nobody answers now; trying again may help
)

// exitCodes is the one table from kinds to exit codes.
var exitCodes = map[Kind]int{
	Failure:     1,
	Usage:       2,
	NotFound:    3,
	Unverified:  4,
	Conflict:    5,
	Findings:    6,
	NotAllowed:  7,
	Unavailable: 8,
}

// An Error is an error with a kind and, if there is one, the way out.
type Error struct {
	Kind Kind
	Mend string // what the user can do, one sentence; may be empty
	err  error
}

// Errorf returns an *Error. The format may wrap with %w.
func Errorf(kind Kind, mend, format string, args ...any) error {
	return &Error{Kind: kind, Mend: mend, err: fmt.Errorf(format, args...)}
}

// As gives err a kind; nil stays nil. The outermost kind is the one that counts.
func As(kind Kind, mend string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: kind, Mend: mend, err: err}
}

func (e *Error) Error() string { return e.err.Error() }

// Unwrap returns the error below the kind.
func (e *Error) Unwrap() error { return e.err }

// KindOf returns the outermost kind of err, Failure without one, "" for nil.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Kind
	}
	return Failure
}

// MendOf returns the first way out that err knows.
func MendOf(err error) string {
	for {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Mend != "" {
			return e.Mend
		}
		err = e.err
	}
}

// ExitCode returns what the process shall exit with: 0 for nil.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if code, ok := exitCodes[KindOf(err)]; ok {
		return code
	}
	return exitCodes[Failure]
}
