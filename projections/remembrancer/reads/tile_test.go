package reads

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

func TestParseTile(t *testing.T) {
	for path, want := range map[string]Tile{
		"0/000":                          {Width: 256},
		"0/x001/x234/067":                {N: 1234067, Width: 256},
		"2/x001/000.p/1":                 {Level: 2, N: 1000, Width: 1},
		"63/999.p/255":                   {Level: 63, N: 999, Width: 255},
		"entries/017.p/20":               {Entries: true, N: 17, Width: 20},
		"0/x036/x028/x797/x018/x963/967": {N: 1<<55 - 1, Width: 256},
		"entries/x001/x234/067":          {Entries: true, N: 1234067, Width: 256},
	} {
		got, err := ParseTile(path)
		if err != nil || got != want || got.String() != path {
			t.Errorf("ParseTile(%q) = %+v (%s), %v", path, got, got, err)
		}
	}
	for _, path := range []string{
		"", "0", "0/", "/000", "00/000", "64/000", "-1/000", "+1/000", "entry/000", "0/0", "0/00", "0/0000", "0/x000", "0/x000/001",
		"0/001/002", "0/x001/x002", "0/X001/002", "0/000.p/0", "0/000.p/256", "0/000.p/01", "0/000.p/", "0/000.p", "0/000.p/1/", "0/000/",
		"0/000.p/1.p/1", "0/x036/x028/x797/x018/x963/968", "0/x999/x999/x999/x999/x999/x999/999", "0/ 00", "0/٠٠٠", "entries", "entries/", "8/x001/.p/3", "0/000.p/+1",
	} {
		if got, err := ParseTile(path); !errors.Is(err, ErrBadRequest) {
			t.Errorf("ParseTile(%q) = %+v, %v", path, got, err)
		}
	}
}

func FuzzParseTile(f *testing.F) {
	for _, s := range []string{"0/000", "1/x001/x234/067.p/255", "entries/000.p/1", "0/x000/001", "63/999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, err := ParseTile(path)
		if err != nil {
			return
		}
		if got.String() != path {
			t.Fatalf("%q has two spellings, the other is %q", path, got)
		}
		if got.N > maxTile || got.Width < 1 || got.Width > 256 || got.Level > 63 || got.Entries && got.Level != 0 {
			t.Fatalf("ParseTile(%q) = %+v", path, got)
		}
		// Our reading is that of the reference, which knows no index this long.
		if want, err := tlog.ParseTilePath("tile/8/" + strings.TrimPrefix(path, "entries/")); !got.Entries && err == nil && (want.N != int64(got.N) || want.W != got.Width) {
			t.Fatalf("ParseTile(%q) = %+v, the reference reads %+v", path, got, want)
		}
	})
}

// tiles reads tiles over HTTP, as an independent client does.
type tiles struct{ w *world }

