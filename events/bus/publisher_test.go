package bus_test

import (
	"testing"

	"go.uber.org/goleak"

	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/bustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func publisher(tb testing.TB, s *bustest.Bus, o bus.PublisherOptions) *bus.Publisher {
	tb.Helper()
	if o.Producer == "" {
		o.Producer = "ci"
	}
	p, err := bus.NewPublisher(s.Conn, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	return p
}
