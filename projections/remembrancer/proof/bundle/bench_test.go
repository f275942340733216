package bundle

import (
	"context"
	"testing"
)

func BenchmarkReadAndVerify(b *testing.B) {
	archive := write(b, newWorld(b, "a").standard())
	b.ReportAllocs()
	for b.Loop() {
		got := read(b, archive)
		if r, err := Verify(context.Background(), got, given(), Trust{}); err != nil || !r.Verified {
			b.Fatal(r.Err(), err)
		}
	}
}
