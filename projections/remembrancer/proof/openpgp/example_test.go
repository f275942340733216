package openpgp_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
)

// An operator certifies a node's key; the node signs; a stranger who pins the
// operator checks both.
func Example() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	operator, _ := openpgp.NewKey("Operator", "", "operator@example.org", now, rand.Reader)
	node, _ := openpgp.NewKey("Node", "", "node@example.org", now, rand.Reader)
	certified, _ := operator.Certify(node.Public(), now)
	signature, _ := node.SignDetached(strings.NewReader("checkpoint"), now)

	anchor, _ := operator.PublicArmor()
	operators, _ := openpgp.ReadKeyRing(anchor)
	nodes, _ := openpgp.ReadKeyRing(certified)
	got, err := openpgp.VerifyDetached(openpgp.Merge(operators, nodes), strings.NewReader("checkpoint"), signature, now)
	fmt.Println(err, got.Hash, got.CreatedAt.Format(time.DateOnly))
	fmt.Println("by the node:", got.Fingerprint == node.Fingerprint())
	fmt.Println("certified by the operator:", openpgp.CertifiedBy(nodes.Keys()[0], operators.Keys()[0], now) == nil)

	_, err = openpgp.VerifyDetached(nodes, strings.NewReader("another"), signature, now)
	fmt.Println("another file:", errors.Is(err, openpgp.ErrBadSignature))
	// Output:
	// <nil> SHA-512 2026-03-01
	// by the node: true
	// certified by the operator: true
	// another file: true
}
