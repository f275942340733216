package embedded

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
)

func TestInject(t *testing.T) {
	ctx := context.Background()
	a, err := OpenAuthority(t.TempDir(), AuthorityOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(ctx, Options{Dir: t.TempDir(), Authority: a, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	dial := func(g Grant) *bus.Conn {
		creds, err := a.Issue(g)
		if err != nil {
			t.Fatal(err)
		}
		c, err := bus.Connect(ctx, bus.Options{Server: s.InProcess(), Creds: creds})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	admin := dial(Grant{Name: "admin", Role: Admin})
	defer admin.Close()
	if _, err := bus.EnsureStreams(ctx, admin, events.Streams(1), bus.Place{}); err != nil {
		t.Fatal(err)
	}
	p := dial(Grant{Name: "ci", Role: Producer})
	defer p.Close()
	p.NATS().PublishMsg(&nats.Msg{Subject: "vm.deploy.api.ci", Reply: "head.log", Data: []byte("x")})
	p.NATS().Flush()
	time.Sleep(200 * time.Millisecond)
	for _, s := range []string{"EVENTS_1", "HEADS"} {
		i, err := admin.StreamInfo(ctx, s)
		t.Log(i, err)
	}
	h := nats.Header{"Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"1"}}
	p.NATS().PublishMsg(&nats.Msg{Subject: "vm.deploy.api.ci", Reply: "$JS.API.STREAM.DELETE.EVENTS_1", Data: []byte("x"), Header: h})
	p.NATS().Flush()
	time.Sleep(200 * time.Millisecond)
	i1, err := admin.StreamInfo(ctx, "EVENTS_1")
	t.Log(i1, err)
	r := dial(Grant{Name: "r", Role: Reader})
	defer r.Close()
	m, err := r.NATS().Request("$JS.API.CONSUMER.CREATE.EVENTS_1.abc", []byte(`{"stream_name":"EVENTS_1","config":{"name":"abc","deliver_subject":"seal.x","ack_policy":"none","deliver_policy":"all"}}`), time.Second)
	t.Log(string(m.Data), err)
	time.Sleep(200 * time.Millisecond)
	i, err := admin.StreamInfo(ctx, "SEALS")
	t.Log(i, err)
}
