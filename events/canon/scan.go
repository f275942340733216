package canon

import (
	"bytes"
	"unicode/utf8"
)

// IsCanonical reports whether b is certainly canonical. It is a fast path: one
// pass, no allocation, and it may say false of rare canonical input (fractions,
// names that need escapes); FuzzCanonical holds it to the reference library.
func IsCanonical(b []byte) bool {
	s := scanner{b: b}
	return s.value(nil) && s.i == len(b)
}

// Members visits the members of the canonical object b in their order, value as
// raw canonical bytes. It returns false when b is not certainly canonical (see
// IsCanonical) or not an object; some members may have been visited by then.
func Members(b []byte, visit func(name, value []byte)) bool {
	if len(b) == 0 || b[0] != '{' {
		return false
	}
	s := scanner{b: b}
	return s.object(visit) && s.i == len(b)
}

type scanner struct {
	b     []byte
	i     int
	depth int
}

// plain marks the ASCII bytes that stand for themselves in a string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x80; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

func (s *scanner) value(visit func(name, value []byte)) bool {
	if s.i >= len(s.b) {
		return false
	}
	switch c := s.b[s.i]; {
	case c == '"':
		return s.string()
	case c == '{':
		return s.object(visit)
	case c == '[':
		return s.array()
	case c == '-' || c >= '0' && c <= '9':
		return s.integer()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return false
}

func (s *scanner) literal(want string) bool {
	if len(s.b)-s.i < len(want) || string(s.b[s.i:s.i+len(want)]) != want {
		return false
	}
	s.i += len(want)
	return true
}

// integer accepts the integers of up to 15 digits, which float64 holds exactly.
func (s *scanner) integer() bool {
	if s.b[s.i] == '-' {
		s.i++
	}
	first := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	n := s.i - first
	if n == 0 || n > 15 || s.b[first] == '0' && (n > 1 || first > 0 && s.b[first-1] == '-') {
		return false
	}
	if s.i < len(s.b) {
		switch s.b[s.i] {
		case '.', 'e', 'E':
			return false
		}
	}
	return true
}

func (s *scanner) string() bool {
	b, i := s.b, s.i+1
	for i < len(b) {
		c := b[i]
		if plain[c] {
			i++
			continue
		}
		switch {
		case c == '"':
			s.i = i + 1
			return true
		case c == '\\':
			n := escape(b[i:])
			if n == 0 {
				return false
			}
			i += n
		case c < 0x20:
			return false
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 || isNoncharacter(r) {
				return false
			}
			i += n
		}
	}
	return false
}

// escape returns the length of the escape at the start of b if it is one that
// RFC 8785 section 3.2.2.2 writes, else 0.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 || b[2] != '0' || b[3] != '0' || b[4] != '0' && b[4] != '1' {
			return 0
		}
		c := b[5]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return 0
		}
		if b[4] == '0' { // these have a short form
			switch c {
			case '8', '9', 'a', 'c', 'd':
				return 0
			}
		}
		return 6
	}
	return 0
}

func (s *scanner) enter() bool {
	s.i++
	s.depth++
	return s.depth <= MaxDepth && s.i < len(s.b)
}

func (s *scanner) object(visit func(name, value []byte)) bool {
	if !s.enter() {
		return false
	}
	defer func() { s.depth-- }()
	if s.b[s.i] == '}' {
		s.i++
		return true
	}
	var last []byte
	for first := true; ; first = false {
		if s.i >= len(s.b) || s.b[s.i] != '"' {
			return false
		}
		start := s.i + 1
		if !s.string() {
			return false
		}
		name := s.b[start : s.i-1]
		if !byteOrdered(name) || !first && bytes.Compare(last, name) >= 0 {
			return false
		}
		last = name
		if s.i >= len(s.b) || s.b[s.i] != ':' {
			return false
		}
		s.i++
		at := s.i
		if !s.value(nil) {
			return false
		}
		if visit != nil {
			visit(name, s.b[at:s.i])
		}
		if s.i >= len(s.b) {
			return false
		}
		c := s.b[s.i]
		s.i++
		if c == '}' {
			return true
		}
		if c != ',' {
			return false
		}
	}
}

// byteOrdered reports whether comparing name's UTF-8 bytes orders it as RFC 8785
// does, by UTF-16 code units: true below U+E000, and without escapes.
func byteOrdered(name []byte) bool {
	for _, c := range name {
		if c == '\\' || c >= 0xEE {
			return false
		}
	}
	return true
}

func (s *scanner) array() bool {
	if !s.enter() {
		return false
	}
	defer func() { s.depth-- }()
	if s.b[s.i] == ']' {
		s.i++
		return true
	}
	for {
		if !s.value(nil) || s.i >= len(s.b) {
			return false
		}
		c := s.b[s.i]
		s.i++
		if c == ']' {
			return true
		}
		if c != ',' {
			return false
		}
	}
}
