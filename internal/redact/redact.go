// Package redact keeps secrets out of logs, errors and documents: a Secret says
// its value only to who asks for it by name, and URLs and headers can be cleaned
// before they are written anywhere.
package redact

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
)

// Mark stands where a secret was.
const Mark = "[redacted]"

// A Secret is a string that no printing, encoding or logging shows. The zero
// value is "no secret" and shows as empty, so that a configuration tells whether
// one is set.
type Secret struct {
	// A pointer, because fmt calls no methods on unexported fields: there it
	// prints an address. Nil is no secret.
	value *string
}

// New makes a secret of a value.
func New(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{&value}
}

// Reveal returns the value. Every use is a place to look at in review.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Set reports whether there is a value.
func (s Secret) Set() bool { return s.value != nil }

// Sum returns the SHA-256 of the value, which may be kept where the value may not.
func (s Secret) Sum() [sha256.Size]byte { return sha256.Sum256([]byte(s.Reveal())) }

// Equal compares in a time that does not depend on where the values differ.
func (s Secret) Equal(other Secret) bool {
	a, b := s.Sum(), other.Sum()
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func (s Secret) mark() string {
	if s.value == nil {
		return ""
	}
	return Mark
}

// String implements fmt.Stringer.
func (s Secret) String() string { return s.mark() }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return fmt.Sprintf("redact.Secret{%q}", s.mark()) }

// Format implements fmt.Formatter: no verb, %x and %d included, shows the value.
func (s Secret) Format(f fmt.State, verb rune) {
	text := s.mark()
	if verb == 'v' && f.Flag('#') {
		text = s.GoString()
	} else if verb == 'q' {
		text = fmt.Sprintf("%q", text)
	}
	_, _ = io.WriteString(f, text)
}

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.mark()) }

// MarshalText implements encoding.TextMarshaler, which YAML and map keys use.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.mark()), nil }

// UnmarshalText takes the value from a file.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = New(string(b))
	return nil
}

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.mark()) }

// URL returns the URL without user info and without the values of its query, which
// is what may be logged of it. What does not parse is not shown at all.
func URL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return Mark
	}
	return clean(u)
}

func clean(u *url.URL) string {
	c := *u
	if c.User != nil {
		c.User = url.User("redacted")
	}
	c.RawQuery, c.ForceQuery = Query(c.RawQuery), false
	c.Fragment, c.RawFragment = "", ""
	return c.String()
}

// Query keeps the names of a query and marks the values.
func Query(raw string) string {
	if raw == "" {
		return ""
	}
	var names []string
	for part := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(part, "=")
		names = append(names, name+"=…")
	}
	return strings.Join(names, "&")
}

// Text replaces every occurrence of the secrets in s.
func Text(s string, secrets ...Secret) string {
	for _, secret := range secrets {
		if secret.Set() {
			s = strings.ReplaceAll(s, secret.Reveal(), Mark)
		}
	}
	return s
}
