package bustest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/embedded"
)

// A Bus is a running server and an administrator's connection to it.
type Bus struct {
	*bus.Conn
	Server  *embedded.Server
	Dir     string                    // of the server's store
	Streams map[string]bus.StreamInfo // as made at the start
	options embedded.Options
}

// Option changes how a bus is started.
type Option func(*embedded.Options)

// Synced makes the server sync every write, as in production. Without it tests are
// faster and a crash of the machine would lose writes.
func Synced() Option { return func(o *embedded.Options) { o.NoSync = false } }

// Listening makes the server listen on a free loopback port.
func Listening() Option { return func(o *embedded.Options) { o.Addr = "127.0.0.1:0" } }

// InDir keeps the store in a directory that the caller owns.
func InDir(dir string) Option { return func(o *embedded.Options) { o.Dir = dir } }

// Start runs a bus with the streams of epoch 1 until the test ends.
func Start(tb testing.TB, options ...Option) *Bus {
	tb.Helper()
	o := embedded.Options{NoSync: true}
	for _, option := range options {
		option(&o)
	}
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	b := &Bus{Dir: o.Dir, options: o}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	server, err := embedded.Start(ctx, o)
	if err != nil {
		tb.Fatal(err)
	}
	b.Server = server
	tb.Cleanup(func() { b.Server.Shutdown() })
	b.Conn = b.Dial(tb)
	if b.Streams, err = bus.EnsureStreams(ctx, b.Conn, events.Streams(1), bus.Place{}); err != nil {
		tb.Fatal(err)
	}
	return b
}

// Restart stops the server and starts it again on the same directory and address,
// which must be Listening: connections come back by themselves.
func (b *Bus) Restart(tb testing.TB) {
	tb.Helper()
	url := b.Server.ClientURL()
	if url == "" {
		tb.Fatal("a bus that restarts must be Listening")
	}
	b.Server.Shutdown()
	o := b.options
	o.Addr = strings.TrimPrefix(url, "nats://")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	server, err := embedded.Start(ctx, o)
	if err != nil {
		tb.Fatal(err)
	}
	b.Server = server
}

// Dial opens another connection, which ends with the test.
func (b *Bus) Dial(tb testing.TB) *bus.Conn {
	tb.Helper()
	o := bus.Options{Server: b.Server.InProcess(), Name: tb.Name()}
	if url := b.Server.ClientURL(); url != "" {
		o.Server, o.URLs = nil, []string{url}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := bus.Connect(ctx, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// Event returns a valid event of a made-up type with the given data.
func Event(tb testing.TB, p events.Producer, entity string, data any) *events.Event {
	tb.Helper()
	now := time.Now()
	id, err := events.NewID(now, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := json.Marshal(data)
	if err != nil {
		tb.Fatal(err)
	}
	return &events.Event{
		ID: id, Source: events.SourceOf(p), Type: "cloud.vaultmesh.deploy.tested.v1",
		Subject: entity, Time: now.UTC(), Data: b,
	}
}

// Send publishes events one after the other and returns their sequences.
func (b *Bus) Send(tb testing.TB, list ...*events.Event) []uint64 {
	tb.Helper()
	var out []uint64
	for _, e := range list {
		body, err := e.Canonical()
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, b.SendRaw(tb, e.NATSSubject(), body))
	}
	return out
}

// SendRaw publishes any bytes, a poison event for example, and returns the sequence.
func (b *Bus) SendRaw(tb testing.TB, subject string, body []byte) uint64 {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ack, err := b.JetStream().Publish(ctx, subject, body)
	if err != nil {
		tb.Fatalf("publish on %s: %v", subject, err)
	}
	return ack.Sequence
}
