package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

// asProgram makes the test binary the program itself, so that signals reach a real
// process.
const asProgram = "VAULTMESH_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		registered = nil // a node without layers: this package is not to test them
		main()
	}
	goleak.VerifyTestMain(m)
}

// call runs a command line without layers in this process.
func call(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p := newProgram(nil, term.New(&out, &errs, func(k string) string { return env[k] }), strings.NewReader(""))
	code = p.term.Run(t.Context(), p.root, args)
	return code, out.String(), errs.String()
}

type process struct {
	*exec.Cmd
	HTTP   string `json:"http"`
	NATS   string `json:"nats"`
	Origin string `json:"origin"`
	PID    int    `json:"pid"`
	log    *bytes.Buffer
}

// up starts a node as a process and reads its ready line.
func up(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	n := &process{log: &bytes.Buffer{}}
	n.Cmd = exec.Command(os.Args[0], append([]string{"up", "--data", dir, "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0", "--reserve", "1MiB", "-o", "json"}, args...)...)
	n.Env = append(os.Environ(), asProgram+"=1", "XDG_CONFIG_HOME="+t.TempDir())
	n.Stderr = n.log
	out, err := n.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Process.Kill(); _ = n.Wait() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("no ready line: %v\n%s", err, n.log)
	}
	if err := json.Unmarshal(line, n); err != nil || n.PID != n.Process.Pid || n.HTTP == "" || n.NATS == "" || n.Origin == "" {
		t.Fatalf("ready line %s: %v", line, err)
	}
	t.Logf("ready after %s", time.Since(begin).Round(time.Millisecond))
	return n
}

func TestANodeEndsOnSignals(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		n := up(t, dir)
		resp, err := http.Get(n.HTTP + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		if resp.StatusCode != 200 {
			t.Errorf("/readyz: %d", resp.StatusCode)
		}
		if code, out, errs := call(t, nil, "doctor", "--data", dir, "--reserve", "1MiB"); code != 0 {
			t.Errorf("doctor beside a healthy node: %d\n%s%s", code, out, errs)
		}
		if code, _, errs := call(t, nil, "up", "--data", dir, "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"); code != 5 || !strings.Contains(errs, n.HTTP) || !strings.Contains(errs, "mend: ") {
			t.Errorf("a second node: %d %s", code, errs)
		}
		if err := n.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := n.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", sig, err, n.log)
		}
		for _, name := range []string{daemon.NodeFile, daemon.SocketFile} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%s: %s is left", sig, name)
			}
		}
	}
}

func TestANodeThatWasKilledStartsAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := up(t, dir)
	if err := n.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = n.Wait()
	code, out, _ := call(t, nil, "doctor", "--data", dir, "--reserve", "1MiB", "-o", "json")
	var lines []examined
	if err := json.Unmarshal([]byte(out), &lines); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	found := 0
	for _, l := range lines {
		for _, f := range l.Findings {
			found++
			if l.OK || l.Check != "node" || !strings.Contains(f.What, "killed") || f.Mend == "" {
				t.Errorf("finding of %s: %+v", l.Check, f)
			}
		}
	}
	if code != 6 || found != 1 {
		t.Errorf("doctor after a kill: exit %d, %d findings\n%s", code, found, out)
	}
	again := up(t, dir)
	if again.Origin != n.Origin {
		t.Errorf("the origin changed from %s to %s", n.Origin, again.Origin)
	}
}

// Fault row 1, reduced: killed at any point of its start, a node starts again, with
// the same tokens once it had some.
func TestKilledWhileStarting(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := filepath.Join(t.TempDir(), "data")
	var token []byte
	for range 12 {
		c := exec.Command(os.Args[0], "up", "--data", dir, "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0", "--reserve", "1MiB")
		c.Env = append(os.Environ(), asProgram+"=1", "XDG_CONFIG_HOME="+t.TempDir())
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait()
		now, err := os.ReadFile(daemon.TokenPath(dir, daemon.Admin))
		if token != nil && !bytes.Equal(token, now) {
			t.Fatalf("the token changed: %v", err)
		}
		if err == nil {
			token = now
		}
	}
	up(t, dir)
	if now, _ := os.ReadFile(daemon.TokenPath(dir, daemon.Admin)); token != nil && !bytes.Equal(token, now) || len(now) < 43 {
		t.Errorf("the token is %d bytes, or another", len(now))
	}
}

func TestDoctorFinds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if code, out, errs := call(t, nil, "doctor", "--data", dir); code != 6 || !strings.Contains(out, "vaultmesh up") {
		t.Errorf("without a data directory: %d %s%s", code, out, errs)
	}
	if code, _, errs := call(t, nil, "creds", "add", "ci", "--data", dir); code != 0 {
		t.Fatal(errs)
	}
	for name, c := range map[string]struct {
		spoil func() error
		args  []string
		says  []string
	}{
		"a readable token": {func() error { return os.Chmod(filepath.Join(dir, "creds", "ci.token"), 0o644) }, nil, []string{"ci.token", "chmod 600"}},
		"a future file": {func() error {
			at := time.Now().Add(time.Hour)
			return os.Chtimes(filepath.Join(dir, "creds", "ci.json"), at, at)
		}, nil, []string{"clock", "behind"}},
		"a huge reserve":     {func() error { return nil }, []string{"--reserve", "4000TiB"}, []string{"reserve of", "larger disk"}},
		"an open directory":  {func() error { return os.Chmod(dir, 0o755) }, nil, []string{"chmod 700"}},
		"an address outside": {func() error { return nil }, []string{"--http", "0.0.0.0:1"}, []string{"--tls-cert"}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.spoil(); err != nil {
				t.Fatal(err)
			}
			code, out, errs := call(t, nil, append([]string{"doctor", "--data", dir}, c.args...)...)
			for _, s := range c.says {
				if !strings.Contains(out, s) {
					t.Errorf("it does not say %q:\n%s%s", s, out, errs)
				}
			}
			if code != 6 {
				t.Errorf("exit %d", code)
			}
			now := time.Now()
			_ = os.Chmod(dir, 0o700)
			_ = os.Chmod(filepath.Join(dir, "creds", "ci.token"), 0o600)
			_ = os.Chtimes(filepath.Join(dir, "creds", "ci.json"), now, now)
		})
	}
}

