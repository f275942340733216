package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/mod/sumdb/tlog"
)

// A Divergence is the first place where an audit found two accounts of the log
// that differ.
type Divergence struct {
	Index uint64 // of the first leaf that differs or is missing
	What  string // which two accounts differ, and how
}

func (d *Divergence) Error() string {
	return fmt.Sprintf("the log differs from index %d on: %s", d.Index, d.What)
}

func (d *Divergence) Unwrap() error { return ErrCorrupt }

// A PublishedHead is the size and root of a checkpoint that was published.
type PublishedHead struct {
	Size uint64
	Root Hash
}

// Audit recomputes every leaf, tile and root from the stored entries, and checks
// that each published head (ascending by size) is the root at its size. It calls
// progress, if not nil, with the number of entries done. The error is a
// *Divergence for the first entry that does not hold.
func (l *Ledger) Audit(ctx context.Context, heads []PublishedHead, progress func(done uint64)) (Head, error) {
	// A snapshot keeps the view steady while the fold goes on.
	snap := l.db.NewSnapshot()
	defer snap.Close() //nolint:errcheck // a snapshot has nothing to flush
	head := l.Head()
	a := auditor{r: &reader{snap}, heads: heads}
	if err := a.published(); err != nil {
		return head, err
	}
	err := a.r.entries(0, head.Size, func(index uint64, b []byte) error {
		if index%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("audit entry %d: %w", index, err)
			}
			if progress != nil {
				progress(index)
			}
		}
		return a.entry(index, b)
	})
	if errors.Is(err, ErrCorrupt) {
		var d *Divergence
		if !errors.As(err, &d) {
			return head, &Divergence{a.edge.size, err.Error()}
		}
	}
	if err != nil {
		return head, err
	}
	if len(a.heads) > 0 {
		return head, &Divergence{head.Size, fmt.Sprintf("a checkpoint of size %d was published, the store has %d entries", a.heads[0].Size, head.Size)}
	}
	if got := a.edge.root(); got != head.Root {
		return head, &Divergence{0, fmt.Sprintf("entries give root %s at size %d, the state says %s", got, head.Size, head.Root)}
	}
	if progress != nil {
		progress(head.Size)
	}
	return head, nil
}

type auditor struct {
	r      *reader
	edge   edge
	heads  []PublishedHead // still to come
	leaves []Hash          // stored leaves of the bundle at hand
	key    []byte
}

func (a *auditor) entry(index uint64, b []byte) error {
	if index%bundleWidth == 0 || len(a.leaves) == 0 {
		stored, err := a.r.segments(hashKey(nil, 0, index)[:10], bundleWidth*tlog.HashSize)
		if err != nil {
			return err
		}
		a.leaves = a.leaves[:0]
		for ; len(stored) >= tlog.HashSize; stored = stored[tlog.HashSize:] {
			a.leaves = append(a.leaves, Hash(stored[:tlog.HashSize]))
		}
	}
	leaf := tlog.RecordHash(b)
	if at := int(index % bundleWidth); at >= len(a.leaves) || a.leaves[at] != leaf {
		return &Divergence{index, "the entry's bytes do not hash to the stored leaf"}
	}
	var bad error
	a.edge.add(leaf, func(level uint8, n uint64, h Hash) {
		if level == 0 || bad != nil {
			return
		}
		stored, err := a.r.hashes(level, n, n+1)
		if err != nil {
			bad = &Divergence{n << (tileHeight * int(level)), err.Error()}
		} else if stored[0] != h {
			bad = &Divergence{n << (tileHeight * int(level)), fmt.Sprintf("hash %d of level %d does not follow from its leaves", n, level)}
		}
	})
	if bad != nil {
		return bad
	}
	if err := a.indexed(index, b, leaf); err != nil {
		return err
	}
	return a.published()
}

// indexed checks that the duplicate index leads from the entry to itself: a
// wrong one would let an event in twice.
func (a *auditor) indexed(index uint64, b []byte, leaf Hash) error {
	e, err := parseEntry(index, b)
	if err != nil {
		return err
	}
	if e.Quarantine != nil {
		a.key = repeatKey(a.key[:0], leaf)
	} else {
		a.key = idKey(a.key[:0], e.Event.ID, e.Event.Source)
	}
	v, closer, err := a.r.db.Get(a.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return &Divergence{index, "the duplicate index does not know the entry"}
	}
	if err != nil {
		return fmt.Errorf("read the duplicate index: %w", err)
	}
	got := binary.BigEndian.Uint64(v)
	if err := closer.Close(); err != nil {
		return fmt.Errorf("read the duplicate index: %w", err)
	}
	if got != index {
		return &Divergence{index, fmt.Sprintf("the duplicate index says entry %d", got)}
	}
	return nil
}

// published checks the heads of the size reached.
func (a *auditor) published() error {
	for len(a.heads) > 0 && a.heads[0].Size == a.edge.size {
		if got := a.edge.root(); got != a.heads[0].Root {
			return &Divergence{max(a.edge.size, 1) - 1, fmt.Sprintf("the checkpoint published at size %d has root %s, the entries give %s", a.heads[0].Size, a.heads[0].Root, got)}
		}
		a.heads = a.heads[1:]
	}
	if len(a.heads) > 0 && a.heads[0].Size < a.edge.size {
		return fmt.Errorf("audit: published heads must ascend by size")
	}
	return nil
}

// Compare finds the first leaf in which two ledgers differ, within the size of
// the smaller; a *Divergence, or nil.
func Compare(a, b *Ledger, nameA, nameB string) error {
	size := min(a.Head().Size, b.Head().Size)
	for from := uint64(0); from < size; from += bundleWidth {
		to := min(from+bundleWidth, size)
		ha, err := a.Leaves(from, to)
		if err != nil {
			return err
		}
		hb, err := b.Leaves(from, to)
		if err != nil {
			return err
		}
		for i := range ha {
			if ha[i] != hb[i] {
				return &Divergence{from + uint64(i), fmt.Sprintf("%s and %s have different leaves", nameA, nameB)}
			}
		}
	}
	return nil
}
