package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/embedded"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	server, err := embedded.Start(ctx, embedded.Options{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Shutdown()

	conn, err := bus.Connect(ctx, bus.Options{Server: server.InProcess(), Name: "example"})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if _, err := bus.EnsureStreams(ctx, conn, events.Streams(1), bus.Place{}); err != nil {
		log.Fatal(err)
	}

	publisher, err := bus.NewPublisher(conn, bus.PublisherOptions{Producer: "ci"})
	if err != nil {
		log.Fatal(err)
	}
	defer publisher.Close()
	ack, err := publisher.Publish(ctx, &events.Event{
		ID: "0193a5c2-7d1e-7b9a-9c1f-3f1f5b7f8c2d", Source: "/ci", Type: "cloud.vaultmesh.deploy.recorded.v1",
		Subject: "api", Time: time.Date(2026, 11, 23, 3, 19, 0, 0, time.UTC), Data: []byte(`{"version": "v1"}`),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored as", ack.Stream, ack.Sequence)

	done := errors.New("done")
	err = conn.Follow(ctx, bus.FollowOptions{Stream: ack.Stream, From: 1}, func(_ context.Context, batch []bus.Message) error {
		for _, m := range batch {
			fmt.Printf("%d %s\n%s\n", m.Sequence, m.Subject, m.Data)
		}
		return done
	})
	if !errors.Is(err, done) {
		log.Fatal(err)
	}
	// Output:
	// stored as EVENTS_1 1
	// 1 vm.deploy.api.ci
	// {"data":{"version":"v1"},"datacontenttype":"application/json","id":"0193a5c2-7d1e-7b9a-9c1f-3f1f5b7f8c2d","source":"/ci","specversion":"1.0","subject":"api","time":"2026-11-23T03:19:00Z","type":"cloud.vaultmesh.deploy.recorded.v1"}
}

func ExampleBlobs() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "blobs")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	blobs, err := bus.OpenBlobs(dir, nil, 0)
	if err != nil {
		log.Fatal(err)
	}
	digest, err := blobs.Put(ctx, []byte("evidence"))
	if err != nil {
		log.Fatal(err)
	}
	b, err := blobs.Get(ctx, digest)
	fmt.Println(digest, string(b), err)
	_, err = blobs.Get(ctx, bus.DigestOf([]byte("something else")))
	fmt.Println(errors.Is(err, bus.ErrNoBlob))
	// Output:
	// ee8250fb76e094b34b471f13a73dbbe51d1ae142e9df59d7c0d31ec20f0a0a8e evidence <nil>
	// true
}

func ExampleOutbox() {
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	outbox, err := bus.OpenOutbox(dir, bus.OutboxOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer outbox.Close()
	if err := outbox.Put(bus.OutboxEntry{ID: "a", Subject: "vm.deploy.api.ci", Body: []byte("{}")}, bus.OutboxEntry{ID: "b", Subject: "vm.deploy.api.ci", Body: []byte("{}")}); err != nil {
		log.Fatal(err)
	}
	if err := outbox.Ack("a"); err != nil { // its receipt came
		log.Fatal(err)
	}
	for e, err := range outbox.Waiting(time.Now()) {
		fmt.Println(e.ID, err)
	}
	// Output: b <nil>
}
