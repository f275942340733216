package canon_test

import (
	"fmt"

	"vaultmesh.cloud/vaultmesh/events/canon"
)

func ExampleCanonicalize() {
	b, err := canon.Canonicalize([]byte(`{ "b": 1.0, "a": "\u00e9" }`))
	fmt.Println(string(b), err)
	_, err = canon.Canonicalize([]byte(`{"a":1,"a":2}`))
	fmt.Println(err)
	_, err = canon.Canonicalize([]byte(`{"n":12345678901234567890}`))
	fmt.Println(err)
	// Output:
	// {"a":"é","b":1} <nil>
	// not I-JSON at byte 7: duplicate object member name
	// not I-JSON at byte 4: number 12345678901234567890 is beyond 2^53-1; send it as a string
}
