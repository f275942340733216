package embedded_test

import (
	"context"
	"testing"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus/bustest"
	"vaultmesh.cloud/vaultmesh/events/bus/embedded"
)

// BenchmarkAcrossAccounts measures what the account of its own costs a producer.
func BenchmarkAcrossAccounts(b *testing.B) {
	for _, g := range []embedded.Grant{{Name: "node", Role: embedded.Node}, {Name: "ci", Role: embedded.Producer}} {
		b.Run(string(g.Role), func(b *testing.B) {
			n := startNode(b)
			p := publisher(b, n.dial(b, g), events.Producer(g.Name))
			e := bustest.Event(b, events.Producer(g.Name), "api", "x")
			b.ResetTimer()
			if got, err := p.PublishAll(context.Background(), func(yield func(*events.Event) bool) {
				for i := 0; i < b.N && yield(e); i++ {
				}
			}); err != nil || got != b.N {
				b.Fatal(got, err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
