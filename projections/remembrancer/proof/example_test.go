package proof_test

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// logKey makes a key that is the same in every run. Real ones take crypto/rand.
func logKey() (note.Signer, string) {
	skey, vkey, err := proof.NewLogKey("ledger.example/log", bytes.NewReader(make([]byte, 32)))
	if err != nil {
		panic(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		panic(err)
	}
	return signer, vkey
}

func ExampleVerifyInclusion() {
	a, b, c := proof.LeafHash([]byte("a")), proof.LeafHash([]byte("b")), proof.LeafHash([]byte("c"))
	root := proof.NodeHash(proof.NodeHash(a, b), c)

	fmt.Println(proof.VerifyInclusion(b, 1, 3, []proof.Hash{a, c}, root))
	fmt.Println(proof.VerifyInclusion(b, 0, 3, []proof.Hash{a, c}, root))
	// Output:
	// <nil>
	// inclusion of leaf 0 in 3: the hashes give another root: does not lead to the root
}

func ExampleVerifyConsistency() {
	a, b := proof.LeafHash([]byte("a")), proof.LeafHash([]byte("b"))
	fmt.Println(proof.VerifyConsistency(1, 2, []proof.Hash{b}, a, proof.NodeHash(a, b)))
	// Output: <nil>
}

func ExampleSignCheckpoint() {
	signer, vkey := logKey()
	root := proof.LeafHash([]byte("the only event"))
	b, err := proof.SignCheckpoint("ledger.example/log", 1, root, signer)
	if err != nil {
		panic(err)
	}
	fmt.Print(string(b))

	c, err := proof.OpenCheckpoint(b, vkey)
	fmt.Println(c.Size, c.Root == root, err)
	// Output:
	// ledger.example/log
	// 1
	// vpRVNpuycobJozP1FgJGib6wqCM8I6nxQXp1ABKM+kk=
	//
	// — ledger.example/log s4mGNcxla1FM+pjheiPimOC8Uo8vWDDoyYItQe4o1gWpBRwa7iXV39m/C9PdxbkDUaRRAfKcldQc5XBhT/snc0ibmww=
	// 1 true <nil>
}

func ExampleVerifyTLogProof() {
	signer, vkey := logKey()
	a, b := proof.LeafHash([]byte("a")), proof.LeafHash([]byte("b"))
	checkpoint, err := proof.SignCheckpoint("ledger.example/log", 2, proof.NodeHash(a, b), signer)
	if err != nil {
		panic(err)
	}
	file := proof.TLogProof{Index: 1, Hashes: []proof.Hash{a}, Checkpoint: checkpoint}.Marshal()

	c, index, err := proof.VerifyTLogProof(file, proof.LeafHash([]byte("b")), vkey)
	fmt.Println(c.Origin, c.Size, index, err)
	// Output: ledger.example/log 2 1 <nil>
}

func ExampleReceiptVerifier() {
	signer, vkey := logKey()
	leaf := proof.LeafHash([]byte("event"))
	receipts, err := proof.SignReceipts(proof.ReceiptBatch{
		Origin: "ledger.example/log", Producer: "ci", Size: 1, Root: leaf,
		Items: []proof.ReceiptItem{{Index: 0, Leaf: leaf, EventID: "0197f5a0-0000-7000-8000-000000000001"}},
	}, signer)
	if err != nil {
		panic(err)
	}
	ci, err := proof.NewReceiptVerifier(vkey, "ci")
	if err != nil {
		panic(err)
	}
	got, err := ci.VerifyReceipts(receipts)
	fmt.Println(got.Items[0].Index, got.Items[0].EventID, err)

	deploy, err := proof.NewReceiptVerifier(vkey, "deploy")
	if err != nil {
		panic(err)
	}
	_, err = deploy.VerifyReceipts(receipts)
	fmt.Println(errors.Is(err, proof.ErrAudience))
	// Output:
	// 0 0197f5a0-0000-7000-8000-000000000001 <nil>
	// true
}

func ExampleReport_Conclude() {
	r := proof.NewReport("app.tar", "31b0...")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r.Pass(proof.LinkSignature, "good signature by the operator")
	r.Pass(proof.LinkToken, "stamped")
	r.Link(proof.LinkToken).Facts.GenTime = &at
	r.Conclude(proof.LinkInclusion)
	for _, l := range r.Links {
		fmt.Println(l.Name, l.Status)
	}
	fmt.Println(r.Verified)
	// Output:
	// digest allowed
	// signature ok
	// token ok
	// inclusion allowed
	// true
}
