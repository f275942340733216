package proof

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

const testOrigin = "ledger.example/log"

// testKey returns a log key that depends on nothing but the origin and seed.
func testKey(t testing.TB, origin string, seed byte) (note.Signer, string) {
	t.Helper()
	skey, vkey, err := NewLogKey(origin, bytes.NewReader(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return signer, vkey
}

// signText signs any text with a log key, as a hostile log could.
func signText(t testing.TB, text string, signers ...note.Signer) []byte {
	t.Helper()
	b, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tree is RFC 6962 section 2.1 by its recursive definition, to check against.
type tree []Hash

func testTree(n int) tree {
	t := make(tree, n)
	for i := range t {
		t[i] = LeafHash(fmt.Appendf(nil, "entry %d", i))
	}
	return t
}

func (t tree) root() Hash {
	switch len(t) {
	case 0:
		return EmptyRoot
	case 1:
		return t[0]
	}
	k := split(len(t))
	return NodeHash(t[:k].root(), t[k:].root())
}

func (t tree) path(i int) []Hash {
	if len(t) <= 1 {
		return nil
	}
	k := split(len(t))
	if i < k {
		return append(t[:k].path(i), t[k:].root())
	}
	return append(t[k:].path(i-k), t[:k].root())
}

// consistency is PROOF(m, D[n]) of RFC 6962 section 2.1.2.
func (t tree) consistency(m int) []Hash {
	if m == 0 || m == len(t) {
		return nil
	}
	return t.subproof(m, true)
}

func (t tree) subproof(m int, whole bool) []Hash {
	if m == len(t) {
		if whole {
			return nil
		}
		return []Hash{t.root()}
	}
	k := split(len(t))
	if m <= k {
		return append(t[:k].subproof(m, whole), t[k:].root())
	}
	return append(t[k:].subproof(m-k, false), t[:k].root())
}

// split returns the largest power of two below n.
func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

func replace(t testing.TB, s, old, new string) string {
	t.Helper()
	if !strings.Contains(s, old) {
		t.Fatalf("%q does not stand in %q", old, s)
	}
	return strings.Replace(s, old, new, 1)
}
