package ledger

import (
	"encoding/binary"

	"vaultmesh.cloud/vaultmesh/events"
)

// schemaVersion is the version of the key layout.
const schemaVersion = 1

// bundleWidth is the number of leaves in a full tile and entry bundle, fixed by
// C2SP tlog-tiles.
const bundleWidth = 256

var stateKey = []byte{'s'}

func entryKey(b []byte, index uint64) []byte {
	b = append(b, 'e')
	b = binary.BigEndian.AppendUint64(b, index/bundleWidth)
	return append(b, byte(index%bundleWidth))
}

func hashKey(b []byte, level uint8, index uint64) []byte {
	b = append(b, 'h', level)
	b = binary.BigEndian.AppendUint64(b, index/bundleWidth)
	return append(b, byte(index%bundleWidth))
}

func idPrefix(b []byte, id events.ID) []byte {
	b = append(b, 'i')
	b = append(b, id...)
	return append(b, 0)
}

func idKey(b []byte, id events.ID, source events.Source) []byte {
	return append(idPrefix(b, id), source...)
}

func typePrefix(b []byte, t events.Type) []byte {
	b = append(b, 't')
	b = append(b, t...)
	return append(b, 0)
}

func typeKey(b []byte, t events.Type, index uint64) []byte {
	return binary.BigEndian.AppendUint64(typePrefix(b, t), index)
}

func digestKey(b []byte, digest []byte, index uint64) []byte {
	b = append(b, 'd')
	b = append(b, digest...)
	return binary.BigEndian.AppendUint64(b, index)
}

func indexKey(b []byte, kind byte, index uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, kind), index)
}

func repeatKey(b []byte, leaf Hash) []byte {
	return append(append(b, 'r'), leaf[:]...)
}

// after returns the smallest key that does not begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
