package reads_test

import (
	"fmt"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/reads"
)

// A log of 70,000 entries has 273 full tiles of leaf hashes and one of 112.
func ExampleParseTile() {
	for _, path := range []string{"0/272", "0/273.p/112", "1/001.p/17", "entries/x001/x234/067", "0/273.p/256"} {
		t, err := reads.ParseTile(path)
		if err != nil {
			fmt.Println("refused:", path)
			continue
		}
		fmt.Printf("level %d, tile %d, %d wide, bodies %v\n", t.Level, t.N, t.Width, t.Entries)
	}
	// Output:
	// level 0, tile 272, 256 wide, bodies false
	// level 0, tile 273, 112 wide, bodies false
	// level 1, tile 1, 17 wide, bodies false
	// level 0, tile 1234067, 256 wide, bodies true
	// refused: 0/273.p/256
}
