package remembrancer

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// TestServiceOverNATS is a service on another machine: credentials that the
// operator handed out, the SDK, an outbox, and receipts under the log's key.
func TestServiceOverNATS(t *testing.T) {
	t.Parallel()
	const count = 200
	data := t.TempDir()
	n := start(t, data, "127.0.0.1:0", "127.0.0.1:0")
	for _, args := range [][]string{
		{"ci", "--role", "producer", "--domain", "deploy"}, {"auditor", "--role", "reader"}, {"guest", "--role", "reader", "--ttl", "1s"},
	} {
		if out, errs, code := command(t, data, "vaultmesh", append([]string{"creds", "add", "--data", data}, args...)...); code != 0 {
			t.Fatalf("creds add %v: exit %d\n%s%s", args, code, out, errs)
		}
	}
	issued := time.Now()
	creds := func(name string) string { return filepath.Join(data, "creds", name+".creds") }

	registry, err := events.NewRegistry(remembrancer.Definitions())
	if err != nil {
		t.Fatal(err)
	}
	rv, err := proof.NewReceiptVerifier(strings.TrimSpace(string(get(t, n.HTTP+"/v1/keys/log.vkey"))), "ci")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bus.Connect(t.Context(), bus.Options{URLs: []string{n.NATS}, CredsFile: creds("ci"), Name: "ci"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	outbox, err := bus.OpenOutbox(filepath.Join(t.TempDir(), "outbox"), bus.OutboxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = outbox.Close() }()
	pub, err := bus.NewPublisher(conn, bus.PublisherOptions{Producer: "ci", Check: registry.Check, Outbox: outbox, Receipts: verifier{rv}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pub.Close() }()
	event := func(p events.Payload) *events.Event {
		now := time.Now()
		id, err := events.NewID(now, crand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		e, err := registry.New(p, events.Origin{ID: id, Source: "/ci", Time: now})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	t.Run("receipts", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range count {
			e := event(&remembrancer.DeployRecorded{Component: "api", Version: fmt.Sprint("v", i)})
			wg.Go(func() {
				if _, err := pub.Publish(ctx, e); err != nil {
					t.Errorf("publish: %v", err)
					return
				}
				r, err := pub.WaitReceipt(ctx, e.ID)
				if err != nil {
					t.Errorf("receipt: %v", err)
					return
				}
				if i%20 != 0 {
					return
				}
				var stored struct {
					Index uint64 `json:"index"`
					Leaf  string `json:"leaf_hash"`
				}
				if err := json.Unmarshal(get(t, n.HTTP+"/v1/events/"+string(e.ID)), &stored); err != nil ||
					stored.Index != r.Index || stored.Leaf != hex.EncodeToString(r.Leaf[:]) || r.Size <= r.Index {
					t.Errorf("the log has %+v, the receipt says %+v, %v", stored, r, err)
				}
			})
		}
		wg.Wait()
		for outbox.Len() > 0 && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		if left := outbox.Len(); left > 0 {
			t.Errorf("%d events are still in the outbox", left)
		}
	})

	t.Run("raw reader", func(t *testing.T) {
		// As any NATS client does it, without a line of this project.
		nc, err := nats.Connect(n.NATS, nats.UserCredentials(creds("auditor")), nats.CustomInboxPrefix("_INBOX.auditor"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		js, err := jetstream.NewWithAPIPrefix(nc, "$JS.vault.API")
		if err != nil {
			t.Fatal(err)
		}
		consumer, err := js.OrderedConsumer(ctx, "EVENTS_1", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"vm.deploy.*.ci"}})
		if err != nil {
			t.Fatal(err)
		}
		messages, err := consumer.Messages()
		if err != nil {
			t.Fatal(err)
		}
		defer messages.Stop()
		seen := map[string]bool{}
		for len(seen) < count {
			m, err := messages.Next(jetstream.NextMaxWait(10 * time.Second))
			if err != nil {
				t.Fatalf("after %d events: %v", len(seen), err)
			}
			var e struct {
				Source string
				Data   struct{ Version string }
			}
			if err := json.Unmarshal(m.Data(), &e); err != nil || e.Source != "/ci" || seen[e.Data.Version] {
				t.Fatalf("%v: %s", err, m.Data())
			}
			seen[e.Data.Version] = true
		}
		heads, err := js.OrderedConsumer(ctx, "HEADS", jetstream.OrderedConsumerConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := heads.Next(jetstream.FetchMaxWait(10 * time.Second)); err != nil || !strings.HasPrefix(m.Subject(), "head.") {
			t.Errorf("heads: %v", err)
		}
	})

	t.Run("another domain", func(t *testing.T) {
		if _, err := pub.Publish(ctx, event(&remembrancer.IncidentReported{Title: "Down", Severity: "high"})); !errors.Is(err, bus.ErrNotAllowed) {
			t.Errorf("ci, who may speak of deployments, spoke of an incident: %v", err)
		}
	})

	for _, c := range []struct{ who, publish, listen string }{
		{who: "ci", publish: "vm.deploy.api.operator"},
		{who: "ci", publish: "vm.ledger.log.ci"},
		{who: "ci", publish: "head.x"},
		{who: "ci", publish: "$JS.API.STREAM.DELETE.EVENTS_1"},
		{who: "ci", listen: "receipt.producer"},
		{who: "ci", listen: "vm.>"},
		{who: "auditor", publish: "vm.deploy.api.auditor"},
		{who: "auditor", publish: "$JS.vault.API.STREAM.DELETE.EVENTS_1"},
		{who: "auditor", publish: "$JS.vault.API.STREAM.PURGE.EVENTS_1"},
		{who: "auditor", listen: "vm.>"},
	} {
		t.Run(c.who+" "+c.publish+c.listen, func(t *testing.T) {
			refused := make(chan error, 1)
			nc, err := nats.Connect(n.NATS, nats.UserCredentials(creds(c.who)),
				nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if c.listen != "" {
				_, err = nc.SubscribeSync(c.listen)
			} else {
				err = nc.Publish(c.publish, []byte("{}"))
			}
			if err == nil {
				err = nc.Flush()
			}
			if err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-refused:
				if !errors.Is(err, nats.ErrPermissionViolation) {
					t.Error(err)
				}
			case <-time.After(5 * time.Second):
				t.Error("the broker did not refuse")
			}
		})
	}

	t.Run("nobody", func(t *testing.T) {
		if nc, err := nats.Connect(n.NATS); err == nil {
			nc.Close()
			t.Error("the broker takes somebody without credentials")
		}
		time.Sleep(time.Until(issued.Add(2 * time.Second))) // as long as the guest's credentials, and one more
		if nc, err := nats.Connect(n.NATS, nats.UserCredentials(creds("guest"))); err == nil {
			nc.Close()
			t.Error("the broker takes credentials that ended")
		}
	})

	// After all this the log is what it was: the events, and no others.
	var list struct{ Items []struct{ Source string } }
	if err := json.Unmarshal(get(t, n.HTTP+"/v1/list/all?limit=1000"), &list); err != nil || len(list.Items) != count {
		t.Errorf("%d items, wanted %d: %v", len(list.Items), count, err)
	}
}
