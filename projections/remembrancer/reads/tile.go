package reads

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
)

// tileWidth is the number of hashes in a full tile, and of entries in a full
// bundle.
const tileWidth = 256

// maxTile is the largest index of a tile that any log can have: 2^63 leaves.
const maxTile = 1<<55 - 1

// A Tile names a resource of C2SP tlog-tiles.
type Tile struct {
	Entries bool   // an entry bundle; Level is 0
	Level   uint8  // 0 to 63
	N       uint64 // within the level
	Width   int    // 1 to 256; below 256 it is partial
}

// ParseTile reads what follows "/tile/" in a path, in its one spelling:
// "0/x001/x234/067", "entries/000.p/17".
func ParseTile(path string) (Tile, error) {
	t, ok := parseTile(path)
	if !ok {
		return Tile{}, fmt.Errorf("%w: %q is not a tile: write <level or entries>/<index in groups such as x001/x234/067>[.p/<1 to 255>] (c2sp.org/tlog-tiles)", ErrBadRequest, clip(path))
	}
	return t, nil
}

func parseTile(path string) (t Tile, ok bool) {
	head, rest, ok := strings.Cut(path, "/")
	if !ok {
		return t, false
	}
	if head == "entries" {
		t.Entries = true
	} else {
		level, ok := decimal(head, 63)
		if !ok {
			return t, false
		}
		t.Level = uint8(level)
	}
	t.Width = tileWidth
	if index, width, partial := strings.Cut(rest, ".p/"); partial {
		w, ok := decimal(width, tileWidth-1)
		if !ok || w == 0 {
			return t, false
		}
		rest, t.Width = index, int(w)
	}
	groups := strings.Split(rest, "/")
	for i, g := range groups {
		if i < len(groups)-1 {
			if g, ok = strings.CutPrefix(g, "x"); !ok {
				return t, false
			}
		}
		if len(g) != 3 || !isDigits(g) || i == 0 && len(groups) > 1 && g == "000" {
			return t, false
		}
		n, _ := strconv.Atoi(g)
		if t.N = t.N*1000 + uint64(n); t.N > maxTile {
			return t, false
		}
	}
	return t, true
}

// String returns the path below "/tile/".
func (t Tile) String() string {
	n := fmt.Sprintf("%03d", t.N%1000)
	for rest := t.N / 1000; rest > 0; rest /= 1000 {
		n = fmt.Sprintf("x%03d/%s", rest%1000, n)
	}
	if t.Width < tileWidth {
		n += fmt.Sprintf(".p/%d", t.Width)
	}
	if t.Entries {
		return "entries/" + n
	}
	return fmt.Sprintf("%d/%s", t.Level, n)
}

// Tile returns the bytes of a hash tile or entry bundle, as far as the published
// checkpoint vouches for it: what is folded but not sealed is ErrNotFound. A
// partial tile is served whenever the tree is that wide: its bytes are the
// beginning of the full tile and never change.
func (r *Reader) Tile(_ context.Context, t Tile) ([]byte, error) {
	head, _ := r.o.Heads.Latest()
	row := uint64(0)
	if t.Level <= 7 { // a row of level 8 would need 2^64 leaves
		row = head.Size >> (8 * t.Level)
	}
	if t.Width < 1 || t.N*tileWidth+uint64(t.Width) > row {
		return nil, fmt.Errorf("%w: tile %s, the published checkpoint has %d entries", ErrNotFound, t, head.Size)
	}
	var b []byte
	var err error
	if t.Entries {
		b, err = r.o.Ledger.Bundle(t.N, t.Width)
	} else {
		b, err = r.o.Ledger.Tile(t.Level, t.N, t.Width)
	}
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, fmt.Errorf("%w: tile %s: this node has not folded it", ErrNotYet, t)
	}
	if err != nil {
		return nil, fmt.Errorf("read tile %s: %w", t, err)
	}
	return b, nil
}

// decimal reads a number without sign or leading zeros, at most most.
func decimal(s string, most uint64) (uint64, bool) {
	if s == "" || len(s) > 20 || len(s) > 1 && s[0] == '0' || !isDigits(s) {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= most
}

func isDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
