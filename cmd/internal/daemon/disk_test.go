package daemon

import (
	"fmt"
	"testing"
)

// TestDiskFillsBetweenStarts starts on a disk that has less room each time, and
// then more again: streams are given new limits, and the node starts.
func TestDiskFillsBetweenStarts(t *testing.T) {
	dir := t.TempDir()
	for _, gib := range []int64{70, 60, 3, 2, 500} {
		t.Run(fmt.Sprint(gib), func(t *testing.T) {
			r, err := Start(t.Context(), Options{
				Config: Config{Data: dir, Reserve: 1 << 30}, NoSync: true,
				DiskFree: func(string) (int64, error) { return gib << 30, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
	_, err := Start(t.Context(), Options{
		Config: Config{Data: t.TempDir(), Reserve: 1 << 30}, NoSync: true,
		DiskFree: func(string) (int64, error) { return 1 << 29, nil },
	})
	if err == nil {
		t.Error("a first start on a full disk")
	}
}
