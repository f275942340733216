package remembrancer

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus/embedded"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
)

// TestTwoSealers runs two nodes with the same keys on a broker of neither. The
// compare-and-set lets one of them publish each head: kill either, and the other
// goes on with the same log.
func TestTwoSealers(t *testing.T) {
	dir := t.TempDir()
	authority, err := embedded.OpenAuthority(filepath.Join(dir, "authority"), embedded.AuthorityOptions{})
	if err != nil {
		t.Fatal(err)
	}
	broker, err := embedded.Start(t.Context(), embedded.Options{Dir: filepath.Join(dir, "broker"), Addr: "127.0.0.1:0", Authority: authority})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Shutdown)
	creds, err := authority.Issue(embedded.Grant{Name: "node", Role: embedded.Node})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "node.creds")
	if err := os.WriteFile(file, creds, 0o600); err != nil {
		t.Fatal(err)
	}
	dirA, dirB := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	begin := func(data, addr string) *node {
		return run(t, "run", "--data", data, "--http", addr, "--nats", broker.ClientURL(), "--creds", file, "--replicas", "1")
	}
	a := begin(dirA, "127.0.0.1:0")
	// The second gets the keys and tokens of the first, but not its state.
	for _, sub := range []string{"keys", "creds"} {
		if err := os.MkdirAll(filepath.Join(dirB, sub), 0o700); err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(filepath.Join(dirA, sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if f.IsDir() || f.Name() == "signed.json" {
				continue
			}
			b, err := os.ReadFile(filepath.Join(dirA, sub, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dirB, sub, f.Name()), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := begin(dirB, "127.0.0.1:0")
	addrA, addrB := strings.TrimPrefix(a.HTTP, "http://"), strings.TrimPrefix(b.HTTP, "http://")

	l := startLoad(t, token(t, dirA, "producer"), 8, a.HTTP, b.HTTP)
	l.more(t, 200, 2*time.Second)
	for _, kill := range []struct {
		n          **node
		data, addr string
	}{{&a, dirA, addrA}, {&b, dirB, addrB}} {
		(*kill.n).kill()
		l.more(t, 200, 500*time.Millisecond)
		*kill.n = begin(kill.data, kill.addr)
		l.more(t, 200, 500*time.Millisecond)
	}
	log := l.check(t, a)
	heads := everyHead(t, broker.ClientURL(), file)
	for i, h := range heads {
		log.holds(t, []byte(h.Checkpoint))
		if i > 0 && h.Size <= heads[i-1].Size {
			t.Errorf("a head of %d leaves after one of %d", h.Size, heads[i-1].Size)
		}
	}
	for _, data := range []string{dirA, dirB} {
		if _, err := os.Stat(filepath.Join(data, "keys", "signed.json")); err != nil {
			t.Errorf("one node never signed: %v", err)
		}
	}
	// Both are the same log to everybody who asks.
	for deadline := time.Now().Add(30 * time.Second); !bytes.Equal(get(t, a.HTTP+"/checkpoint"), get(t, b.HTTP+"/checkpoint")); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the two nodes show different checkpoints")
		}
	}
	readLog(t, b)
}

// everyHead reads the stream of heads with a client of NATS.
func everyHead(t *testing.T, url, creds string) []remembrancer.Head {
	t.Helper()
	nc, err := nats.Connect(url, nats.UserCredentials(creds), nats.CustomInboxPrefix("_INBOX.node"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), events.HeadsStream)
	if err != nil {
		t.Fatal(err)
	}
	var out []remembrancer.Head
	for sequence := uint64(1); sequence <= stream.CachedInfo().State.LastSeq; sequence++ {
		m, err := stream.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		var h remembrancer.Head
		if err := json.Unmarshal(m.Data, &h); err != nil {
			t.Fatal(err)
		}
		out = append(out, h)
	}
	return out
}
