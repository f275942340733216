package remembrancer

import (
	"bufio"
	"context"
	crand "crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/e2e/internal/harness"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// A node is a vaultmesh of its own process.
type node struct {
	HTTP string `json:"http"`
	NATS string `json:"nats"`
	cmd  *exec.Cmd
}

func start(t *testing.T, data, httpAddr, natsAddr string) *node {
	t.Helper()
	return run(t, "up", "--data", data, "--http", httpAddr, "--nats", natsAddr)
}

func run(t *testing.T, args ...string) *node {
	t.Helper()
	cmd := exec.Command(filepath.Join(harness.Binaries(t), "vaultmesh"), append(args, "-o", "json")...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := &node{cmd: cmd}
	t.Cleanup(n.kill)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, n)
	}
	if err != nil {
		t.Fatalf("the node did not start: %v", err)
	}
	return n
}

func (n *node) kill() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

// verifier reads receipts as a service would.
type verifier struct{ proof.ReceiptVerifier }

func (v verifier) VerifyReceipts(note []byte) ([]bus.Receipt, error) {
	b, err := v.ReceiptVerifier.VerifyReceipts(note)
	if err != nil {
		return nil, err
	}
	var out []bus.Receipt
	for _, it := range b.Items {
		out = append(out, bus.Receipt{Origin: b.Origin, Producer: events.Producer(b.Producer), EventID: events.ID(it.EventID), Index: it.Index, Size: b.Size, Leaf: it.Leaf, Root: b.Root})
	}
	return out, nil
}

// TestFaultKill kills the node under load. A producer with an outbox loses
// nothing: every event that the SDK took has its signed receipt in the end, and
// stands in the log exactly once.
func TestFaultKill(t *testing.T) {
	kills := 3
	if testing.Short() {
		kills = 1
	}
	if os.Getenv("VAULTMESH_FAULTS") == "full" {
		kills = 50
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SEED=%d repeats the moments of the kills", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	data := t.TempDir()
	n := start(t, data, "127.0.0.1:0", "127.0.0.1:0")
	httpAddr, natsAddr := strings.TrimPrefix(n.HTTP, "http://"), strings.TrimPrefix(n.NATS, "nats://")

	vkey := strings.TrimSpace(string(get(t, n.HTTP+"/v1/keys/log.vkey")))
	rv, err := proof.NewReceiptVerifier(vkey, "producer")
	if err != nil {
		t.Fatal(err)
	}
	registry, err := events.NewRegistry(remembrancer.Definitions())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bus.Connect(t.Context(), bus.Options{URLs: []string{n.NATS}, CredsFile: filepath.Join(data, "creds", "producer.creds"), Name: "kill"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	outbox, err := bus.OpenOutbox(filepath.Join(t.TempDir(), "outbox"), bus.OutboxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = outbox.Close() }()
	pub, err := bus.NewPublisher(conn, bus.PublisherOptions{
		Producer: "producer", Check: registry.Check, Outbox: outbox, Receipts: verifier{rv}, AckWait: time.Second, ReplayAfter: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pub.Close() }()

	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	var taken []events.ID
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				now := time.Now()
				id, err := events.NewID(now, crand.Reader)
				if err != nil {
					t.Error(err)
					return
				}
				e, err := registry.New(&remembrancer.DeployRecorded{Component: "api", Version: string(id)}, events.Origin{ID: id, Source: "/producer", Time: now})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := pub.Publish(ctx, e); err != nil && ctx.Err() == nil {
					t.Errorf("publish: %v", err)
					return
				}
				mu.Lock()
				taken = append(taken, id)
				mu.Unlock()
			}
		})
	}
	for range kills {
		time.Sleep(time.Duration(50+rng.IntN(700)) * time.Millisecond)
		n.kill()
		n = start(t, data, httpAddr, natsAddr)
	}
	time.Sleep(300 * time.Millisecond)
	stop()
	wg.Wait()

	deadline := time.Now().Add(90 * time.Second)
	for outbox.Len() > 0 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	if left := outbox.Len(); left > 0 {
		t.Fatalf("%d of %d events have no receipt", left, len(taken))
	}
	t.Logf("%d events, %d kills", len(taken), kills)
	for i, id := range taken {
		if i%(1+len(taken)/200) != 0 {
			continue // the audit below looks at all of them
		}
		var got struct {
			Event struct {
				Data remembrancer.DeployRecorded `json:"data"`
			} `json:"event"`
		}
		if err := json.Unmarshal(get(t, n.HTTP+"/v1/events/"+string(id)+"?source=/producer"), &got); err != nil || got.Event.Data.Version != string(id) {
			t.Fatalf("event %s: %+v, %v", id, got, err)
		}
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(harness.Binaries(t), "remembrancer"), "verify-audit", "--data", data, "-o", "json").CombinedOutput()
	if err != nil {
		t.Fatalf("audit: %v\n%s", err, out)
	}
	var state struct {
		Size uint64 `json:"size"`
	}
	if err := json.Unmarshal(get(t, n.HTTP+"/v1/node"), &state); err != nil || state.Size < uint64(len(taken)) {
		t.Errorf("%d entries for %d events, %v", state.Size, len(taken), err)
	}
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v: %s", url, resp.Status, err, b)
	}
	return b
}
