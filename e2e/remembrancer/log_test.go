package remembrancer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A tree is a log as a stranger reads and computes it: without this project's
// code, since a fault in that would agree with itself.
type tree struct {
	leaves [][]byte
	roots  [][sha256.Size]byte // of the first so many leaves (RFC 6962, section 2.1)
}

// head is line 2 and 3 of a checkpoint.
func head(t *testing.T, note []byte) (size int, root [sha256.Size]byte) {
	t.Helper()
	lines := strings.SplitN(string(note), "\n", 4)
	if len(lines) < 4 {
		t.Fatalf("no checkpoint: %q", note)
	}
	size, err := strconv.Atoi(lines[1])
	if err != nil {
		t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || copy(root[:], b) != len(root) {
		t.Fatalf("no root: %q, %v", lines[2], err)
	}
	return size, root
}

// readLog reads what the newest checkpoint covers and compares the root.
func readLog(t *testing.T, n *node) *tree {
	t.Helper()
	note := get(t, n.HTTP+"/checkpoint")
	size, root := head(t, note)
	l := &tree{}
	const width = 256
	for at := 0; at < size; at += width {
		path := fmt.Sprintf("%s/tile/entries/%03d", n.HTTP, at/width)
		if size-at < width {
			path += fmt.Sprintf(".p/%d", size-at)
		}
		for b := get(t, path); len(b) > 0; {
			long := int(binary.BigEndian.Uint16(b))
			l.leaves = append(l.leaves, b[2:2+long])
			b = b[2+long:]
		}
	}
	if len(l.leaves) != size {
		t.Fatalf("%d leaves, the checkpoint says %d", len(l.leaves), size)
	}
	l.compute()
	if l.roots[size] != root {
		t.Fatalf("the leaves' root is %x, the checkpoint's %x", l.roots[size], root)
	}
	return l
}

func (l *tree) compute() {
	type subtree struct {
		hash [sha256.Size]byte
		size int
	}
	join := func(a, b [sha256.Size]byte) [sha256.Size]byte {
		return sha256.Sum256(append(append([]byte{1}, a[:]...), b[:]...))
	}
	l.roots = [][sha256.Size]byte{sha256.Sum256(nil)}
	var stack []subtree
	for _, leaf := range l.leaves {
		stack = append(stack, subtree{sha256.Sum256(append([]byte{0}, leaf...)), 1})
		for k := len(stack) - 1; k > 0 && stack[k-1].size == stack[k].size; k-- {
			stack = append(stack[:k-1], subtree{join(stack[k-1].hash, stack[k].hash), 2 * stack[k].size})
		}
		root := stack[len(stack)-1].hash
		for k := len(stack) - 2; k >= 0; k-- {
			root = join(stack[k].hash, root)
		}
		l.roots = append(l.roots, root)
	}
}

// holds fails unless a checkpoint that was published at any time is of this log.
func (l *tree) holds(t *testing.T, note []byte) {
	t.Helper()
	size, root := head(t, note)
	if size >= len(l.roots) || l.roots[size] != root {
		t.Errorf("a published checkpoint is not of this log of %d leaves:\n%s", len(l.leaves), note)
	}
}

// versions counts the deployments by version, and says where the last one stands.
func (l *tree) versions(t *testing.T) (count, index map[string]int) {
	t.Helper()
	count, index = map[string]int{}, map[string]int{}
	for i, leaf := range l.leaves {
		var e struct {
			Type string
			Data struct{ Version string }
		}
		if err := json.Unmarshal(leaf, &e); err != nil {
			t.Fatalf("leaf %d: %v", i, err)
		}
		if e.Type == "cloud.vaultmesh.deploy.recorded.v1" {
			count[e.Data.Version]++
			index[e.Data.Version] = i
		}
	}
	return count, index
}

// A load is many clients that repeat a write, with the same key, until some node
// says that it stands in the log.
type load struct {
	mu          sync.Mutex
	targets     []string // addresses of nodes
	index       map[string]uint64
	checkpoints map[string]bool
	stop        context.CancelFunc
	wg          sync.WaitGroup
}

func startLoad(t *testing.T, token string, clients int, targets ...string) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{targets: targets, index: map[string]uint64{}, checkpoints: map[string]bool{}, stop: stop}
	client := &http.Client{Timeout: 5 * time.Second}
	t.Cleanup(func() { stop(); l.wg.Wait(); client.CloseIdleConnections() })
	target := func(i int) string {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.targets[i%len(l.targets)]
	}
	for c := range clients {
		l.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				version := fmt.Sprintf("%d-%d", c, i)
				for try := 0; ; try++ {
					// Not the test's context: what was begun is finished.
					w, err := post(context.WithoutCancel(ctx), client, target(c+try)+"/v1/events", token, version)
					if err == nil {
						l.mu.Lock()
						l.index[version] = *w.Index
						l.mu.Unlock()
						break
					}
					if try > 2000 {
						t.Errorf("%s is not taken: %v", version, err)
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	l.wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if resp, err := client.Get(target(i) + "/checkpoint"); err == nil {
				b, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err == nil && resp.StatusCode == http.StatusOK {
					l.mu.Lock()
					l.checkpoints[string(b)] = true
					l.mu.Unlock()
				}
			}
			time.Sleep(30 * time.Millisecond)
		}
	})
	return l
}

func post(ctx context.Context, client *http.Client, url, token, version string) (written, error) {
	var w written
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(deploy("api", version)))
	if err != nil {
		return w, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", oneEvent)
	req.Header.Set("Idempotency-Key", version)
	resp, err := client.Do(req)
	if err != nil {
		return w, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(b, &w)
	}
	if err != nil {
		return w, err
	}
	if resp.StatusCode/100 != 2 || w.Index == nil {
		return w, fmt.Errorf("%s: %s", resp.Status, b)
	}
	return w, nil
}

// taken is how many writes were answered so far.
func (l *load) taken() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.index)
}

// more waits until so many further writes were answered, and a while.
func (l *load) more(t *testing.T, count int, while time.Duration) {
	t.Helper()
	want := l.taken() + count
	time.Sleep(while)
	for deadline := time.Now().Add(time.Minute); l.taken() < want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d answers within a minute, wanted %d", l.taken(), want)
		}
	}
}

// check ends the load and compares all that was answered with the log of a node.
func (l *load) check(t *testing.T, n *node) *tree {
	t.Helper()
	l.stop()
	l.wg.Wait()
	most := uint64(0)
	for _, index := range l.index {
		most = max(most, index)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if size, _ := head(t, get(t, n.HTTP+"/checkpoint")); uint64(size) > most {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no checkpoint covers entry %d", most)
		}
	}
	log := readLog(t, n)
	count, at := log.versions(t)
	for version, index := range l.index {
		if count[version] != 1 || at[version] != int(index) {
			t.Errorf("%s stands %d times, last at %d; the answer was %d", version, count[version], at[version], index)
		}
	}
	if len(count) != len(l.index) {
		t.Errorf("%d deployments in the log, %d were answered", len(count), len(l.index))
	}
	for note := range l.checkpoints {
		log.holds(t, []byte(note))
	}
	t.Logf("%d writes, %d checkpoints, %d leaves", len(l.index), len(l.checkpoints), len(log.leaves))
	return log
}