func TestCredsAdd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	code, out, errs := call(t, nil, "creds", "add", "ci", "--data", dir, "--role", "producer", "--domain", "deploy", "--domain", "artifact", "--ttl", "1h", "-o", "json")
	var made struct{ Name, Role, Creds, Token string }
	if err := json.Unmarshal([]byte(out), &made); err != nil || code != 0 {
		t.Fatalf("%d %v %s%s", code, err, out, errs)
	}
	for _, path := range []string{made.Creds, made.Token} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", path, info, err)
		}
		b, _ := os.ReadFile(path)
		if strings.Contains(out+errs, strings.TrimSpace(string(b))) {
			t.Errorf("the secret in %s is printed", path)
		}
	}
	for _, c := range []struct {
		exit int
		args []string
	}{
		{5, []string{"ci"}}, {5, []string{"admin", "--role", "reader"}}, {2, []string{"a/b"}}, {2, []string{"x", "--role", "king"}}, {2, []string{"node"}},
		{2, []string{"x", "--role", "submitter"}}, {2, []string{"x", "--ttl", "-1h"}}, {2, []string{"x", "--role", "reader", "--domain", "deploy"}}, {2, nil},
		{2, []string{"x", "--domain", "ledger"}}, {2, []string{"x", "--domain", "*"}},
		{0, []string{"acme", "--role", "submitter", "--tenant", "acme"}},
	} {
		code, _, errs := call(t, nil, append([]string{"creds", "add", "--data", dir}, c.args...)...)
		if code != c.exit || code != 0 && !strings.Contains(errs, "mend: ") {
			t.Errorf("creds add %v: %d, want %d: %s", c.args, code, c.exit, errs)
		}
	}
}

func TestConfigExplain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("tsa: [https://u:canary@tsa.example/]\nlayers: {aurora: {token: canary}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"VAULTMESH_HTTP": "127.0.0.1:7"}
	for _, form := range []string{"table", "json", "yaml"} {
		code, out, errs := call(t, env, "config", "explain", "--config", file, "--nats", "127.0.0.1:0", "-o", form)
		if code != 0 || !strings.Contains(out, "environment VAULTMESH_HTTP") || !strings.Contains(out, "flag --nats") || !strings.Contains(out, "file "+file) {
			t.Errorf("%d %s%s", code, out, errs)
		}
		if strings.Contains(out+errs, "canary") {
			t.Errorf("%s shows a password", form)
		}
	}
	if code, _, errs := call(t, map[string]string{"VAULTMESH_CONFIG": "/none"}, "config", "explain"); code != 2 || !strings.Contains(errs, "/none") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestCommandLines(t *testing.T) {
	for _, c := range []struct {
		exit int
		says string
		args []string
	}{
		{0, "layers", []string{"version"}},
		{0, "vaultmesh", []string{"--version"}},
		{0, "Examples", []string{"--help"}},
		{0, "bash", []string{"completion", "bash"}},
		{2, "unknown", []string{"upp"}},
		{2, "--http", []string{"up", "--htp", "x"}},
		{2, "unknown command", []string{"up", "x"}},
		{2, "--nats", []string{"run"}},
		{2, "--creds", []string{"run", "--nats", "nats://127.0.0.1:1"}},
		{7, "--tls-cert", []string{"up", "--http", "0.0.0.0:0", "--data", "/none"}},
		{2, "host:port", []string{"up", "--http", "x", "--data", "/none"}},
	} {
		code, out, errs := call(t, nil, c.args...)
		if code != c.exit || !strings.Contains(strings.ToLower(out+errs), strings.ToLower(c.says)) {
			t.Errorf("%v: %d, want %d and %q:\n%s%s", c.args, code, c.exit, c.says, out, errs)
		}
	}
}

// Every command says what it is for, and shows how.
func TestHelp(t *testing.T) {
	p := newProgram(nil, term.New(io.Discard, io.Discard, nil), nil)
	for _, cmd := range p.root.Commands() {
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s lacks a line or an example", cmd.CommandPath())
		}
	}
}

func TestRunOnABrokerOfOthers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := filepath.Join(t.TempDir(), "data")
	n := up(t, dir)
	other := filepath.Join(t.TempDir(), "data")
	pr, pw := io.Pipe()
	var errs bytes.Buffer
	p := newProgram(nil, term.New(pw, &errs, nil), nil)
	done := make(chan int, 1)
	go func() {
		done <- p.term.Run(ctx, p.root, []string{"run", "--data", other, "--http", "127.0.0.1:0", "--nats", n.NATS, "--creds", filepath.Join(dir, "creds", "admin.creds"), "--replicas", "1"})
		_ = pw.Close()
	}()
	line, err := bufio.NewReader(pr).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "vaultmesh is ready: http=http://127.0.0.1:") || !strings.Contains(line, "nats="+n.NATS) {
		t.Fatalf("%q %v\n%s", line, err, errs.String())
	}
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit %d\n%s", code, errs.String())
	}
}
