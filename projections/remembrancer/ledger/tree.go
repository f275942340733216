package ledger

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// A Hash is a SHA-256 hash of a leaf or node, as in RFC 6962 section 2.1.
type Hash = tlog.Hash

// tileHeight is the height of a tile: 256 hashes wide.
const tileHeight = 8

// An edge is the right edge of a tree: the roots of the perfect subtrees that
// its size is made of, largest first.
type edge struct {
	size uint64
	tops []Hash
}

// add appends a leaf. It calls tile for every hash that enters a row of tiles:
// (0, n, leaf) for the leaf itself, and (level, n, hash) for each subtree of
// 256^level leaves that it completes.
func (e *edge) add(leaf Hash, tile func(level uint8, n uint64, h Hash)) {
	tile(0, e.size, leaf)
	h := leaf
	for height := 0; e.size>>height&1 == 1; height++ {
		last := len(e.tops) - 1
		h = tlog.NodeHash(e.tops[last], h)
		e.tops = e.tops[:last]
		if (height+1)%tileHeight == 0 {
			tile(uint8((height+1)/tileHeight), e.size>>(height+1), h)
		}
	}
	e.tops = append(e.tops, h)
	e.size++
}

// root returns the tree head (RFC 6962 section 2.1); that of an empty tree is
// the hash of nothing.
func (e *edge) root() Hash {
	if e.size == 0 {
		return emptyRoot
	}
	h := e.tops[len(e.tops)-1]
	for i := len(e.tops) - 2; i >= 0; i-- {
		h = tlog.NodeHash(e.tops[i], h)
	}
	return h
}

func (e *edge) clone() edge {
	return edge{e.size, append(make([]Hash, 0, 64), e.tops...)}
}

// emptyRoot is SHA-256 of the empty string, the head of a tree without leaves.
var emptyRoot, _ = tlog.TreeHash(0, nil)

// loadEdge reads the right edge of the first size leaves.
func loadEdge(r *reader, size uint64) (edge, error) {
	e := edge{size: size}
	start := uint64(0)
	for height := 63; height >= 0; height-- {
		if size>>height&1 == 0 {
			continue
		}
		h, err := r.subtree(height, start>>height)
		if err != nil {
			return edge{}, fmt.Errorf("load the edge of %d leaves: %w", size, err)
		}
		e.tops = append(e.tops, h)
		start += 1 << height
	}
	return e, nil
}
