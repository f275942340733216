package tlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// events are some full tiles of leaves, a partial one, and hashes of level 1.
const events = 1000

// A node is a running vaultmesh.
type node struct {
	HTTP   string `json:"http"`
	Origin string `json:"origin"`
	data   string
}

// program builds a command of the product, with the product's own toolchain.
func program(t *testing.T, name string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-C", "../../..", "-o", bin, "./cmd/"+name)
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return bin
}

func start(t *testing.T) node {
	t.Helper()
	n := node{data: t.TempDir()}
	cmd := exec.Command(program(t, "vaultmesh"), "up", "--data", n.data, "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0", "-o", "json")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the node ended with %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// fill publishes events and waits until a checkpoint covers them.
func (n node) fill(t *testing.T, count int) {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(n.data, "creds", "producer.token"))
	if err != nil {
		t.Fatal(err)
	}
	for from := 0; from < count; from += 500 {
		var batch []map[string]any
		for i := from; i < min(from+500, count); i++ {
			batch = append(batch, map[string]any{
				"specversion": "1.0", "type": "cloud.vaultmesh.deploy.recorded.v1", "subject": "api",
				"data": map[string]string{"component": "api", "version": fmt.Sprint("v", i)},
			})
		}
		body, err := json.Marshal(batch)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.HTTP+"/v1/events", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/cloudevents-batch+json")
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("publish: %s: %s", resp.Status, b)
		}
	}
	for range 100 {
		if c := n.checkpoint(t); c.N > int64(count) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("no checkpoint covers the events")
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url) //nolint:noctx // a test's
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

// checkpoint reads the checkpoint as torchwood does, signature included.
func (n node) checkpoint(t *testing.T) torchwood.Checkpoint {
	t.Helper()
	vkey := strings.TrimSpace(string(get(t, n.HTTP+"/v1/keys/log.vkey")))
	v, err := torchwood.NewLogVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Open(get(t, n.HTTP+"/checkpoint"), note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	c, err := torchwood.ParseCheckpoint(signed.Text)
	if err != nil || c.Origin != n.Origin {
		t.Fatalf("checkpoint of %s: %v", c.Origin, err)
	}
	return c
}

func TestOthersClients(t *testing.T) {
	n := start(t)
	n.fill(t, events)
	t.Run("torchwood", func(t *testing.T) { readWithTorchwood(t, n, n.HTTP) })
	t.Run("fsck", func(t *testing.T) {
		if out, err := fsck(t, n, n.HTTP); err != nil {
			t.Errorf("fsck: %v\n%s", err, out)
		}
	})
	// Behind a proxy that changes one byte of one entry. (fsck tries such a log
	// again for ever, so it is not asked.)
	bad := tamper(t, n.HTTP)
	t.Run("torchwood of a changed entry", func(t *testing.T) {
		c := n.checkpoint(t)
		if _, err := entries(t, bad, c); err == nil {
			t.Error("torchwood accepts a changed entry")
		}
	})
}

func client(t *testing.T, base string) *torchwood.Client {
	t.Helper()
	f, err := torchwood.NewTileFetcher(base)
	if err != nil {
		t.Fatal(err)
	}
	c, err := torchwood.NewClient(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// entries reads all entries, each proven by the client against the checkpoint.
func entries(t *testing.T, base string, c torchwood.Checkpoint) (ids map[string]bool, err error) {
	t.Helper()
	ids = map[string]bool{}
	cl := client(t, base)
	for _, b := range cl.AllEntries(t.Context(), c.Tree, 0) {
		var e struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(b, &e); err != nil {
			return nil, err
		}
		ids[e.ID] = true
	}
	return ids, cl.Err()
}

func readWithTorchwood(t *testing.T, n node, base string) {
	c := n.checkpoint(t)
	ids, err := entries(t, base, c)
	if err != nil || int64(len(ids)) != c.N {
		t.Fatalf("%d entries of %d: %v", len(ids), c.N, err)
	}
	for _, index := range []int64{0, 255, 256, 511, c.N - 1} {
		b, proof, err := client(t, base).Entry(t.Context(), c.Tree, index)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, c.N, c.Hash, index, tlog.RecordHash(b)); err != nil {
			t.Errorf("entry %d: %v", index, err)
		}
	}
}

func fsck(t *testing.T, n node, base string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	key := filepath.Join(t.TempDir(), "log.vkey")
	if err := os.WriteFile(key, bytes.TrimSpace(get(t, n.HTTP+"/v1/keys/log.vkey")), 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(ctx, "go", "tool", "fsck", "--storage_url", base+"/", "--public_key", key, "--ui=false").CombinedOutput()
}

// tamper serves the log with one byte of the first entry bundle changed.
func tamper(t *testing.T, base string) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) },
		ModifyResponse: func(r *http.Response) error {
			if !strings.HasPrefix(r.Request.URL.Path, "/tile/entries/") {
				return nil
			}
			b, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			b = bytes.Replace(b, []byte(`"version":"v7"`), []byte(`"version":"v9"`), 1)
			r.Body = io.NopCloser(bytes.NewReader(b))
			return nil
		},
	}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return s.URL
}
