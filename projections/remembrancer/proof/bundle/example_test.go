package bundle_test

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/bundle"
)

func ExampleVerify() {
	archive, err := os.Open("testdata/app.tar.proof.tgz")
	if err != nil {
		panic(err)
	}
	defer archive.Close()
	b, err := bundle.Read(archive, bundle.Limits{})
	if err != nil {
		panic(err)
	}
	report, err := bundle.Verify(context.Background(), b,
		bundle.Subject{Data: bytes.NewReader([]byte("what we deployed\n"))},
		bundle.Trust{Operator: "8B83FF7834105C06323E8F8CACABB6C0F7C07A05"})
	if err != nil {
		panic(err)
	}
	for _, l := range report.Links {
		fmt.Println(l.Name, l.Status)
	}
	for _, a := range report.Anchors {
		fmt.Println(a.Name, "pinned:", a.Pinned)
	}
	fmt.Println(report.Verified)

	// Without the file its signature cannot be checked, and that is no success.
	report, err = bundle.Verify(context.Background(), b, bundle.Subject{}, bundle.Trust{})
	fmt.Println(report.Link(proof.LinkSignature).Status, report.Verified, err)
	// Output:
	// digest ok
	// signature ok
	// token ok
	// inclusion ok
	// operator key pinned: true
	// log key pinned: false
	// tsa root pinned: false
	// true
	// missing false <nil>
}
