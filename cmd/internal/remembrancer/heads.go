package remembrancer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// A seenHead is DATA/clients/<origin>.json: the newest head of a log that this
// user ever saw. A node that later shows an older or another history is refused.
type seenHead struct {
	Format     string `json:"format"`
	Origin     string `json:"origin"`
	VKey       string `json:"vkey"` // trusted since the first use
	Checkpoint string `json:"checkpoint"`
}

const seenFormat = "vaultmesh.cloud/client-head/v1"

// clientFile names the file of an origin, which is text from outside.
func clientFile(origin string) string {
	name := url.PathEscape(origin) // no '/', no NUL
	if len(name) > 200 {
		sum := sha256.Sum256([]byte(origin))
		name = hex.EncodeToString(sum[:])
	}
	return name + ".json"
}

// follow checks that a verified head continues the newest one that this user
// saw, and remembers it. The steps are in this order so that a refused head never
// replaces the good one.
func (c *client) follow(ctx context.Context, dir, vkey string, note []byte) (err error) {
	head, err := proof.OpenCheckpoint(note, vkey)
	if err != nil {
		return unverified("", "%w", err)
	}
	dir = filepath.Join(dir, "clients")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("remember the head: %w", err)
	}
	file := filepath.Join(dir, clientFile(head.Origin))
	unlock, err := lock(file + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	seen, known, err := readSeen(file, head.Origin)
	if err != nil {
		return err
	}
	if known {
		if seen.VKey != vkey {
			return unverified("if the operator told you of a new log key, remove "+file, "the log %s now has another key than before", head.Origin)
		}
		old, err := proof.OpenCheckpoint([]byte(seen.Checkpoint), seen.VKey)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if old.Size > head.Size {
			// Another command may have seen a newer head since this one asked.
			if head, note, err = c.newerThan(ctx, vkey, head, note); err != nil {
				return err
			}
		}
		if err := c.continues(ctx, old, head); err != nil {
			if term.KindOf(err) == term.Unverified {
				keepEvidence(file, seen.Checkpoint, string(note))
			}
			return err
		}
		if old.Size == head.Size {
			return nil
		}
	}
	b, err := json.MarshalIndent(seenHead{seenFormat, head.Origin, vkey, string(note)}, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(file, append(b, '\n'), 0o600, true)
}

// newerThan asks for the node's head of now and checks that it continues head.
func (c *client) newerThan(ctx context.Context, vkey string, head proof.Checkpoint, note []byte) (proof.Checkpoint, []byte, error) {
	fresh, err := c.getBytes(ctx, "/checkpoint", proof.MaxCheckpoint)
	if err != nil {
		return head, nil, err
	}
	now, err := proof.OpenCheckpoint(fresh, vkey)
	if err != nil {
		return head, nil, unverified("", "%w", err)
	}
	if now.Size <= head.Size {
		return head, note, nil
	}
	return now, fresh, c.continues(ctx, head, now)
}

func readSeen(file, origin string) (seenHead, bool, error) {
	var seen seenHead
	b, err := readFile(file, 2*proof.MaxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return seen, false, nil
	}
	if err == nil {
		err = decode(b, &seen)
	}
	if err == nil && (seen.Format != seenFormat || seen.Origin != origin) {
		err = fmt.Errorf("not a remembered head of %s", origin)
	}
	if err != nil {
		return seen, false, term.Errorf(term.Failure, "if you know why, remove the file; the next head is then trusted unseen", "%s: %w", file, err)
	}
	return seen, true, nil
}

// keepEvidence saves two heads that do not fit together. It is best effort: the
// refusal itself is what counts.
func keepEvidence(file, seen, shown string) {
	sum := sha256.Sum256([]byte(shown))
	name := strings.TrimSuffix(file, ".json") + ".fork-" + hex.EncodeToString(sum[:4])
	_ = writeFile(name, []byte("seen before:\n\n"+seen+"\nshown now:\n\n"+shown), 0o600, true)
}

// lock takes an advisory lock, so that two commands do not remember in turns.
func lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}

