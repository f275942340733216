package openpgp

import (
	"bytes"
	"encoding/base64"
	"fmt"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

const (
	armorSignature = "PGP SIGNATURE"
	armorPublic    = "PGP PUBLIC KEY BLOCK"
	armorPrivate   = "PGP PRIVATE KEY BLOCK"
)

// dearmor returns the binary form of data. Binary input (first bit set, RFC
// 9580, section 4.2) is returned as it is. Armor must be exactly one block of
// the given type with nothing but white space around it, so that two readers
// of one file cannot see two different signatures; the library's decoder skips
// text before the block, ignores what follows and does not check the CRC.
func dearmor(data []byte, blockType string) ([]byte, error) {
	if len(data) > 0 && data[0]&0x80 != 0 {
		return data, nil
	}
	text := bytes.ReplaceAll(bytes.TrimSpace(data), []byte("\r\n"), []byte("\n"))
	lines := bytes.Split(text, []byte("\n"))
	begin, end := []byte("-----BEGIN "+blockType+"-----"), []byte("-----END "+blockType+"-----")
	if len(lines) < 3 || !bytes.Equal(bytes.TrimRight(lines[0], " \t"), begin) {
		return nil, fmt.Errorf("no %s block at the start: %w", blockType, ErrMalformed)
	}
	if !bytes.Equal(lines[len(lines)-1], end) {
		return nil, fmt.Errorf("text after the %s block, or no end line: %w", blockType, ErrMalformed)
	}
	lines = lines[1 : len(lines)-1]
	// Headers run to the first blank line (RFC 9580, section 6.2.2).
	for {
		if len(lines) == 0 {
			return nil, fmt.Errorf("%s has no blank line after its headers: %w", blockType, ErrMalformed)
		}
		line := bytes.TrimSpace(lines[0])
		lines = lines[1:]
		if len(line) == 0 {
			break
		}
		if !bytes.Contains(line, []byte(": ")) && !bytes.HasSuffix(line, []byte(":")) {
			return nil, fmt.Errorf("%s has a bad header line: %w", blockType, ErrMalformed)
		}
	}
	var crc []byte
	if n := len(lines); n > 0 {
		if last := bytes.TrimSpace(lines[n-1]); len(last) == 5 && last[0] == '=' {
			crc, lines = last[1:], lines[:n-1]
		}
	}
	var b64 bytes.Buffer
	for _, line := range lines {
		b64.Write(bytes.TrimSpace(line))
	}
	out, err := base64.StdEncoding.Strict().DecodeString(b64.String())
	if err != nil || len(out) == 0 {
		return nil, fmt.Errorf("%s is not base64: %w", blockType, ErrMalformed)
	}
	if crc != nil && string(crc) != crcText(out) {
		return nil, fmt.Errorf("%s fails its checksum: %w", blockType, ErrMalformed)
	}
	return out, nil
}

// crcText is the armor checksum, RFC 9580, section 6.1.1.
func crcText(data []byte) string {
	crc := uint32(0xb704ce)
	for _, b := range data {
		crc ^= uint32(b) << 16
		for range 8 {
			crc <<= 1
			if crc&0x1000000 != 0 {
				crc ^= 0x1864cfb
			}
		}
	}
	return base64.StdEncoding.EncodeToString([]byte{byte(crc >> 16), byte(crc >> 8), byte(crc)})
}

func enarmor(data []byte, blockType string) ([]byte, error) {
	var buf bytes.Buffer
	w, err := armor.Encode(&buf, blockType, nil)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	buf.WriteByte('\n')
	return buf.Bytes(), nil
}
