package remembrancer

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestTiles compares every hash tile with what the entries hash to. The full
// count fills a tile of level 1 and begins one of level 2 (C2SP tlog-tiles).
func TestTiles(t *testing.T) {
	batches := 3
	if os.Getenv("VAULTMESH_FAULTS") == "full" {
		batches = 70
	}
	data := t.TempDir()
	n := start(t, data, "127.0.0.1:0", "127.0.0.1:0")
	producer := token(t, data, "producer")
	began := time.Now()
	for b := range batches {
		list := make([]string, 1000)
		for i := range list {
			list[i] = deploy("api", fmt.Sprintf("%d-%d", b, i))
		}
		body := "[" + strings.Join(list, ",") + "]"
		if code, _, answer := ask(t, http.MethodPost, n.HTTP+"/v1/events", producer, manyEvents, body); code != http.StatusCreated {
			t.Fatalf("batch %d: %d %.200s", b, code, answer)
		}
	}
	t.Logf("%d events in %v", batches*1000, time.Since(began))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if size, _ := head(t, get(t, n.HTTP+"/checkpoint")); size > batches*1000 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no checkpoint covers the events")
		}
	}
	log := readLog(t, n)

	const width = 256
	hashes := make([][sha256.Size]byte, len(log.leaves))
	for i, leaf := range log.leaves {
		hashes[i] = sha256.Sum256(append([]byte{0}, leaf...))
	}
	for level := 0; len(hashes) > 0; level++ {
		var next [][sha256.Size]byte
		for at := 0; at < len(hashes); at += width {
			tile := hashes[at:min(at+width, len(hashes))]
			path := fmt.Sprintf("%s/tile/%d/%03d", n.HTTP, level, at/width)
			if len(tile) < width {
				path += fmt.Sprintf(".p/%d", len(tile))
			}
			code, header, got := ask(t, http.MethodGet, path, "", "", "")
			var want []byte
			for _, h := range tile {
				want = append(want, h[:]...)
			}
			if code != http.StatusOK || !bytes.Equal(got, want) {
				t.Fatalf("%s: %d, %d bytes that are not the hashes of its entries", path, code, len(got))
			}
			if len(tile) == width && !strings.Contains(header.Get("Cache-Control"), "immutable") {
				t.Errorf("%s: Cache-Control %q", path, header.Get("Cache-Control"))
			}
			if len(tile) == width {
				// The root of a full tile is the hash one level of tiles up.
				row := append([][sha256.Size]byte(nil), tile...)
				for ; len(row) > 1; row = row[:len(row)/2] {
					for i := range len(row) / 2 {
						row[i] = sha256.Sum256(append(append([]byte{1}, row[2*i][:]...), row[2*i+1][:]...))
					}
				}
				next = append(next, row[0])
			}
		}
		// What no checkpoint covers is not shown.
		beyond := fmt.Sprintf("%s/tile/%d/%03d", n.HTTP, level, len(hashes)/width)
		if code, _, _ := ask(t, http.MethodGet, beyond, "", "", ""); code != http.StatusNotFound {
			t.Errorf("%s: %d", beyond, code)
		}
		hashes = next
	}
	for _, bad := range []string{"/tile/0/1", "/tile/0/0001", "/tile/64/000", "/tile/0/x000/000", "/tile/0/000.p/0", "/tile/0/000.p/256", "/tile/0/000.p/01", "/tile/x/000"} {
		if code, _, _ := ask(t, http.MethodGet, n.HTTP+bad, "", "", ""); code != http.StatusNotFound && code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, code)
		}
	}
}
