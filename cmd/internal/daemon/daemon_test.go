package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log is a buffer that many goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func testConfig(t *testing.T) Config {
	t.Helper()
	c, _, err := Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Data, c.HTTP, c.NATS, c.Reserve = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0", 1<<20
	return c
}

// start runs a node that listens, until the test ends.
func start(t *testing.T, change func(*Options)) (*Running, Config, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	o := Options{Config: testConfig(t), Listen: true, NoSync: true,
		Logger: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := r.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return r, o.Config, log
}

func base(r *Running) string { u, _, _ := r.Addresses(); return u }

// do makes a request with its own connection and returns the answer and its body.
func do(t *testing.T, r *http.Request) (*http.Response, []byte) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLifeOfANode(t *testing.T) {
	begin := time.Now()
	r, c, _ := start(t, nil)
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("ready after %s, want at most 10 s", d)
	}
	info, err := os.Stat(c.Data)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v %v", info.Mode(), err)
	}
	var n map[string]any
	b, err := os.ReadFile(filepath.Join(c.Data, NodeFile))
	if err != nil || json.Unmarshal(b, &n) != nil {
		t.Fatal(err)
	}
	if n["http"] != base(r) || !strings.HasPrefix(n["nats"].(string), "nats://127.0.0.1:") || n["pid"] != float64(os.Getpid()) || n["origin"] == "" {
		t.Errorf("node.json = %s", b)
	}
	for _, name := range []string{"admin.token", "admin.creds", "producer.token", "producer.creds", "reader.token", "reader.creds"} {
		info, err := os.Stat(filepath.Join(c.Data, CredsDir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("creds/%s: %v %v", name, info, err)
		}
	}
	for _, name := range []string{SocketFile, NodeFile, LockFile} {
		info, err := os.Stat(filepath.Join(c.Data, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	for path, want := range map[string]int{"/health": 200, "/readyz": 200, "/v1/node": 200, "/openapi.json": 200, "/metrics": 200} {
		if resp, b := do(t, request(t, "GET", base(r)+path, nil)); resp.StatusCode != want {
			t.Errorf("GET %s: %d %s", path, resp.StatusCode, b)
		}
	}

	// A second node on the directory is told who has it.
	_, err = Start(t.Context(), Options{Config: c, Listen: true})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), base(r)) || term.ExitCode(err) != 5 {
		t.Errorf("second node: %v", err)
	}

	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{SocketFile, NodeFile} {
		if _, err := os.Stat(filepath.Join(c.Data, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left after the stop: %v", name, err)
		}
	}
	token, _ := os.ReadFile(TokenPath(c.Data, Admin))
	again, err := Start(t.Context(), Options{Config: c, Listen: true, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Stop(context.Background()) }()
	if now, _ := os.ReadFile(TokenPath(c.Data, Admin)); !bytes.Equal(token, now) {
		t.Error("the restart made another token")
	}
}

func TestStartRefuses(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
		mend   string
		exit   int
	}{
		"http to the world":          {func(c *Config) { c.HTTP = "0.0.0.0:0" }, "--http 0.0.0.0:0", "--tls-cert", 7},
		"http on every address":      {func(c *Config) { c.HTTP = ":0" }, "--http", "--tls-cert", 7},
		"http on every v6 address":   {func(c *Config) { c.HTTP = "[::]:0" }, "--http", "--oidc-issuer", 7},
		"http by name":               {func(c *Config) { c.HTTP = "host.example:0" }, "--http", "--tls-cert", 7},
		"TLS without authentication": {func(c *Config) { c.HTTP, c.TLSCert, c.TLSKey = "0.0.0.0:0", "c", "k" }, "--http", "--tokens", 7},
		"tokens without TLS":         {func(c *Config) { c.HTTP, c.Tokens = "0.0.0.0:0", "t" }, "--http", "--tls-cert", 7},
		"nats to the world":          {func(c *Config) { c.NATS = "0.0.0.0:0" }, "--nats 0.0.0.0:0", "--tls-cert", 7},
		"half of TLS":                {func(c *Config) { c.TLSCert = "c" }, "key", "--tls-key", 2},
		"no such certificate":        {func(c *Config) { c.TLSCert, c.TLSKey = "/none", "/none" }, "certificate", "--tls-cert", 2},
		"no address":                 {func(c *Config) { c.HTTP = "8420" }, `--http "8420"`, "host:port", 2},
		"http taken":                 {func(c *Config) { c.HTTP = busy.Addr().String() }, "--http " + busy.Addr().String() + " is in use", "--http 127.0.0.1:0", 5},
		"nats taken":                 {func(c *Config) { c.NATS = busy.Addr().String() }, "--nats " + busy.Addr().String() + " is in use", "--nats 127.0.0.1:0", 5},
		"issuer without TLS":         {func(c *Config) { c.OIDC.Issuer = "http://idp.example" }, "without TLS", "https", 2},
		"issuer without audience":    {func(c *Config) { c.OIDC.Issuer = "https://idp.example" }, "audience", "--oidc-audience", 2},
		"no such token file":         {func(c *Config) { c.Tokens = "/none" }, "/none", "--tokens", 2},
		"role of no layer":           {func(c *Config) { c.Cluster.Roles = []string{"fold"} }, `"fold"`, "choose", 2},
		"settings of no layer":       {func(c *Config) { c.Layers = map[string]map[string]any{"x": nil} }, "layers.x", "remove", 2},
		"broker's password in a URL": {func(c *Config) { c.Cluster.NATS = []string{"nats://u:canary@h"} }, "--nats", "--creds", 2},
		"a reserve beyond the disk":  {func(c *Config) { c.Reserve = 1 << 60 }, "free", "--reserve", 1},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig(t)
			c.change(&config)
			r, err := Start(t.Context(), Options{Config: config, Listen: true, NoSync: true})
			if err == nil {
				_ = r.Stop(context.Background())
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(term.MendOf(err), c.mend) || term.ExitCode(err) != c.exit {
				t.Errorf("error %q, mend %q, exit %d; want %q, %q, %d", err, term.MendOf(err), term.ExitCode(err), c.says, c.mend, c.exit)
			}
			if strings.Contains(err.Error()+term.MendOf(err), "canary") {
				t.Error("the error shows a password")
			}
			if _, err := os.Stat(filepath.Join(config.Data, SocketFile)); err == nil {
				t.Error("a socket is left")
			}
		})
	}
}

func TestPermissions(t *testing.T) {
	c := testConfig(t)
	write := func(path string, mode fs.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(path, []byte("x"), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(c.Data, KeysDir, "operator.key")
	write(secret, 0o640)
	write(filepath.Join(c.Data, KeysDir, "operator.asc"), 0o644)
	_, err := Start(t.Context(), Options{Config: c})
	if err == nil || !strings.Contains(err.Error(), secret) || !strings.Contains(term.MendOf(err), "chmod 600 "+secret) {
		t.Errorf("a readable secret: %v, mend %q", err, term.MendOf(err))
	}
	if err := errors.Join(os.Chmod(secret, 0o600), os.Chmod(c.Data, 0o755)); err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), Options{Config: c})
	if err == nil || term.MendOf(err) != "chmod 700 "+c.Data || term.ExitCode(err) != 7 {
		t.Errorf("an open data directory: %v, mend %q", err, term.MendOf(err))
	}
}

func TestLayers(t *testing.T) {
	var order []string
	var mu sync.Mutex
	note := func(s string) { mu.Lock(); defer mu.Unlock(); order = append(order, s) }
	layer := func(name string) Layer {
		return Layer{Name: name, Roles: []string{name + "-role"}, Start: func(ctx context.Context, n *Node) (func(context.Context) error, error) {
			note("start " + name)
			n.Go(name+"-loop", func(ctx context.Context) error { <-ctx.Done(); note("end " + name); return nil })
			n.Info(name, func() any { return 7 })
			n.Info("", func() any { return map[string]any{name + "-size": 1} })
			n.SetOrigin("example.org/" + name)
			return func(context.Context) error { note("stop " + name); return nil }, nil
		}}
	}
	r, c, _ := start(t, func(o *Options) { o.Layers = []Layer{layer("low"), layer("high")} })
	_, b := do(t, request(t, "GET", base(r)+"/v1/node", nil))
	var n map[string]any
	if err := json.Unmarshal(b, &n); err != nil {
		t.Fatal(err)
	}
	if n["low"] != 7.0 || n["high-size"] != 1.0 || n["origin"] != "example.org/high" || len(n["roles"].([]any)) != 2 {
		t.Errorf("/v1/node = %s", b)
	}
	if _, _, origin, _, _ := ReadNodeFile(c.Data); origin != "example.org/high" {
		t.Errorf("origin in node.json is %q", origin)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(order, ", "), "start low, start high, end high, stop high, end low, stop low"; got != want {
		t.Errorf("order: %s\nwant:  %s", got, want)
	}

	// One that fails to start undoes those before it.
	order = nil
	config := testConfig(t)
	broken := Layer{Name: "broken", Start: func(context.Context, *Node) (func(context.Context) error, error) { return nil, errors.New("no") }}
	if _, err := Start(t.Context(), Options{Config: config, Layers: []Layer{layer("low"), broken}, NoSync: true}); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("a layer that fails: %v", err)
	}
	if got, want := strings.Join(order, ", "), "start low, end low, stop low"; got != want {
		t.Errorf("order: %s\nwant:  %s", got, want)
	}
}

func TestSupervision(t *testing.T) {
	var runs atomic.Int32
	fixed := make(chan struct{})
	layer := Layer{Name: "l", Start: func(_ context.Context, n *Node) (func(context.Context) error, error) {
		n.Go("flaky", func(ctx context.Context) error {
			switch runs.Add(1) {
			case 1:
				return errors.New("broken")
			case 2:
				panic("worse")
			}
			select {
			case <-fixed:
				<-ctx.Done()
				return ctx.Err()
			default:
				return errors.New("still broken")
			}
		})
		n.Go("hopeless", func(context.Context) error { return nil })
		return nil, nil
	}}
	o := Options{Config: testConfig(t), Layers: []Layer{layer}, NoSync: true}
	r, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Stop(context.Background()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for runs.Load() < 3 && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if ok, checks := r.core.ready(ctx); ok || checks["hopeless"] != "ok" {
		t.Errorf("ready with a broken part: %v", checks)
	}
	close(fixed)
	if err := r.AwaitReady(ctx); err != nil {
		t.Errorf("not ready after it was mended: %v", err)
	}
}
