package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

const (
	readyWithin = 30 * time.Second // the design says 10 s; a busy machine with the race detector gets more
	stopWithin  = 20 * time.Second
	lineLimit   = 1 << 20 // bytes of the ready line
)

// ready is the line that "vaultmesh up -o json" prints.
type ready struct {
	HTTP   string `json:"http"`
	NATS   string `json:"nats"`
	Origin string `json:"origin"`
	PID    int    `json:"pid"`
}

type node struct {
	ready
	cmd  *exec.Cmd
	log  string        // file with what it wrote to stderr
	done chan struct{} // closed after Wait
	err  error         // of Wait; read after done
}

// start runs program up with args and waits until it is ready.
func start(program, args, env []string, dir, log string) (*node, error) {
	stderr, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stderr.Close() }() // the child has its own
	args = append(append(slices.Clone(program[1:]), "up"), args...)
	n := &node{log: log, done: make(chan struct{})}
	// The script's own end stops it, with a signal that lets it finish.
	n.cmd = exec.Command(lookPath(program[0], env), args...)
	n.cmd.Env, n.cmd.Dir, n.cmd.Stderr = env, dir, stderr
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	lines := make(chan ready, 1)
	go func() {
		defer close(n.done)
		in := bufio.NewScanner(stdout)
		in.Buffer(nil, lineLimit)
		var text []byte
		told := false
		for in.Scan() {
			if told {
				continue // drained, so that the node never blocks on a full pipe
			}
			if text = append(text, in.Bytes()...); !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
				text = nil
			}
			var r ready
			if json.Unmarshal(text, &r) == nil && r.HTTP != "" {
				lines <- r
				told = true
			}
		}
		n.err = n.cmd.Wait()
	}()
	timeout := time.NewTimer(readyWithin)
	defer timeout.Stop()
	select {
	case n.ready = <-lines:
	case <-n.done:
		return nil, fmt.Errorf("ended before it was ready: %w\n%s", n.err, n.tail())
	case <-timeout.C:
		n.kill()
		return nil, fmt.Errorf("printed no ready line within %v\n%s", readyWithin, n.tail())
	}
	if n.PID != n.cmd.Process.Pid {
		n.kill()
		return nil, fmt.Errorf("says its pid is %d, it is %d", n.PID, n.cmd.Process.Pid)
	}
	if err := n.wait(); err != nil {
		n.kill()
		return nil, fmt.Errorf("%w\n%s", err, n.tail())
	}
	return n, nil
}

// wait asks /readyz until all roles run. A node with TLS has a certificate that
// only its script knows, so there the ready line must do.
func (n *node) wait() error {
	if !strings.HasPrefix(n.HTTP, "http://") {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := get(ctx, n.HTTP+"/readyz")
		if err == nil {
			return nil
		}
		select {
		case <-n.done:
			return fmt.Errorf("ended before /readyz: %w", n.err)
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v: %w", readyWithin, err)
		case <-tick.C:
		}
	}
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// stop sends SIGTERM and wants exit code 0. A second call does nothing.
func (n *node) stop() error {
	select {
	case <-n.done:
		if n.err == nil {
			return nil
		}
		return fmt.Errorf("ended by itself: %w\n%s", n.err, n.tail())
	default:
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	timeout := time.NewTimer(stopWithin)
	defer timeout.Stop()
	select {
	case <-n.done:
	case <-timeout.C:
		n.kill()
		return fmt.Errorf("did not stop within %v of SIGTERM\n%s", stopWithin, n.tail())
	}
	if n.err != nil {
		return fmt.Errorf("did not exit with 0 on SIGTERM: %w\n%s", n.err, n.tail())
	}
	return nil
}

func (n *node) kill() {
	_ = n.cmd.Process.Kill()
	<-n.done
}

// tail is the end of the log, for an error.
func (n *node) tail() string {
	text, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4096):])
}

// lookPath finds a program in the script's PATH, not in the test's.
func lookPath(name string, env []string) string {
	if strings.ContainsRune(name, filepath.Separator) {
		return name
	}
	for _, pair := range slices.Backward(env) {
		list, ok := strings.CutPrefix(pair, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			file := filepath.Join(dir, name)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return file
			}
		}
		break
	}
	return name
}

func startNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! startnode")
	}
	name := "node"
	if len(args) > 1 && args[0] == "-as" {
		name, args = args[1], args[2:]
	}
	s := of(ts)
	if s.nodes[name] != nil {
		ts.Fatalf("node %s runs already", name)
	}
	data, args := withDefaults(args, filepath.Join(s.work, map[bool]string{true: "data", false: name}[name == "node"]))
	data = ts.MkAbs(data)
	n, err := start(s.program, args, s.environ(ts), ts.MkAbs("."), filepath.Join(s.work, name+".log"))
	if err != nil {
		ts.Fatalf("node %s: %v", name, err)
	}
	s.nodes[name] = n
	prefix := strings.ToUpper(name)
	ts.Setenv(prefix+"_HTTP", n.HTTP)
	ts.Setenv(prefix+"_NATS", n.NATS)
	ts.Setenv(prefix+"_ORIGIN", n.Origin)
	ts.Setenv(prefix+"_DATA", data)
	ts.Setenv(prefix+"_PID", strconv.Itoa(n.PID))
	if name == "node" {
		ts.Setenv("VAULTMESH_DATA", data)
	}
	ts.Logf("node %s: %s, %s, pid %d", name, n.HTTP, n.NATS, n.PID)
}

// withDefaults adds the flags that the script did not give, and returns the
// data directory.
func withDefaults(args []string, data string) (string, []string) {
	given := func(flag string) (string, bool) {
		for i, a := range args {
			if value, ok := strings.CutPrefix(a, flag+"="); ok {
				return value, true
			}
			if a == flag && i+1 < len(args) {
				return args[i+1], true
			}
		}
		return "", false
	}
	all := slices.Clone(args)
	if dir, ok := given("--data"); ok {
		data = dir
	} else {
		all = append(all, "--data", data)
	}
	for _, flag := range []string{"--http", "--nats"} {
		if _, ok := given(flag); !ok {
			all = append(all, flag, "127.0.0.1:0")
		}
	}
	if _, ok := given("-o"); !ok {
		all = append(all, "-o", "json")
	}
	return data, all
}

func (s *session) take(ts *testscript.TestScript, neg bool, args []string) (string, *node) {
	name := "node"
	if len(args) == 1 {
		name = args[0]
	}
	n := s.nodes[name]
	if neg || len(args) > 1 || n == nil {
		ts.Fatalf("usage: stopnode|killnode [NAME of a node that runs]")
	}
	delete(s.nodes, name)
	return name, n
}

func stopNode(ts *testscript.TestScript, neg bool, args []string) {
	name, n := of(ts).take(ts, neg, args)
	if err := n.stop(); err != nil {
		ts.Fatalf("node %s: %v", name, err)
	}
}

func killNode(ts *testscript.TestScript, neg bool, args []string) {
	_, n := of(ts).take(ts, neg, args)
	n.kill()
}
