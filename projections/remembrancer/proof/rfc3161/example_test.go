package rfc3161_test

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161/devtsa"
)

func ExampleVerify() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tsa, _ := devtsa.NewAuthority("development TSA", now, rand.Reader)
	nonce := big.NewInt(20260301)
	response, _ := tsa.Respond(rfc3161.NewRequest(sha256.Sum256([]byte("data")), nonce, nil), now)

	roots := x509.NewCertPool()
	roots.AddCert(tsa.Root())
	token, _ := rfc3161.ParseResponse(response)
	got, err := rfc3161.Verify(token, rfc3161.VerifyOptions{Data: strings.NewReader("data"), Roots: roots, Nonce: nonce})
	fmt.Println(err, got.GenTime, got.Chain[0].Subject)

	_, err = rfc3161.Verify(token, rfc3161.VerifyOptions{Data: strings.NewReader("other"), Roots: roots})
	fmt.Println("other data:", errors.Is(err, rfc3161.ErrImprint))
	// Output:
	// <nil> 2026-03-01 12:00:00 +0000 UTC CN=development TSA
	// other data: true
}
