package proof

import (
	"fmt"
	"strings"
)

// MaxOrigin is the longest origin in bytes; ML-DSA cosignatures hold its length
// in one byte (C2SP tlog-cosignature).
const MaxOrigin = 255

// reservedOrigin begins the first lines of our own signed notes. A log of that
// name could sign a checkpoint that reads as a receipt.
const reservedOrigin = "vaultmesh.cloud/receipt"

// CheckOrigin reports whether origin may name a log: a schema-less URL of
// printable ASCII without '+', such as "example.com/log" (C2SP tlog-checkpoint,
// and the note format's rule for key names).
func CheckOrigin(origin string) error {
	why := ""
	switch host, _, _ := strings.Cut(origin, "/"); {
	case origin == "":
		why = "it is empty"
	case len(origin) > MaxOrigin:
		why = fmt.Sprintf("it is over %d bytes", MaxOrigin)
	case !isVisible(origin):
		why = "only printable ASCII without spaces may stand in it"
	case strings.Contains(origin, "+"):
		why = "'+' separates the fields of a key"
	case strings.Contains(origin, "://"):
		why = "leave the scheme out"
	case host == "":
		why = "it must begin with a host name"
	case strings.HasSuffix(origin, "/"):
		why = "it must not end with '/'"
	case strings.HasPrefix(origin, reservedOrigin):
		why = reservedOrigin + " names receipts"
	}
	if why != "" {
		return fmt.Errorf("origin %q: %s: %w", clip(origin), why, ErrMalformed)
	}
	return nil
}

// ParseOrigin returns the origin that a first line of a checkpoint names, of
// which nothing else is checked: use it to choose the key, then OpenCheckpoint.
func ParseOrigin(note []byte) (string, error) {
	line, _, ok := strings.Cut(string(note[:min(len(note), MaxOrigin+1)]), "\n")
	if !ok {
		return "", fmt.Errorf("no first line: %w", ErrMalformed)
	}
	if err := CheckOrigin(line); err != nil {
		return "", err
	}
	return line, nil
}

// isVisible reports whether s is printable ASCII without spaces.
func isVisible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
