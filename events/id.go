package events

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
)

// NewID returns a UUIDv7 (RFC 9562 section 5.7) for the given time.
func NewID(at time.Time, random io.Reader) (ID, error) {
	var u uuid.UUID
	if _, err := io.ReadFull(random, u[6:]); err != nil {
		return "", fmt.Errorf("read randomness for an event id: %w", err)
	}
	ms := uint64(at.UnixMilli())
	binary.BigEndian.PutUint16(u[0:], uint16(ms>>32))
	binary.BigEndian.PutUint32(u[2:], uint32(ms))
	return stamp(u, 7), nil
}

// DerivedID returns the UUIDv8 (RFC 9562 section 5.8) of the attempt-th event
// that a consumer derives from a cause. Redelivery of the cause repeats it.
func DerivedID(source Source, cause ID, consumer string, attempt int) ID {
	h := sha256.New()
	for _, s := range []string{"vaultmesh derived event v1", string(source), string(cause), consumer} {
		fmt.Fprintf(h, "%d:%s,", len(s), s)
	}
	fmt.Fprintf(h, "%d", attempt)
	return stamp(uuid.UUID(h.Sum(nil)[:16]), 8)
}

func stamp(u uuid.UUID, version byte) ID {
	u[6] = u[6]&0x0f | version<<4
	u[8] = u[8]&0x3f | 0x80
	return ID(u.String())
}
