package events

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// A Checker collects the first thing that is wrong with a payload. Its methods
// mean what the keywords of JSON Schema 2020-12 mean: lengths count code points.
type Checker struct{ err error }

// Err returns the first complaint, or nil.
func (c *Checker) Err() error { return c.err }

// Fail complains about a field unless something else was wrong before.
func (c *Checker) Fail(field, format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%s %s", field, fmt.Sprintf(format, args...))
	}
}

// Name checks a string of one line: min to max code points, no control characters.
func (c *Checker) Name(field, s string, min, max int) {
	if c.length(field, s, min, max); strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		c.Fail(field, "must not hold control characters")
	}
}

// Text checks free text of min to max code points.
func (c *Checker) Text(field, s string, min, max int) { c.length(field, s, min, max) }

func (c *Checker) length(field, s string, min, max int) {
	n := len(s)
	if n > max || n < utf8.UTFMax*min { // only then can counting matter
		n = utf8.RuneCountInString(s)
	}
	switch {
	case n < min && n == 0:
		c.Fail(field, "is missing or empty")
	case n < min:
		c.Fail(field, "must have at least %d characters", min)
	case n > max:
		c.Fail(field, "has %d characters, the most is %d", n, max)
	}
}

// SHA256 checks a digest: 64 lower-case hex digits.
func (c *Checker) SHA256(field, s string) {
	if !IsSHA256(s) {
		c.Fail(field, "must be a SHA-256 digest, 64 lower-case hex digits")
	}
}

// Base64 checks standard, padded base64 of at most max characters (RFC 4648
// section 4).
func (c *Checker) Base64(field, s string, max int) {
	body := strings.TrimRight(s, "=")
	ok := s != "" && len(s)%4 == 0 && len(s)-len(body) <= 2 && len(s) <= max
	for i := 0; ok && i < len(body); i++ {
		b := body[i]
		ok = b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '+' || b == '/'
	}
	if !ok {
		c.Fail(field, "must be base64 with padding, up to %d characters", max)
	}
}

// Fingerprint checks an OpenPGP fingerprint: 40 or 64 upper-case hex digits.
func (c *Checker) Fingerprint(field, s string) {
	ok := len(s) == 40 || len(s) == 64
	for i := 0; ok && i < len(s); i++ {
		ok = s[i] >= '0' && s[i] <= '9' || s[i] >= 'A' && s[i] <= 'F'
	}
	if !ok {
		c.Fail(field, "must be an OpenPGP fingerprint, 40 or 64 upper-case hex digits")
	}
}

// Integer checks min <= n <= max.
func (c *Checker) Integer(field string, n, min, max int64) {
	if n < min || n > max {
		c.Fail(field, "is %d, must be %d to %d", n, min, max)
	}
}

// OneOf checks an enumeration.
func (c *Checker) OneOf(field, s string, allowed ...string) {
	if !slices.Contains(allowed, s) {
		c.Fail(field, "is %q, must be one of %s", clip(s), strings.Join(allowed, ", "))
	}
}

// Time checks a UTC time as RFC 3339 writes it: seconds, up to nine digits of
// fraction, and Z.
func (c *Checker) Time(field, s string) {
	if !isTime(s) {
		c.Fail(field, "must be a UTC time such as 2026-11-23T03:19:00Z")
	}
}

func isTime(s string) bool {
	const layout = "2006-01-02T15:04:05"
	if len(s) < len(layout)+1 || len(s) > len(layout)+11 || s[len(s)-1] != 'Z' {
		return false
	}
	if _, err := time.Parse(layout, s[:len(layout)]); err != nil {
		return false
	}
	frac := s[len(layout) : len(s)-1]
	return frac == "" || frac[0] == '.' && len(frac) > 1 && isDigits(frac[1:])
}

// parseTime reads a timestamp of RFC 3339. Go's parser lets more pass: hours of
// one digit, a comma before the fraction, offsets of a day and more.
func parseTime(s string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.IsZero() || s[13] != ':' || strings.Contains(s, ",") {
		return time.Time{}, false
	}
	offset := s[len(s)-5:]
	return t.UTC(), s[len(s)-1] == 'Z' || offset[:2] <= "23" && offset[3:] <= "59"
}

// FormatTime writes a time as [Checker.Time] wants it.
func FormatTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// MaxExact is the largest integer that a payload may hold, 2^53-1 (RFC 7493
// section 2.2).
const MaxExact = 1<<53 - 1
