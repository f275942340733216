package events

import (
	"fmt"
	"strings"
)

// SubjectPrefix begins the subject of every event.
const SubjectPrefix = "vm"

const hexDigits = "0123456789ABCDEF"

// Token escapes a name to one subject token: bytes outside [A-Za-z0-9_-] become
// =XX, so that no name can hold a wildcard or a dot.
func Token(name string) string {
	if isToken(name) {
		return name
	}
	var b strings.Builder
	for _, c := range []byte(name) {
		if isTokenByte(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'=', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}

// ParseToken is the inverse of Token. It refuses every other spelling.
func ParseToken(token string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '=' {
			if i+2 >= len(token) {
				return "", fmt.Errorf("subject token %q ends within an escape", token)
			}
			hi, lo := strings.IndexByte(hexDigits, token[i+1]), strings.IndexByte(hexDigits, token[i+2])
			if hi < 0 || lo < 0 {
				return "", fmt.Errorf("subject token %q has a malformed escape", token)
			}
			c, i = byte(hi<<4|lo), i+2
		}
		b.WriteByte(c)
	}
	if name := b.String(); name != "" && Token(name) == token {
		return name, nil
	}
	return "", fmt.Errorf("%q is not a subject token", token)
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// NATSSubject returns vm.<domain>.<entity>.<producer>, where the event belongs.
func (e *Event) NATSSubject() string {
	return SubjectPrefix + "." + string(e.Type.Domain()) + "." + Token(e.Subject) + "." + Token(string(e.Source.Producer()))
}

// PublishSubject is the subject pattern that lets a producer speak in a domain;
// "*" stands for every domain.
func PublishSubject(d Domain, p Producer) string {
	return SubjectPrefix + "." + string(d) + ".*." + Token(string(p))
}
