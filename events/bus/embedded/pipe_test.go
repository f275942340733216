package embedded

import (
	"net"
	"testing"

	"golang.org/x/net/nettest"
)

// TestBufferedConn runs the conformance suite of net.Conn.
func TestBufferedConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := net.Pipe()
		x, y := newBuffered(a), newBuffered(b)
		return x, y, func() { _ = x.Close(); _ = y.Close() }, nil
	})
}
