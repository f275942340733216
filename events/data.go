package events

import (
	"bytes"
	"errors"
	"unicode/utf8"

	"vaultmesh.cloud/vaultmesh/events/canon"
)

var (
	errNull  = errors.New("null stands for nothing: leave the member out")
	errEmpty = errors.New("an empty string or name stands for nothing: leave the member out")
)

// Unmarshal decodes canonical JSON into v. It refuses members that v does not
// name, and null and empty strings anywhere: Go cannot tell them from absent
// members, a schema can, and one fact must have one form.
func Unmarshal(data []byte, v any) error {
	if err := RefuseNothing(data); err != nil {
		return err
	}
	return canon.Unmarshal(data, v)
}

// RefuseNothing refuses null and empty strings and names anywhere in canonical
// JSON: what has no value is left out. Two searches settle nearly
// every event, since both are rare within strings too.
func RefuseNothing(data []byte) error {
	for at := 0; ; {
		i := bytes.Index(data[at:], []byte(`""`))
		if i < 0 {
			break
		}
		// The only other place of two quotes is `\""`, at the end of a string.
		if at += i; at == 0 || data[at-1] != '\\' {
			return errEmpty
		}
		at++
	}
	if bytes.Contains(data, []byte("null")) && hasNull(data) {
		return errNull
	}
	return nil
}

func hasNull(data []byte) bool {
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case 'n':
			return true
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		}
	}
	return false
}

// MaxEntity is how many bytes the subject of an event may have.
const MaxEntity = 128

// ClipEntity cuts a name to MaxEntity bytes, between two code points.
func ClipEntity(name string) string {
	if len(name) <= MaxEntity {
		return name
	}
	n := MaxEntity
	for n > MaxEntity-utf8.UTFMax && !utf8.RuneStart(name[n]) {
		n--
	}
	return name[:n]
}
