package rfc3161_test

import (
	"bytes"
	"testing"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

func FuzzParseResponse(f *testing.F) {
	for _, o := range originals {
		f.Add(original(f, o.name+".tsr"))
	}
	f.Add([]byte{0x30, 0x0f, 0x30, 0x0d, 2, 1, 2, 0x30, 4, 0x0c, 2, 'n', 'o', 3, 2, 5, 0x20})
	data := original(f, originals[1].name)
	roots := freeTSA(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, parse := range []func([]byte) (*rfc3161.Token, error){rfc3161.ParseResponse, rfc3161.ParseToken} {
			token, err := parse(in)
			if err != nil {
				if rfc3161.Reason(err) == nil {
					t.Errorf("no reason: %v", err)
				}
				_ = err.Error()
				continue
			}
			rfc3161.ChainPEM(token)
			if again, err := rfc3161.ParseToken(token.Raw); err != nil || !again.GenTime.Equal(token.GenTime) {
				t.Errorf("raw token does not read again: %v", err)
			}
			got, err := rfc3161.Verify(token, rfc3161.VerifyOptions{Data: bytes.NewReader(data), Roots: roots})
			if err == nil && !got.GenTime.Equal(originals[1].at) {
				t.Errorf("forged time %s", got.GenTime)
			}
			if err != nil && rfc3161.Reason(err) == nil {
				t.Errorf("no reason: %v", err)
			}
		}
	})
}
