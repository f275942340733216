package bus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"syscall"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
)

// A record of an outbox segment. On disk, little endian:
//
//	 0  4  "VMO1"
//	 4  4  CRC-32C of all that follows
//	 8  4  length of the payload
//	12  8  bytes of this segment that were durable when the record was written
//	20  1  kind
//	21  n  payload: for put 8 time in ns, 2 length and id, 2 length and subject,
//	       body; for done the id
type record struct {
	kind    byte
	id      events.ID
	at      time.Time
	subject string
	body    []byte
}

const (
	recordPut  = 1
	recordDone = 2

	recordHead = 21
	maxPayload = 1 << 20
)

var (
	recordMagic = []byte("VMO1")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errRecord   = errors.New("not a whole record")
)

func (r record) append(b []byte, synced int64) []byte {
	start := len(b)
	b = append(b, recordMagic...)
	b = append(b, make([]byte, recordHead-len(recordMagic))...)
	if r.kind == recordPut {
		b = binary.LittleEndian.AppendUint64(b, uint64(r.at.UnixNano()))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(r.id)))
		b = append(b, r.id...)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(r.subject)))
		b = append(b, r.subject...)
		b = append(b, r.body...)
	} else {
		b = append(b, r.id...)
	}
	head := b[start:]
	binary.LittleEndian.PutUint32(head[8:], uint32(len(head)-recordHead))
	binary.LittleEndian.PutUint64(head[12:], uint64(synced))
	head[20] = r.kind
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(head[8:], castagnoli))
	return b
}

// parseRecord reads the record at the start of b and returns its length.
func parseRecord(b []byte) (record, int, error) {
	if len(b) < recordHead || !bytes.HasPrefix(b, recordMagic) {
		return record{}, 0, errRecord
	}
	n := int(binary.LittleEndian.Uint32(b[8:]))
	if n > maxPayload || len(b) < recordHead+n {
		return record{}, 0, errRecord
	}
	b = b[:recordHead+n]
	if crc32.Checksum(b[8:], castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return record{}, 0, errRecord
	}
	r := record{kind: b[20]}
	payload := b[recordHead:]
	switch r.kind {
	case recordDone:
		r.id = events.ID(payload)
		return r, len(b), nil
	case recordPut:
		if len(payload) < 8 {
			return record{}, 0, errRecord
		}
		r.at = time.Unix(0, int64(binary.LittleEndian.Uint64(payload)))
		id, rest, ok := cutShort(payload[8:])
		subject, body, ok2 := cutShort(rest)
		if !ok || !ok2 {
			return record{}, 0, errRecord
		}
		r.id, r.subject, r.body = events.ID(id), string(subject), body
		return r, len(b), nil
	}
	return record{}, 0, errRecord
}

// cutShort cuts a field with a length of two bytes from the front.
func cutShort(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.LittleEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// promised reports whether bytes that do not parse, at the given offset of their
// segment, had been synced: a later record says so. Otherwise they are the tail of
// a write that a crash cut off, whose pages may have reached the disk in any order.
func promised(b []byte, offset int64) bool {
	for i := 1; i <= len(b); i++ {
		j := bytes.Index(b[i:], recordMagic)
		if j < 0 {
			return false
		}
		i += j
		if _, _, err := parseRecord(b[i:]); err == nil && int64(binary.LittleEndian.Uint64(b[i+12:])) > offset {
			return true
		}
	}
	return false
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
