package bus_test

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"golang.org/x/sync/errgroup"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/bustest"
)

// The benchmarks measure events of 300 bytes with synced writes, as in production.
// A baseline is what the libraries do alone with bytes that are ready.

func sized(tb testing.TB, n int) []*events.Event {
	list := make([]*events.Event, n)
	for i := range list {
		list[i] = bustest.Event(tb, "ci", "api", map[string]string{"text": strings.Repeat("x", 66)})
	}
	b, err := list[0].Canonical()
	if err != nil || len(b) < 290 || len(b) > 310 {
		tb.Fatalf("%d bytes, %v", len(b), err)
	}
	return list
}

func rate(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s") }

var transports = map[string][]bustest.Option{
	"pipe": {bustest.Synced()}, "tcp": {bustest.Synced(), bustest.Listening()},
}

func cycle(list []*events.Event, n int) iter.Seq[*events.Event] {
	return func(yield func(*events.Event) bool) {
		for i := range n {
			if !yield(list[i%len(list)]) {
				return
			}
		}
	}
}

func BenchmarkPublishAll(b *testing.B) {
	for name, options := range transports {
		for _, flights := range []int{1, 2, 4, 8} {
			b.Run(fmt.Sprintf("%s/%d", name, flights), func(b *testing.B) {
				p := publisher(b, bustest.Start(b, options...), bus.PublisherOptions{InFlight: flights})
				list := sized(b, 1000)
				b.ResetTimer()
				n, err := p.PublishAll(context.Background(), cycle(list, b.N))
				if err != nil || n != b.N {
					b.Fatal(n, err)
				}
				rate(b)
			})
		}
	}
}

func BenchmarkPublishConcurrent(b *testing.B) {
	for _, callers := range []int{1, 16, 256, 2048} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			p := publisher(b, bustest.Start(b, bustest.Synced()), bus.PublisherOptions{})
			list := sized(b, 1000)
			work := make(chan *events.Event, callers)
			var wg sync.WaitGroup
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for e := range work {
						if _, err := p.Publish(context.Background(), e); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for e := range cycle(list, b.N) {
				work <- e
			}
			close(work)
			wg.Wait()
			rate(b)
		})
	}
}

// BenchmarkBaselineBatch publishes with jetstreamext, several batches at once. Without
// AckFirst: waiting for the answer to a first message times out with 2.15.2.
func BenchmarkBaselineBatch(b *testing.B) {
	for name, options := range transports {
		for _, flights := range []int{1, 4} {
			for _, first := range []bool{false} {
				b.Run(fmt.Sprintf("%s/%d/ackfirst=%v", name, flights, first), func(b *testing.B) {
					s := bustest.Start(b, options...)
					body, err := sized(b, 1)[0].Canonical()
					if err != nil {
						b.Fatal(err)
					}
					var g errgroup.Group
					g.SetLimit(flights)
					b.ResetTimer()
					for left := b.N; left > 0; left -= 1000 {
						g.Go(func() error {
							msgs := make([]*nats.Msg, min(left, 1000))
							for i := range msgs {
								msgs[i] = nats.NewMsg("vm.deploy.api.ci")
								msgs[i].Data = body
							}
							_, err := jetstreamext.PublishMsgBatch(context.Background(), s.JetStream(), msgs, jetstreamext.BatchFlowControl{AckFirst: first})
							return err
						})
					}
					if err := g.Wait(); err != nil {
						b.Fatal(err)
					}
					rate(b)
				})
			}
		}
	}
}

// BenchmarkBaselineAsync publishes single messages without waiting for each.
func BenchmarkBaselineAsync(b *testing.B) {
	s := bustest.Start(b, bustest.Synced())
	js, err := jetstream.New(s.NATS(), jetstream.WithPublishAsyncMaxPending(4000))
	if err != nil {
		b.Fatal(err)
	}
	body, err := sized(b, 1)[0].Canonical()
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		if _, err := js.PublishAsync("vm.deploy.api.ci", body, jetstream.WithStallWait(1e10)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	rate(b)
}

const stored = 300_000

func filled(b *testing.B, options ...bustest.Option) *bustest.Bus {
	s := bustest.Start(b, options...)
	p := publisher(b, s, bus.PublisherOptions{})
	if _, err := p.PublishAll(context.Background(), cycle(sized(b, 1000), stored)); err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkFollow(b *testing.B) {
	for name, options := range map[string][]bustest.Option{"pipe": nil, "tcp": {bustest.Listening()}} {
		b.Run(name, func(b *testing.B) {
			s := filled(b, options...)
			b.ResetTimer()
			for range b.N {
				if err := s.Replay(context.Background(), events.EventsStream(1), 1, stored, func(context.Context, []bus.Message) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*stored)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkBaselineConsume reads with the library's ordered consumer.
func BenchmarkBaselineConsume(b *testing.B) {
	for name, options := range map[string][]bustest.Option{"pipe": nil, "tcp": {bustest.Listening()}} {
		b.Run(name, func(b *testing.B) {
			s := filled(b, options...)
			ctx := context.Background()
			b.ResetTimer()
			for range b.N {
				c, err := s.JetStream().OrderedConsumer(ctx, events.EventsStream(1), jetstream.OrderedConsumerConfig{})
				if err != nil {
					b.Fatal(err)
				}
				done := make(chan struct{})
				n := 0
				consume, err := c.Consume(func(jetstream.Msg) {
					if n++; n == stored {
						close(done)
					}
				}, jetstream.PullMaxMessages(4000))
				if err != nil {
					b.Fatal(err)
				}
				<-done
				consume.Stop()
			}
			b.ReportMetric(float64(b.N*stored)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
