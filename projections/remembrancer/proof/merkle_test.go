package proof

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func TestHashesOfRFC6962(t *testing.T) {
	// The empty tree and the empty leaf, as in certificate-transparency's vectors.
	if got := hex.EncodeToString(EmptyRoot[:]); got != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("empty root %s", got)
	}
	leaf := LeafHash(nil)
	if got := hex.EncodeToString(leaf[:]); got != "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d" {
		t.Errorf("empty leaf %s", got)
	}
	node := NodeHash(leaf, LeafHash([]byte{0}))
	if got := hex.EncodeToString(node[:]); got != "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125" {
		t.Errorf("root of two %s", got)
	}
	if LeafHash([]byte("x")) != Hash(tlog.RecordHash([]byte("x"))) {
		t.Error("differs from x/mod/sumdb/tlog")
	}
}

func TestEveryInclusionAndConsistencyProof(t *testing.T) {
	all := testTree(40)
	for n := 1; n <= len(all); n++ {
		root := all[:n].root()
		for i := range n {
			path := all[:n].path(i)
			if err := VerifyInclusion(all[i], uint64(i), uint64(n), path, root); err != nil {
				t.Fatal(err)
			}
			p := InclusionProof{uint64(i), uint64(n), path}
			if err := p.Verify(all[(i+1)%len(all)], root); !errors.Is(err, ErrProof) {
				t.Fatalf("another leaf at %d of %d: %v", i, n, err)
			}
			if err := VerifyInclusion(all[i], uint64(i+1), uint64(n), path, root); !errors.Is(err, ErrProof) {
				t.Fatalf("leaf %d of %d at the next index: %v", i, n, err)
			}
			if err := VerifyInclusion(all[i], uint64(i), uint64(n), append(path, root), root); !errors.Is(err, ErrProof) {
				t.Fatalf("longer path: %v", err)
			}
		}
		for m := 0; m <= n; m++ {
			path, old := all[:n].consistency(m), all[:m].root()
			if err := VerifyConsistency(uint64(m), uint64(n), path, old, root); err != nil {
				t.Fatal(err)
			}
			if err := VerifyConsistency(uint64(m), uint64(n), path, LeafHash(nil), root); !errors.Is(err, ErrProof) {
				t.Fatalf("%d to %d with another old root: %v", m, n, err)
			}
			if m == 0 {
				continue // any log extends the empty one
			}
			if err := VerifyConsistency(uint64(m), uint64(n), path, old, LeafHash(nil)); !errors.Is(err, ErrProof) {
				t.Fatalf("%d to %d with another new root: %v", m, n, err)
			}
		}
	}
}

func TestProofBounds(t *testing.T) {
	long := make([]Hash, MaxPath+1)
	for name, err := range map[string]error{
		"long path":            VerifyInclusion(Hash{}, 0, 1, long, Hash{}),
		"index at size":        VerifyInclusion(Hash{}, 1, 1, nil, Hash{}),
		"empty log":            VerifyInclusion(Hash{}, 0, 0, nil, EmptyRoot),
		"size beyond 63 bits":  VerifyInclusion(Hash{}, 0, MaxTreeSize+1, nil, Hash{}),
		"long consistency":     VerifyConsistency(1, 2, long, Hash{}, Hash{}),
		"shrinking":            VerifyConsistency(2, 1, nil, Hash{}, Hash{}),
		"empty old, odd root":  VerifyConsistency(0, 1, nil, Hash{}, Hash{}),
		"both empty, odd root": VerifyConsistency(0, 0, nil, EmptyRoot, Hash{}),
	} {
		if !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v, want ErrProof", name, err)
		}
		if len(err.Error()) > 200 {
			t.Errorf("%s: error of %d bytes", name, len(err.Error()))
		}
	}
}

func TestHashHasOneSpelling(t *testing.T) {
	h := LeafHash([]byte("x"))
	s := h.String()
	if got, err := ParseHash(s); err != nil || got != h {
		t.Fatalf("%v, %v", got, err)
	}
	var viaText Hash
	if b, _ := h.MarshalText(); viaText.UnmarshalText(b) != nil || viaText != h {
		t.Fatal("text form does not come back")
	}
	for i := range 256 { // every byte value through the table, against encoding/base64
		h := Hash{byte(i), byte(i >> 1), 31: byte(i)}
		if got, err := ParseHash(h.String()); err != nil || got != h {
			t.Fatalf("%v: %v, %v", h, got, err)
		}
	}
	last := s[42]
	for name, in := range map[string]string{
		"empty":        "",
		"short":        s[:43],
		"long":         s + "=",
		"no padding":   s[:43] + "A",
		"padding bits": s[:42] + string(rune(last+1)) + "=",
		"url alphabet": "-" + s[1:],
		"line end":     s[:20] + "\n" + s[20:43],
		"space":        " " + s[1:],
		"inner =":      s[:10] + "=" + s[11:],
		"high byte":    "\xff" + s[1:],
		"hex":          strings.Repeat("ab", 22),
	} {
		if name == "hex" {
			in = in[:43] + "g"
		}
		if got, err := ParseHash(in); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func BenchmarkLeafHash(b *testing.B) {
	entry := make([]byte, 600)
	b.ReportAllocs()
	for b.Loop() {
		LeafHash(entry)
	}
}

func BenchmarkVerifyInclusion(b *testing.B) {
	all := testTree(1 << 12)
	root, path := all.root(), all.path(77)
	b.ReportAllocs()
	for b.Loop() {
		if err := VerifyInclusion(all[77], 77, 1<<12, path, root); err != nil {
			b.Fatal(err)
		}
	}
}