func (r tiles) Height() int                     { return 8 }
func (r tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (r tiles) ReadTiles(ts []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, t := range ts {
		level := uint8(t.L)
		path := Tile{Level: level, N: uint64(t.N), Width: t.W}.String()
		status, body, _ := r.w.get("/tile/" + path)
		if status != http.StatusOK {
			return nil, errors.New(path + ": " + body)
		}
		out = append(out, []byte(body))
	}
	return out, nil
}

// TestTiles proves every entry with x/mod's tile client over HTTP.
func TestTiles(t *testing.T) {
	w := newWorld(t)
	w.deploys(0, 700)
	head := w.seal()
	w.deploys(700, 100) // folded, not sealed: not served
	status, body, header := w.get("/checkpoint")
	if status != http.StatusOK || body != head.Checkpoint || header.Get("Content-Type") != "text/plain; charset=utf-8" || header.Get("Cache-Control") != "no-cache" {
		t.Fatalf("checkpoint: %d %q %v", status, body, header)
	}
	cp, err := proof.OpenCheckpoint([]byte(body), w.vkey)
	w.check(err)
	reader := tlog.TileHashReader(tlog.Tree{N: int64(cp.Size), Hash: tlog.Hash(cp.Root)}, tiles{w})
	for _, index := range []int64{0, 255, 256, 511, 512, 699} {
		p, err := tlog.ProveRecord(int64(cp.Size), index, reader)
		w.check(err)
		leaf, err := w.ledger.Leaf(uint64(index))
		w.check(err)
		w.check(tlog.CheckRecord(p, int64(cp.Size), tlog.Hash(cp.Root), index, leaf))
	}
	// Bundles hold the preimages of level 0.
	index := uint64(0)
	for _, path := range []string{"entries/000", "entries/001", "entries/002.p/188"} {
		_, body, _ := w.get("/tile/" + path)
		for b := []byte(body); len(b) > 0; index++ {
			n := int(b[0])<<8 | int(b[1])
			leaf, err := w.ledger.Leaf(index)
			w.check(err)
			if proof.LeafHash(b[2:2+n]) != proof.Hash(leaf) {
				t.Fatalf("entry %d of %s is not the leaf", index, path)
			}
			b = b[2+n:]
		}
	}
	if index != 700 {
		t.Errorf("bundles hold %d entries", index)
	}
	for path, want := range map[string]int{
		"0/000": 200, "0/001": 200, "0/002": 404, "0/002.p/188": 200, "0/002.p/187": 200, "0/002.p/189": 404, "0/003": 404, "0/000.p/5": 200,
		"1/000": 404, "1/000.p/2": 200, "1/000.p/3": 404, "2/000.p/1": 404, "7/000.p/1": 404, "8/000.p/1": 404, "63/000": 404,
		"0/x036/x028/x797/x018/x963/967": 404, "entries/002.p/188": 200, "entries/002.p/189": 404,
		"0/0": 400, "64/000": 400, "0/000.p/256": 400, "entries/x000/001": 400, "%65ntries/zzz": 400,
	} {
		status, body, header := w.get("/tile/" + path)
		if status != want {
			t.Errorf("GET /tile/%s: %d, want %d: %s", path, status, want, body)
		}
		if cache := header.Get("Cache-Control"); status == 200 {
			want := "public, max-age=31536000, immutable"
			if strings.HasPrefix(path, "entries") {
				want = "private, max-age=31536000, immutable"
			}
			if cache != want || header.Get("Content-Type") != "application/octet-stream" {
				t.Errorf("GET /tile/%s: headers %v", path, header)
			}
		}
	}
	full, _ := w.ledger.Tile(0, 2, 200)
	if _, body, _ := w.get("/tile/0/002.p/188"); !bytes.Equal([]byte(body), full[:188*32]) {
		t.Error("a partial tile is not the beginning of the full one")
	}
}

func TestTilesBeforeSealing(t *testing.T) {
	w := newWorld(t)
	w.deploys(0, 300)
	for _, path := range []string{"/checkpoint", "/v1/checkpoint", "/tile/0/000", "/tile/entries/000", "/tile/0/000.p/1"} {
		if status, body, _ := w.get(path); status != http.StatusNotFound {
			t.Errorf("GET %s of an unsealed log: %d %s", path, status, body)
		}
	}
}

// TestBehind reads from a node that hears of a head before it has folded it.
func TestBehind(t *testing.T) {
	sealer, w := newWorld(t), newWorld(t)
	sealer.deploys(0, 10)
	head := sealer.seal()
	w.deploys(0, 3)
	w.apply("HEADS", head)
	for _, path := range []string{"/checkpoint", "/tile/0/000.p/10", "/v1/receipts/id-2"} {
		status, body, header := w.get(path)
		if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			t.Errorf("GET %s: %d %s", path, status, body)
		}
	}
	w.deploys(3, 7)
	if status, body, _ := w.get("/checkpoint"); status != http.StatusOK || body != head.Checkpoint {
		t.Errorf("after folding: %d %s", status, body)
	}
}

func TestNeeds(t *testing.T) {
	need := func(public bool) map[string]Need {
		w := newWorld(t, func(_ *Options, d *Doors) { d.PublicLog = public })
		out := map[string]Need{}
		for _, r := range w.routes {
			out[r.Pattern] = r.Need
		}
		return out
	}
	got := need(false)
	for pattern, n := range got {
		want := AnyRead
		switch pattern {
		case "GET /checkpoint", "GET /tile/{path...}", "GET /v1/keys/{name}":
			want = Public
		}
		if n != want {
			t.Errorf("%s needs %s, want %s", pattern, n, want)
		}
	}
	if got := need(true)["GET /tile/entries/{path...}"]; got != Public {
		t.Errorf("bodies of a public log need %s", got)
	}
}
