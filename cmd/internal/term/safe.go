package term

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Safe makes text from outside harmless on a terminal: control characters,
// escape sequences, bidirectional overrides and other invisible characters
// become visible escapes, invalid UTF-8 becomes \xNN, and the text stays on one
// line.
func Safe(s string) string {
	clean := true
	for _, r := range s {
		if r == utf8.RuneError || hostile(r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case hostile(r):
			b.WriteString(escape(r))
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// SafeText is Safe for text of several lines: its line ends stay.
func SafeText(s string) string {
	lines := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	for i := range lines {
		lines[i] = Safe(lines[i])
	}
	return strings.Join(lines, "\n")
}

// hostile reports what changes a terminal's state or hides other text: C0, C1,
// format characters (Cf, which holds the bidirectional controls), line and
// paragraph separators, private use.
func hostile(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}

func escape(r rune) string {
	if r > 0xffff {
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// safeJSON escapes what encoding/json leaves raw and a terminal might obey. In
// JSON such characters stand in strings only, where the escape means the same.
func safeJSON(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == '\n' || !hostile(r):
			out = append(out, b[:n]...)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = append(out, escape(r)...)
		}
		b = b[n:]
	}
	return out
}

// escapeHostile writes hostile characters as YAML's double-quoted strings have
// them. YAML refuses surrogate pairs, so in JSON on its way to YAML the ones
// beyond 16 bits must stay raw.
func escapeHostile(b []byte, beyond16 bool) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r != '\n' && hostile(r) && (r <= 0xffff || beyond16) {
			out = append(out, escape(r)...)
		} else {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return out
}
