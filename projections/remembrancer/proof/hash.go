package proof

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
)

// HashSize is the length of a Hash in bytes.
const HashSize = sha256.Size

// hash64Size is the length of a Hash in standard base64 with padding.
const hash64Size = 44

// MaxTreeSize is the largest number of leaves that a checkpoint may claim; the
// tile arithmetic of x/mod/sumdb/tlog uses signed 64-bit numbers.
const MaxTreeSize = 1<<63 - 1

// A Hash is a leaf or node of the log's tree (RFC 6962 section 2.1, SHA-256).
type Hash [HashSize]byte

// EmptyRoot is the root of a log without entries: the hash of nothing.
var EmptyRoot = Hash(sha256.Sum256(nil))

// LeafHash returns the hash of an entry: SHA-256 of 0x00 and the entry. For an
// event the entry is its canonical bytes.
func LeafHash(entry []byte) Hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(entry)
	return Hash(h.Sum(nil))
}

// NodeHash returns the hash of an inner node: SHA-256 of 0x01, left and right.
func NodeHash(left, right Hash) Hash {
	var b [1 + 2*HashSize]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+HashSize:], right[:])
	return sha256.Sum256(b[:])
}

// String returns the hash as it stands in checkpoints: standard base64.
func (h Hash) String() string { return base64.StdEncoding.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler with the form of String.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is the inverse of MarshalText, as strict as ParseHash.
func (h *Hash) UnmarshalText(text []byte) error {
	v, err := ParseHash(string(text))
	if err == nil {
		*h = v
	}
	return err
}

// ParseHash reads the form of String and no other: exactly 44 characters, zero
// padding bits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if err := h.parse(s); err != nil {
		return Hash{}, err
	}
	return h, nil
}

// parse decodes by hand: encoding/base64 skips line ends inside the text, and
// receipts hold thousands of hashes.
func (h *Hash) parse(s string) error {
	if len(s) != hash64Size || s[hash64Size-1] != '=' {
		return fmt.Errorf("hash %q is not 44 characters of base64: %w", clip(s), ErrMalformed)
	}
	var bad byte
	at := 0
	for i := 0; i < hash64Size-4; i += 4 {
		a, b, c, d := sextet[s[i]], sextet[s[i+1]], sextet[s[i+2]], sextet[s[i+3]]
		bad |= a | b | c | d
		h[at], h[at+1], h[at+2] = a<<2|b>>4, b<<4|c>>2, c<<6|d
		at += 3
	}
	a, b, c := sextet[s[hash64Size-4]], sextet[s[hash64Size-3]], sextet[s[hash64Size-2]]
	bad |= a | b | c
	h[at], h[at+1] = a<<2|b>>4, b<<4|c>>2
	if bad&notSextet != 0 || c&3 != 0 {
		return fmt.Errorf("hash %q is not canonical base64: %w", clip(s), ErrMalformed)
	}
	return nil
}

const notSextet = 0x80

var sextet = func() (t [256]byte) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range t {
		t[i] = notSextet
	}
	for i := range len(alphabet) {
		t[alphabet[i]] = byte(i)
	}
	return t
}()

// parseDecimal reads a number as strconv.FormatUint writes it: no sign, no
// leading zero, at most max.
func parseDecimal(s string, max uint64) (uint64, error) {
	if s == "" || len(s) > 20 || (s[0] == '0' && len(s) > 1) {
		return 0, fmt.Errorf("number %q is not canonical decimal: %w", clip(s), ErrMalformed)
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, fmt.Errorf("number %q is not canonical decimal: %w", clip(s), ErrMalformed)
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > max {
		return 0, fmt.Errorf("number %s is over %d: %w", clip(s), max, ErrMalformed)
	}
	return n, nil
}

// parseBase64 decodes standard base64 in its one canonical spelling.
func parseBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || base64.StdEncoding.EncodedLen(len(b)) != len(s) {
		return nil, fmt.Errorf("%q is not canonical base64: %w", clip(s), ErrMalformed)
	}
	return b, nil
}

// clip keeps hostile text short in errors.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

func appendHash(b []byte, h Hash) []byte { return base64.StdEncoding.AppendEncode(b, h[:]) }
