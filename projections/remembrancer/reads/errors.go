package reads

import "errors"

// The kinds of failure. The list is closed; match with errors.Is. The text that
// wraps them says what to mend.
var (
	// ErrBadRequest: the question itself is wrong; asking again gives the same.
	ErrBadRequest = errors.New("bad request")
	// ErrNotFound: the log does not hold it, or has not published it.
	ErrNotFound = errors.New("not found")
	// ErrNotYet: the log is on its way there. Ask again after a second.
	ErrNotYet = errors.New("not yet")
	// ErrBusy: too many readers of this kind. Ask again later.
	ErrBusy = errors.New("too many readers")
)
