package embedded_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/bus/bustest"
	"vaultmesh.cloud/vaultmesh/events/bus/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a server with an authority and all streams.
type node struct {
	*embedded.Server
	*embedded.Authority
	admin *bus.Conn
}

func startNode(t testing.TB) node {
	t.Helper()
	a, err := embedded.OpenAuthority(t.TempDir(), embedded.AuthorityOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir(), Authority: a, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	n := node{Server: s, Authority: a}
	n.admin = n.dial(t, embedded.Grant{Name: "node", Role: embedded.Node})
	if _, err := bus.EnsureStreams(t.Context(), n.admin, events.Streams(1), bus.Place{}); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n node) dial(t testing.TB, g embedded.Grant) *bus.Conn {
	t.Helper()
	creds, err := n.Issue(g)
	if err != nil {
		t.Fatal(err)
	}
	c, err := bus.Connect(t.Context(), bus.Options{Server: n.InProcess(), Creds: creds, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func publisher(t testing.TB, c *bus.Conn, p events.Producer) *bus.Publisher {
	t.Helper()
	pub, err := bus.NewPublisher(c, bus.PublisherOptions{Producer: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pub.Close() })
	return pub
}

func TestProducerMaySpeak(t *testing.T) {
	n := startNode(t)
	c := n.dial(t, embedded.Grant{Name: "ci", Role: embedded.Producer, Domains: []events.Domain{"deploy"}})
	p := publisher(t, c, "ci")
	if ack, err := p.Publish(t.Context(), bustest.Event(t, "ci", "api", 1)); err != nil || ack.Sequence != 1 {
		t.Fatal(ack, err)
	}
	var list []*events.Event
	for i := range 100 {
		list = append(list, bustest.Event(t, "ci", "api", i))
	}
	acks, err := p.PublishBatch(t.Context(), list)
	if err != nil || acks[99].Sequence != 101 {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	sub, err := c.NATS().Subscribe("receipt.ci", func(m *nats.Msg) { got <- string(m.Data) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := c.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.admin.JetStream().Publish(t.Context(), "receipt.ci", []byte("a receipt")); err != nil {
		t.Fatal(err)
	}
	select {
	case text := <-got:
		if text != "a receipt" {
			t.Error(text)
		}
	case <-time.After(5 * time.Second):
		t.Error("no receipt came")
	}
}

func TestPublisherNamesWhatIsNotAllowed(t *testing.T) {
	n := startNode(t)
	c := n.dial(t, embedded.Grant{Name: "ci", Role: embedded.Producer, Domains: []events.Domain{"deploy"}})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	other := bustest.Event(t, "ci", "api", 1)
	other.Type = "cloud.vaultmesh.decision.tested.v1"
	for name, publish := range map[string]func() error{
		"another producer": func() error {
			_, err := publisher(t, c, "prod").Publish(ctx, bustest.Event(t, "prod", "api", 1))
			return err
		},
		"another domain": func() error { _, err := publisher(t, c, "ci").Publish(ctx, other); return err },
		"in a batch": func() error {
			_, err := publisher(t, c, "ci").PublishBatch(ctx, []*events.Event{bustest.Event(t, "ci", "api", 1), other, bustest.Event(t, "ci", "api", 2)})
			return err
		},
		"alone in a batch": func() error {
			_, err := publisher(t, c, "ci").PublishBatch(ctx, []*events.Event{other, other})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			err := publish()
			var denied *bus.NotAllowedError
			if !errors.As(err, &denied) || denied.Subject == "" || time.Since(start) > time.Second {
				t.Errorf("%v after %s", err, time.Since(start))
			}
		})
	}
	if info, err := n.admin.StreamInfo(t.Context(), "EVENTS_1"); err != nil || info.Last != 0 {
		t.Error(info, err)
	}
}

func TestReaderReads(t *testing.T) {
	n := startNode(t)
	p := publisher(t, n.admin, "node")
	for i := range 10 {
		if _, err := p.Publish(t.Context(), bustest.Event(t, "node", "api", i)); err != nil {
			t.Fatal(err)
		}
	}
	r := n.dial(t, embedded.Grant{Name: "eve", Role: embedded.Reader})
	var got []bus.Message
	err := r.Replay(t.Context(), "EVENTS_1", 1, 10, func(_ context.Context, batch []bus.Message) error {
		got = append(got, batch...)
		return nil
	})
	if err != nil || len(got) != 10 || got[9].Sequence != 10 || got[9].Subject != "vm.deploy.api.node" {
		t.Fatalf("%d messages, %v", len(got), err)
	}
	if m, err := r.Message(t.Context(), "EVENTS_1", 3); err != nil || m.Sequence != 3 {
		t.Error(m, err)
	}
	if _, err := r.LastFor(t.Context(), "HEADS", "head.x"); !errors.Is(err, bus.ErrNoMessage) {
		t.Error(err)
	}
}

// TestForbidden lists what each role must not be able to do. The broker itself
// refuses, whatever library the attacker uses.
func TestForbidden(t *testing.T) {
	n := startNode(t)
	producer := embedded.Grant{Name: "ci", Role: embedded.Producer}
	deploys := embedded.Grant{Name: "ci", Role: embedded.Producer, Domains: []events.Domain{"deploy"}}
	reader := embedded.Grant{Name: "eve", Role: embedded.Reader}
	for _, c := range []struct {
		who     embedded.Grant
		publish string // or else
		listen  string
	}{
		{who: producer, publish: "vm.deploy.api.prod"},
		{who: producer, publish: "vm.ledger.log.ci"},
		{who: producer, publish: "vm.federation.log.ci"},
		{who: producer, publish: "vm.ledger.log.node"},
		{who: deploys, publish: "vm.decision.api.ci"},
		{who: producer, publish: "head.log"},
		{who: producer, publish: "seal.log"},
		{who: producer, publish: "receipt.ci"},
		{who: producer, publish: "tm.x"},
		{who: producer, publish: "dlq.x"},
		{who: producer, publish: "$JS.API.STREAM.DELETE.EVENTS_1"},
		{who: producer, publish: "$JS.API.STREAM.UPDATE.EVENTS_1"},
		{who: producer, publish: "$JS.API.STREAM.INFO.EVENTS_1"},
		{who: producer, publish: "$JS.API.CONSUMER.CREATE.EVENTS_1.x"},
		{who: producer, publish: "$SYS.REQ.SERVER.PING"},
		{who: producer, publish: "_INBOX.node.x"},
		{who: producer, listen: "vm.>"},
		{who: producer, listen: "receipt.prod"},
		{who: producer, listen: "receipt.*"},
		{who: producer, listen: "_INBOX.>"},
		{who: producer, listen: "_INBOX.prod.>"},
		{who: producer, listen: ">"},
		{who: reader, publish: "vm.deploy.api.eve"},
		{who: reader, publish: "head.log"},
		{who: reader, publish: "receipt.ci"},
		{who: reader, publish: "$JS.vault.API.STREAM.DELETE.EVENTS_1"},
		{who: reader, publish: "$JS.vault.API.STREAM.UPDATE.EVENTS_1"},
		{who: reader, publish: "$JS.vault.API.STREAM.INFO.DLQ"},
		{who: reader, publish: "$JS.vault.API.CONSUMER.CREATE.RECEIPTS.x"},
		{who: reader, publish: "$JS.vault.API.CONSUMER.NAMES.EVENTS_1"},
		{who: reader, publish: "$JS.vault.API.CONSUMER.DELETE.EVENTS_1.x"},
		{who: reader, publish: "$JS.API.STREAM.DELETE.EVENTS_1"},
		{who: reader, publish: "$JS.API.STREAM.UPDATE.EVENTS_1"},
		{who: reader, publish: "$JS.API.STREAM.PURGE.EVENTS_1"},
		{who: reader, publish: "$JS.API.STREAM.MSG.DELETE.EVENTS_1"},
		{who: reader, publish: "$JS.API.STREAM.CREATE.MINE"},
		{who: reader, publish: "$JS.API.STREAM.NAMES"},
		{who: reader, publish: "$JS.API.STREAM.INFO.DLQ"},
		{who: reader, publish: "$JS.API.CONSUMER.CREATE.RECEIPTS.x"},
		{who: reader, publish: "$JS.API.CONSUMER.NAMES.EVENTS_1"},
		{who: reader, publish: "$JS.API.CONSUMER.DELETE.EVENTS_1.x"},
		{who: reader, publish: "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS_1.x"},
		{who: reader, listen: "vm.>"},
		{who: reader, listen: "_INBOX.ci.>"},
		{who: reader, listen: "receipt.ci"},
	} {
		t.Run(string(c.who.Role)+" "+c.publish+c.listen, func(t *testing.T) {
			refused := make(chan error, 1)
			creds, err := n.Issue(c.who)
			if err != nil {
				t.Fatal(err)
			}
			nc, err := nats.Connect("", nats.InProcessServer(n.InProcess()), nats.UserCredentialBytes(creds),
				nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if c.listen != "" {
				_, err = nc.SubscribeSync(c.listen)
			} else {
				err = nc.Publish(c.publish, nil)
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
			case <-time.After(2 * time.Second):
				t.Error("the broker did not refuse")
			}
		})
	}
}

// TestRepliesStayInTheirAccount is about an attack that permissions do not stop:
// the broker's answers go to any subject that a message names as its reply.
func TestRepliesStayInTheirAccount(t *testing.T) {
	n := startNode(t)
	if _, err := n.admin.JetStream().Publish(t.Context(), "vm.deploy.api.node", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	before := n.lasts(t)
	producer := n.dial(t, embedded.Grant{Name: "ci", Role: embedded.Producer}).NATS()
	reader := n.dial(t, embedded.Grant{Name: "eve", Role: embedded.Reader}).NATS()
	targets := []string{
		"vm.deploy.api.other", "head.log", "seal.log", "tm.x", "dlq.x", "receipt.ci",
		"$JS.API.STREAM.DELETE.EVENTS_1", "$JS.API.STREAM.DELETE.HEADS", "$JS.API.STREAM.PURGE.TELEMETRY",
	}
	for i, target := range targets {
		for _, header := range []nats.Header{
			nil, {"Nats-Batch-Id": {fmt.Sprint("attack", i)}, "Nats-Batch-Sequence": {"1"}},
		} {
			msg := &nats.Msg{Subject: "vm.deploy.api.ci", Reply: target, Header: header, Data: []byte("x")}
			if err := producer.PublishMsg(msg); err != nil {
				t.Fatal(err)
			}
		}
		for subject, body := range map[string]string{
			"$JS.vault.API.DIRECT.GET.EVENTS_1":          `{"seq":1}`,
			"$JS.vault.API.STREAM.MSG.GET.EVENTS_1":      `{"seq":1}`,
			"$JS.vault.API.STREAM.INFO.EVENTS_1":         "",
			"$JS.vault.API.CONSUMER.CREATE.EVENTS_1.x":   `{"stream_name":"EVENTS_1","config":{"name":"x","ack_policy":"none"}}`,
			"$JS.vault.API.CONSUMER.MSG.NEXT.EVENTS_1.x": `{"batch":2,"no_wait":true}`,
		} {
			if err := reader.PublishRequest(subject, target, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		// A push consumer delivers to nobody's literal subscription.
		request, err := json.Marshal(map[string]any{"stream_name": "EVENTS_1", "config": map[string]any{
			"name": fmt.Sprint("push", i), "ack_policy": "none", "deliver_subject": target,
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := reader.PublishRequest(fmt.Sprint("$JS.vault.API.CONSUMER.CREATE.EVENTS_1.push", i), "_INBOX.eve.x", request); err != nil {
			t.Fatal(err)
		}
	}
	for _, nc := range []*nats.Conn{producer, reader} {
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	// The broker acts on what it was sent in its own time.
	<-time.After(500 * time.Millisecond)
	after := n.lasts(t)
	for stream, last := range before {
		if got, ok := after[stream]; !ok || got != last && stream != "EVENTS_1" {
			t.Errorf("%s ended at %d, now %d (%v)", stream, last, got, ok)
		}
	}
	if _, err := n.admin.LastFor(t.Context(), "EVENTS_1", "vm.deploy.api.other"); !errors.Is(err, bus.ErrNoMessage) {
		t.Errorf("an answer stands under another producer's name: %v", err)
	}
}

func (n node) lasts(t *testing.T) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	for _, s := range events.Streams(1) {
		info, err := n.admin.StreamInfo(t.Context(), s.Name)
		if err != nil {
			t.Error(err)
			continue
		}
		out[s.Name] = info.Last
	}
	return out
}

func TestExpiredCredentials(t *testing.T) {
	a, err := embedded.OpenAuthority(t.TempDir(), embedded.AuthorityOptions{Now: func() time.Time { return time.Now().Add(-time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir(), Authority: a, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	creds, err := a.Issue(embedded.Grant{Name: "old", Role: embedded.Admin, TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for name, creds := range map[string][]byte{"expired": creds, "none": nil} {
		if c, err := bus.Connect(t.Context(), bus.Options{Server: s.InProcess(), Creds: creds}); !errors.Is(err, bus.ErrNotAllowed) {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				c.Close()
			}
		}
	}
}

func TestKeysAreKeptPrivately(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	a, err := embedded.OpenAuthority(dir, embedded.AuthorityOptions{})
	if err != nil {
		t.Fatal(err)
	}
	creds, err := a.Issue(embedded.Grant{Name: "admin", Role: embedded.Admin})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 5 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(f, info.Mode(), err)
		}
	}
	again, err := embedded.OpenAuthority(dir, embedded.AuthorityOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Start(t.Context(), embedded.Options{Dir: store, Authority: again, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	c, err := bus.Connect(t.Context(), bus.Options{Server: s.InProcess(), Creds: creds})
	if err != nil {
		t.Fatal("credentials of an earlier run:", err)
	}
	c.Close()
}

func TestWarmRestartAndLock(t *testing.T) {
	dir := t.TempDir()
	var created time.Time
	for i := range 3 {
		s, err := embedded.Start(t.Context(), embedded.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := embedded.Start(t.Context(), embedded.Options{Dir: dir}); !errors.Is(err, embedded.ErrLocked) {
			t.Errorf("a second server on the directory: %v", err)
		}
		c, err := bus.Connect(t.Context(), bus.Options{Server: s.InProcess()})
		if err != nil {
			t.Fatal(err)
		}
		infos, err := bus.EnsureStreams(t.Context(), c, events.Streams(1), bus.Place{})
		if err != nil {
			t.Fatal(err)
		}
		info := infos["EVENTS_1"]
		if i > 0 && !info.Created.Equal(created) || info.Last != uint64(i) {
			t.Errorf("run %d: %+v, created at first %s", i, info, created)
		}
		created = info.Created
		if _, err := c.JetStream().Publish(t.Context(), "vm.deploy.api.ci", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		c.Close()
		s.Shutdown()
		s.Shutdown()
	}
}

func TestAddresses(t *testing.T) {
	for addr, want := range map[string]error{
		"0.0.0.0:0": embedded.ErrNotLoopback, ":0": embedded.ErrNotLoopback, "localhost:0": embedded.ErrNotLoopback, "127.0.0.1:0": nil, "[::1]:0": nil,
	} {
		s, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir(), Addr: addr, NoSync: true})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", addr, err, want)
		}
		if err == nil {
			s.Shutdown()
		}
	}
}