// continues checks by the log's tiles that old is a prefix of head.
func (c *client) continues(ctx context.Context, old, head proof.Checkpoint) error {
	switch {
	case head.Size < old.Size:
		return unverified("ask the operator what became of the log; both heads are kept in the data directory's clients/",
			"the node shows the log %s with %d entries, but it had %d before: rolled back", head.Origin, head.Size, old.Size)
	case head.Size == old.Size:
		if head.Root != old.Root {
			return forked(old, head, errors.New("two roots of one size"))
		}
		return nil
	case old.Size == 0:
		return nil
	}
	reader := tlog.TileHashReader(tlog.Tree{N: int64(head.Size), Hash: tlog.Hash(head.Root)}, &tiles{ctx: ctx, c: c})
	path, err := tlog.ProveTree(int64(head.Size), int64(old.Size), reader)
	if err != nil {
		if k := term.KindOf(err); k != term.Failure {
			return err
		}
		return forked(old, head, err)
	}
	hashes := make([]proof.Hash, len(path))
	for i := range path {
		hashes[i] = proof.Hash(path[i])
	}
	if err := proof.VerifyConsistency(old.Size, head.Size, hashes, old.Root, head.Root); err != nil {
		return forked(old, head, err)
	}
	return nil
}

func forked(old, head proof.Checkpoint, err error) error {
	return unverified("both heads are kept in the data directory's clients/: show them to the operator and to peers",
		"the log %s shows two histories: %d entries now do not continue the %d seen before: %w", head.Origin, head.Size, old.Size, err)
}

// tiles reads hash tiles over HTTP (C2SP tlog-tiles). What it returns is checked
// against the root by tlog.TileHashReader.
type tiles struct {
	ctx context.Context
	c   *client
}

// tileHeight is fixed by C2SP tlog-tiles.
const tileHeight = 8

// Height implements tlog.TileReader.
func (t *tiles) Height() int { return tileHeight }

// SaveTiles implements tlog.TileReader; nothing is cached.
func (t *tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// ReadTiles implements tlog.TileReader.
func (t *tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(want))
	for i, tile := range want {
		b, err := t.read(tile)
		if err != nil {
			return nil, err
		}
		out[i] = b
	}
	return out, nil
}

func (t *tiles) read(tile tlog.Tile) ([]byte, error) {
	size := tile.W * tlog.HashSize
	full := tile
	full.W = 1 << tileHeight
	for _, from := range []tlog.Tile{tile, full} {
		// A partial tile may be gone once the full one is there.
		b, err := t.c.bytes(t.ctx, call{method: http.MethodGet, path: tilePath(from), most: tlog.HashSize << tileHeight})
		if term.KindOf(err) == term.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(b) != from.W*tlog.HashSize {
			return nil, fmt.Errorf("tile %s has %d bytes", tilePath(from), len(b))
		}
		return b[:size], nil
	}
	return nil, fmt.Errorf("the node has no tile %s", tilePath(tile))
}

// tilePath turns "tile/8/0/x001/067.p/5" into "/tile/0/x001/067.p/5".
func tilePath(tile tlog.Tile) string {
	return "/tile" + strings.TrimPrefix(tile.Path(), "tile/8")
}

// prove returns the tlog-proof of a leaf in a head, by the log's tiles.
func (c *client) prove(ctx context.Context, index uint64, head proof.Checkpoint, note []byte) ([]byte, error) {
	reader := tlog.TileHashReader(tlog.Tree{N: int64(head.Size), Hash: tlog.Hash(head.Root)}, &tiles{ctx: ctx, c: c})
	path, err := tlog.ProveRecord(int64(head.Size), int64(index), reader)
	if err != nil {
		return nil, fmt.Errorf("prove leaf %d: %w", index, err)
	}
	p := proof.TLogProof{Index: index, Checkpoint: note}
	for _, h := range path {
		p.Hashes = append(p.Hashes, proof.Hash(h))
	}
	return p.Marshal(), nil
}
