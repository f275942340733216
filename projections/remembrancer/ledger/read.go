package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/mod/sumdb/tlog"
)

// A reader reads tiles from a store.
type reader struct{ db pebble.Reader }

func (l *Ledger) reader() *reader { return &reader{l.db} }

// hashes returns the hashes [from, to) of a row of tiles, which must lie in one
// tile.
func (r *reader) hashes(level uint8, from, to uint64) ([]Hash, error) {
	tile := from / bundleWidth
	b, err := r.segments(hashKey(nil, level, tile*bundleWidth)[:10], int(to-tile*bundleWidth)*tlog.HashSize)
	if err != nil {
		return nil, fmt.Errorf("read tile %d of level %d: %w", tile, level, err)
	}
	want := int(to-tile*bundleWidth) * tlog.HashSize
	if len(b) < want {
		return nil, fmt.Errorf("%w: tile %d of level %d has %d hashes, want %d", ErrCorrupt, tile, level, len(b)/tlog.HashSize, want/tlog.HashSize)
	}
	out := make([]Hash, 0, to-from)
	for at := int(from%bundleWidth) * tlog.HashSize; at < want; at += tlog.HashSize {
		out = append(out, Hash(b[at:at+tlog.HashSize]))
	}
	return out, nil
}

// segments joins the values under a prefix, up to enough bytes.
func (r *reader) segments(prefix []byte, enough int) ([]byte, error) {
	it, err := r.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, err
	}
	var out []byte
	for ok := it.First(); ok && len(out) < enough; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		out = append(out, v...)
	}
	return out, errors.Join(it.Error(), it.Close())
}

// subtree returns the root of the n-th perfect subtree of 2^height leaves.
func (r *reader) subtree(height int, n uint64) (Hash, error) {
	level, up := uint8(height/tileHeight), height%tileHeight
	hs, err := r.hashes(level, n<<up, (n+1)<<up)
	if err != nil {
		return Hash{}, err
	}
	for len(hs) > 1 {
		for i := 0; i < len(hs)/2; i++ {
			hs[i] = tlog.NodeHash(hs[2*i], hs[2*i+1])
		}
		hs = hs[:len(hs)/2]
	}
	return hs[0], nil
}

// ReadHashes implements [tlog.HashReader] over stored-hash indexes.
func (r *reader) ReadHashes(indexes []int64) ([]Hash, error) {
	out := make([]Hash, len(indexes))
	for i, index := range indexes {
		height, n := tlog.SplitStoredHashIndex(index)
		h, err := r.subtree(height, uint64(n))
		if err != nil {
			return nil, err
		}
		out[i] = h
	}
	return out, nil
}

// Root returns the root of the first size leaves.
func (l *Ledger) Root(size uint64) (Hash, error) {
	head := l.Head()
	switch {
	case size > head.Size:
		return Hash{}, fmt.Errorf("root of %d leaves, the log has %d: %w", size, head.Size, ErrNotFound)
	case size == head.Size:
		return head.Root, nil
	}
	e, err := loadEdge(l.reader(), size)
	if err != nil {
		return Hash{}, err
	}
	return e.root(), nil
}

// Inclusion returns the audit path of the leaf at index in the tree of the first
// size leaves (RFC 6962 section 2.1.1).
func (l *Ledger) Inclusion(index, size uint64) ([]Hash, error) {
	if head := l.Head(); size > head.Size || index >= size {
		return nil, fmt.Errorf("prove leaf %d in %d leaves, the log has %d: %w", index, size, head.Size, ErrNotFound)
	}
	p, err := tlog.ProveRecord(int64(size), int64(index), l.reader())
	if err != nil {
		return nil, fmt.Errorf("prove leaf %d in %d leaves: %w", index, size, err)
	}
	return p, nil
}

// Consistency returns the proof that the first from leaves are a prefix of the
// first to leaves (RFC 6962 section 2.1.2); it is empty when from is 0 or to.
func (l *Ledger) Consistency(from, to uint64) ([]Hash, error) {
	if head := l.Head(); to > head.Size || from > to {
		return nil, fmt.Errorf("prove consistency of %d with %d leaves, the log has %d: %w", from, to, head.Size, ErrNotFound)
	}
	if from == 0 || from == to {
		return nil, nil
	}
	p, err := tlog.ProveTree(int64(to), int64(from), l.reader())
	if err != nil {
		return nil, fmt.Errorf("prove consistency of %d with %d leaves: %w", from, to, err)
	}
	return p, nil
}

// Leaf returns the leaf hash at index.
func (l *Ledger) Leaf(index uint64) (Hash, error) {
	hs, err := l.Leaves(index, index+1)
	if err != nil {
		return Hash{}, err
	}
	return hs[0], nil
}

// Leaves returns the leaf hashes [from, to).
func (l *Ledger) Leaves(from, to uint64) ([]Hash, error) {
	if head := l.Head(); to > head.Size || from > to {
		return nil, fmt.Errorf("leaves %d to %d, the log has %d: %w", from, to, head.Size, ErrNotFound)
	}
	out := make([]Hash, 0, to-from)
	for from < to {
		end := min(to, (from/bundleWidth+1)*bundleWidth)
		hs, err := l.reader().hashes(0, from, end)
		if err != nil {
			return nil, err
		}
		out, from = append(out, hs...), end
	}
	return out, nil
}

// Tile returns the bytes of a hash tile of C2SP tlog-tiles: width hashes of row
// level. ErrNotFound when the log has not grown that far.
func (l *Ledger) Tile(level uint8, n uint64, width int) ([]byte, error) {
	if err := l.checkTile(level, n, width); err != nil {
		return nil, err
	}
	hs, err := l.reader().hashes(level, n*bundleWidth, n*bundleWidth+uint64(width))
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, width*tlog.HashSize)
	for _, h := range hs {
		out = append(out, h[:]...)
	}
	return out, nil
}

func (l *Ledger) checkTile(level uint8, n uint64, width int) error {
	if level > 63/tileHeight || width < 1 || width > bundleWidth || n > 1<<55 {
		return fmt.Errorf("tile %d of level %d, %d wide: %w", n, level, width, ErrNotFound)
	}
	if row := l.Head().Size >> (tileHeight * int(level)); n*bundleWidth+uint64(width) > row {
		return fmt.Errorf("tile %d of level %d, %d wide, the row has %d hashes: %w", n, level, width, row, ErrNotFound)
	}
	return nil
}

// Bundle returns the bytes of an entry bundle of C2SP tlog-tiles: width entries.
func (l *Ledger) Bundle(n uint64, width int) ([]byte, error) {
	if err := l.checkTile(0, n, width); err != nil {
		return nil, err
	}
	b, err := l.reader().segments(entryKey(nil, n*bundleWidth)[:9], 1<<62)
	if err != nil {
		return nil, fmt.Errorf("read entry bundle %d: %w", n, err)
	}
	rest := b
	for i := range width {
		if _, rest, err = cutEntry(rest); err != nil {
			return nil, fmt.Errorf("entry %d of bundle %d: %w", i, n, err)
		}
	}
	return b[:len(b)-len(rest)], nil
}

// cutEntry splits the first entry off a bundle.
func cutEntry(b []byte) (entry, rest []byte, err error) {
	if len(b) < 2 {
		return nil, nil, fmt.Errorf("%w: the bundle ends early", ErrCorrupt)
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, fmt.Errorf("%w: the bundle ends within an entry", ErrCorrupt)
	}
	return b[2 : 2+n], b[2+n:], nil
}
