package harness

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMain is also the node of these tests: "fake KIND up FLAG...".
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "fake" {
		os.Exit(fake(os.Args[2], os.Args[4:]))
	}
	os.Exit(Main(m))
}

// fake speaks like vaultmesh up, with the fault that kind names.
func fake(kind string, args []string) int {
	flags := flag.NewFlagSet("up", flag.ExitOnError)
	addr := flags.String("http", "", "")
	_ = flags.String("nats", "", "")
	data := flags.String("data", "", "")
	origin := flags.String("name", "example.org/log", "")
	_ = flags.String("o", "", "")
	_ = flags.Parse(args)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	l, err := net.Listen("tcp", *addr)
	if err != nil || os.MkdirAll(*data, 0o700) != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	asked := 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Method", r.Method)
		_ = json.NewEncoder(w).Encode(map[string]any{"method": r.Method, "token": r.Header.Get("Authorization"), "list": []int{1, 2}})
	})
	go func() { _ = http.Serve(l, mux) }()
	pid := os.Getpid()
	switch kind {
	case "dies":
		fmt.Fprintln(os.Stderr, "no disk")
		return 1
	case "lies":
		pid++
	}
	fmt.Println("ready")
	ready, _ := json.MarshalIndent(map[string]any{"http": "http://" + l.Addr().String(), "nats": "nats://127.0.0.1:7", "origin": *origin, "pid": pid}, "", "  ")
	fmt.Println(string(ready))
	fmt.Println(strings.Repeat("more than a pipe holds\n", 10_000))
	<-stop
	if kind == "fails" {
		fmt.Fprintln(os.Stderr, "cannot flush")
		return 3
	}
	return 0
}

func program(t *testing.T, kind string) []string {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{exe, "fake", kind}
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	Run(t, Options{Files: files, Node: program(t, "good"), Bare: true})
}

// What startnode and stopnode promise must be able to fail.
func TestNodeFaults(t *testing.T) {
	for _, c := range []struct{ kind, want string }{
		{"dies", "ended before it was ready: exit status 1\nno disk"},
		{"lies", "says its pid is"},
	} {
		_, args := withDefaults(nil, t.TempDir())
		n, err := start(program(t, c.kind), args, os.Environ(), t.TempDir(), filepath.Join(t.TempDir(), "log"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.kind, err, c.want)
		}
		if n != nil {
			n.kill()
		}
	}
	_, args := withDefaults(nil, t.TempDir())
	n, err := start(program(t, "fails"), args, os.Environ(), t.TempDir(), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.stop(); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "cannot flush") {
		t.Errorf("a node that fails on SIGTERM: %v", err)
	}
	n, err = start(program(t, "good"), args, os.Environ(), t.TempDir(), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	n.kill()
	if err := n.stop(); err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("a node that died: %v", err)
	}
}

func TestLookup(t *testing.T) {
	const text = `{"a":{"b":[{"c":"x"},true,12345678901234567890]},"n":null}`
	for path, want := range map[string]string{
		"a.b.0.c": "x", "a.b.1": "true", "a.b.2": "12345678901234567890", "a.b.#": "3", "n": "null", "a.b.0": `{"c":"x"}`,
	} {
		if got, err := lookup([]byte(text), path); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"b", "a.b.3", "a.b.x", "a.b.0.c.d"} {
		if got, err := lookup([]byte(text), path); err == nil {
			t.Errorf("%s = %q, want an error", path, got)
		}
	}
}

func TestDefaults(t *testing.T) {
	data, args := withDefaults([]string{"--http=127.0.0.1:9", "--tsa", "http://x"}, "/w/data")
	if got := strings.Join(args, " "); data != "/w/data" || got != "--http=127.0.0.1:9 --tsa http://x --data /w/data --nats 127.0.0.1:0 -o json" {
		t.Errorf("%s, %s", data, got)
	}
	if data, _ = withDefaults([]string{"--data", "b"}, "/w/data"); data != "b" {
		t.Error(data)
	}
}
