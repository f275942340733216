package bare

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"golang.org/x/sync/errgroup"

	"vaultmesh.cloud/vaultmesh/events/bus"
)

const (
	streamName = "BARE"
	subject    = "bare.event"
	batchSize  = 1000 // messages of an atomic batch, and of a fetch
	inFlight   = 4    // atomic batches
)

// Run moves n messages of size bytes through the bare pipeline on conn and a
// store in dir, and returns how long it took until the last was in a synced
// batch. The stream is deleted afterwards.
func Run(ctx context.Context, conn *bus.Conn, dir string, n, size int) (took time.Duration, err error) {
	js := conn.JetStream()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: streamName, Subjects: []string{subject}, Storage: jetstream.FileStorage, AllowAtomicPublish: true,
	})
	if err != nil {
		return 0, fmt.Errorf("bare pipeline: make a stream: %w", err)
	}
	defer func() {
		err = errors.Join(err, js.DeleteStream(context.WithoutCancel(ctx), streamName))
	}()
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckAllPolicy, MaxAckPending: 8 * batchSize})
	if err != nil {
		return 0, fmt.Errorf("bare pipeline: make a consumer: %w", err)
	}
	db, err := pebble.Open(dir, &pebble.Options{MemTableSize: 16 << 20, FormatMajorVersion: pebble.FormatNewest, Logger: silent{}})
	if err != nil {
		return 0, fmt.Errorf("bare pipeline: open a store: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return publish(ctx, js, n, size) })
	g.Go(func() error { return fold(consumer, db, n) })
	if err := g.Wait(); err != nil {
		return 0, fmt.Errorf("bare pipeline: %w", err)
	}
	return time.Since(start), nil
}

func publish(ctx context.Context, js jetstream.JetStream, n, size int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for from := 0; from < n; from += batchSize {
		g.Go(func() error {
			msgs := make([]*nats.Msg, min(batchSize, n-from))
			for i := range msgs {
				msgs[i] = nats.NewMsg(subject)
				msgs[i].Data = make([]byte, size)
				binary.BigEndian.PutUint64(msgs[i].Data, uint64(from+i))
			}
			_, err := jetstreamext.PublishMsgBatch(ctx, js, msgs)
			return err
		})
	}
	return g.Wait()
}

func fold(consumer jetstream.Consumer, db *pebble.DB, n int) error {
	for done := 0; done < n; {
		fetched, err := consumer.Fetch(min(batchSize, n-done), jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			return err
		}
		batch := db.NewBatch()
		var last jetstream.Msg
		for m := range fetched.Messages() {
			sum := sha256.Sum256(m.Data())
			index := binary.BigEndian.AppendUint64([]byte{'e'}, uint64(done))
			if err := errors.Join(batch.Set(index, m.Data(), nil), batch.Set(append([]byte{'i'}, sum[:]...), index, nil)); err != nil {
				return err
			}
			last = m
			done++
		}
		if err := errors.Join(fetched.Error(), batch.Commit(pebble.Sync), batch.Close()); err != nil {
			return err
		}
		if last != nil {
			if err := last.Ack(); err != nil {
				return err
			}
		}
	}
	return nil
}

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
