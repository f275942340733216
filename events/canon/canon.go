package canon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is how many arrays and objects may be open at once.
const MaxDepth = 64

// maxInteger is the largest magnitude that every JSON reader keeps exactly,
// 2^53-1 (RFC 7493 section 2.2).
const maxInteger = 1<<53 - 1

// maxDigits is how many significant decimal digits a float64 can need; a number
// with more would be rounded silently.
const maxDigits = 17

// A SyntaxError says what in the input is not strict I-JSON, and where.
type SyntaxError struct {
	Offset int64 // bytes from the start of the input
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("not I-JSON at byte %d: %s", e.Offset, e.Reason)
}

// Canonicalize returns the JCS bytes of one JSON value. It returns raw itself,
// not a copy, when raw is canonical already. The error is a *SyntaxError for
// anything that two readers could understand differently: duplicate names,
// invalid UTF-8, lone surrogates, noncharacters, numbers that a float64 does not
// hold, nesting beyond MaxDepth, trailing bytes.
func Canonicalize(raw []byte) ([]byte, error) {
	if IsCanonical(raw) {
		return raw, nil
	}
	if err := check(raw); err != nil {
		return nil, err
	}
	v := jsontext.Value(bytes.Clone(raw))
	if err := v.Canonicalize(); err != nil {
		return nil, syntaxError(err)
	}
	return v, nil
}

// Marshal returns the JCS bytes of v, encoded with its `json` tags.
func Marshal(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return Canonicalize(raw)
}

// Unmarshal decodes strict I-JSON into v and refuses members that v does not
// name, so that a misspelt field is an error and not a silent loss.
func Unmarshal(raw []byte, v any) error {
	err := json.Unmarshal(raw, v, json.RejectUnknownMembers(true))
	if err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}

// check reads raw token by token and applies the rules that jsontext leaves to
// its caller: depth, number range and precision, noncharacters.
func check(raw []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	for {
		at := d.InputOffset()
		tok, err := d.ReadToken()
		if errors.Is(err, io.EOF) && at > 0 && d.StackDepth() == 0 {
			return nil
		}
		if err != nil {
			return syntaxError(err)
		}
		switch tok.Kind() {
		case '{', '[':
			if d.StackDepth() > MaxDepth {
				return &SyntaxError{at, fmt.Sprintf("nested deeper than %d", MaxDepth)}
			}
		case '0':
			if reason := checkNumber(tok.String()); reason != "" {
				return &SyntaxError{at, reason}
			}
		case '"':
			for _, r := range tok.String() {
				if isNoncharacter(r) {
					return &SyntaxError{at, fmt.Sprintf("noncharacter U+%04X in a string", r)}
				}
			}
		}
		if d.StackDepth() == 0 && len(bytes.TrimLeft(raw[d.InputOffset():], " \t\r\n")) > 0 {
			return &SyntaxError{d.InputOffset(), "bytes after the value"}
		}
	}
}

func syntaxError(err error) error {
	var se *jsontext.SyntacticError
	if errors.As(err, &se) {
		reason := "malformed"
		if se.Err != nil {
			reason = se.Err.Error()
		}
		return &SyntaxError{se.ByteOffset, reason}
	}
	if errors.Is(err, io.EOF) {
		return &SyntaxError{0, "empty input"}
	}
	return &SyntaxError{0, err.Error()}
}

// checkNumber returns why a number literal is refused, or "".
func checkNumber(lit string) string {
	f, err := strconv.ParseFloat(lit, 64)
	switch {
	case err != nil || math.IsInf(f, 0):
		return "number " + clip(lit) + " is beyond a float64; send it as a string"
	case math.Abs(f) > maxInteger:
		return "number " + clip(lit) + " is beyond 2^53-1; send it as a string"
	}
	digits, zeros, seen := 0, 0, false
	for i := 0; i < len(lit); i++ {
		switch c := lit[i]; {
		case c == 'e' || c == 'E':
			i = len(lit)
		case c >= '1' && c <= '9':
			digits, zeros, seen = digits+zeros+1, 0, true
		case c == '0' && seen:
			zeros++
		}
	}
	if seen && f == 0 {
		return "number " + clip(lit) + " is too small for a float64; send it as a string"
	}
	if digits > maxDigits {
		return "number " + clip(lit) + " has more than 17 digits; send it as a string"
	}
	return ""
}

func clip(s string) string {
	const most = 32
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// isNoncharacter reports the code points that RFC 7493 section 2.1 keeps out.
func isNoncharacter(r rune) bool {
	return r >= 0xFDD0 && r <= 0xFDEF || r&0xFFFE == 0xFFFE && r <= utf8.MaxRune
}
