package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/internal/redact"
)

func secretOf(s string) redact.Secret { return redact.New(s) }

type whoami struct{ Name, Role, Producer string }

func TestDialFindsTheNode(t *testing.T) {
	r, c, _ := start(t, withEcho)
	client, err := Dial(t.Context(), ClientOptions{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	var who whoami
	if err := client.Do(t.Context(), "POST", "/v1/admin/x", map[string]int{"a": 1}, &who); err != nil || client.InProcess || who.Name != "operator" || who.Producer != "operator" {
		t.Errorf("over the socket: %+v %v", who, err)
	}

	c.Node, c.TokenFile = base(r), TokenPath(c.Data, Producer)
	remote, err := Dial(t.Context(), ClientOptions{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = remote.Close() }()
	if err := remote.Do(t.Context(), "GET", "/v1/producer/x", nil, &who); err != nil || who.Name != "producer" {
		t.Errorf("over a URL: %+v %v", who, err)
	}
	err = remote.Do(t.Context(), "GET", "/v1/admin/x", nil, nil)
	var p *Problem
	if !errors.As(err, &p) || p.Status != 403 || term.ExitCode(err) != 7 || term.MendOf(err) == "" {
		t.Errorf("what a producer may not: %v, exit %d", err, term.ExitCode(err))
	}
	for path, exit := range map[string]int{"/none": 3, "/v1/fails/full": 8, "/v1/fails/other": 1} {
		if err := remote.Do(t.Context(), "GET", path, nil, nil); term.ExitCode(err) != exit {
			t.Errorf("%s: %v, exit %d, want %d", path, err, term.ExitCode(err), exit)
		}
	}
}

func TestDialStartsANodeInThisProcess(t *testing.T) {
	c := testConfig(t)
	o := ClientOptions{Config: c, Layers: []Layer{echo()}, NoSync: true}
	client, err := Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var who whoami
	if err := client.Do(t.Context(), "POST", "/v1/admin/x", nil, &who); err != nil || !client.InProcess || who.Name != "operator" {
		t.Errorf("in process: %+v %v", who, err)
	}
	for _, name := range []string{NodeFile, SocketFile} {
		if _, err := os.Stat(filepath.Join(c.Data, name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	req, err := client.Request(t.Context(), "GET", "/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Send(req)
	if err != nil {
		t.Fatal(err)
	}
	if lines := bufio.NewScanner(resp.Body); !lines.Scan() || lines.Text() != "id: 0" {
		t.Errorf("the stream begins with %q", lines.Text())
	}
	_ = resp.Body.Close()

	// Another command waits for its turn.
	var wg sync.WaitGroup
	wg.Go(func() {
		second, err := Dial(context.Background(), o)
		if err != nil {
			t.Error(err)
			return
		}
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(200 * time.Millisecond)
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	o.NoNode = true
	if _, err := Dial(t.Context(), o); term.ExitCode(err) != 8 {
		t.Errorf("without a node: %v", err)
	}
}

func TestLongDataDirectories(t *testing.T) {
	_, c, _ := start(t, func(o *Options) {
		o.Config.Data = filepath.Join(t.TempDir(), strings.Repeat("long-name/", 15), "data")
	})
	client, err := Dial(t.Context(), ClientOptions{Config: c, NoNode: true})
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
}

func TestTokensStayHome(t *testing.T) {
	c := testConfig(t)
	dir := t.TempDir()
	c.TokenFile = filepath.Join(dir, "token")
	if err := os.WriteFile(c.TokenFile, []byte("canary-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var seen []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = append(seen, r.Header.Get("Authorization")) }))
	defer elsewhere.Close()
	moved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }))
	defer moved.Close()
	for url, exit := range map[string]int{
		"http://node.example:8420": 7, "https://u:canary-token@h": 2, "ftp://h": 2, "://": 2, "https://h/?token=canary-token": 2, "https://169.254.169.254": 2, moved.URL: 7,
	} {
		c.Node = url
		client, err := Dial(t.Context(), ClientOptions{Config: c})
		if err == nil {
			err = client.Do(t.Context(), "GET", "/", nil, nil)
			_ = client.Close()
		}
		if term.ExitCode(err) != exit || strings.Contains(err.Error()+term.MendOf(err), "canary") {
			t.Errorf("%s: %v (mend %q, exit %d)", url, err, term.MendOf(err), term.ExitCode(err))
		}
	}
	if len(seen) > 0 {
		t.Errorf("a redirect carried %q", seen)
	}
}

// Fault row 30: no secret in logs, errors, metrics or answers, at the chattiest level.
func TestSecretsStaySecret(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens.yaml")
	if err := os.WriteFile(tokens, tenantTokens(), 0o600); err != nil {
		t.Fatal(err)
	}
	r, c, log := start(t, func(o *Options) { withEcho(o); o.Config.Tokens = tokens })
	secrets := []string{token(t, c, "admin"), token(t, c, "producer"), token(t, c, "reader"), "tenant-token", "canary-guess", "canary-query", "canary-basic"}
	for _, name := range []string{"admin.creds", "producer.creds", "reader.creds"} {
		b, err := os.ReadFile(filepath.Join(c.Data, CredsDir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(b), "\n") {
			if strings.HasPrefix(line, "SU") || strings.HasPrefix(line, "ey") {
				secrets = append(secrets, line)
			}
		}
	}
	var out strings.Builder
	for _, path := range []string{"/v1/admin/x?token=canary-query&access_token=canary-query", "/v1/node", "/metrics", "/openapi.json", "/readyz", "/none?x=canary-query", "/v1/fails/other"} {
		for _, auth := range []string{"", "Bearer " + secrets[0], "Bearer " + secrets[1], "Bearer tenant-token", "Bearer canary-guess", "Bearer canary-guess.a.b", "Basic canary-basic", "bearer", "Bearer a b canary-guess"} {
			req := request(t, "POST", base(r)+path, nil)
			if !strings.Contains(path, "admin") {
				req.Method = "GET"
			}
			if auth != "" {
				req.Header.Set("Authorization", auth)
			}
			resp, b := do(t, req)
			out.Write(b)
			_ = resp.Header.Write(&out)
		}
	}
	node, err := os.ReadFile(filepath.Join(c.Data, NodeFile))
	if err != nil {
		t.Fatal(err)
	}
	out.Write(node)
	out.WriteString(log.String())
	if !strings.Contains(out.String(), "token=…") {
		t.Error("the log does not name the query's parameters")
	}
	for _, s := range secrets {
		if strings.Contains(out.String(), s) {
			t.Errorf("%.12s… is shown", s)
		}
	}
}

func TestProblemRoundTrip(t *testing.T) {
	want := NewProblem(http.StatusConflict, "do this", "no: %w", errTeapot)
	w := httptest.NewRecorder()
	WriteProblem(w, httptest.NewRequest("GET", "/", nil), want)
	var got Problem
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Error() != want.Error() || got.Mend != "do this" || got.Status != 409 || !errors.Is(want, errTeapot) {
		t.Errorf("%+v", got)
	}
	if err := got.Err(); term.ExitCode(err) != 5 || term.MendOf(err) != "do this" {
		t.Errorf("as a command's error: %v", err)
	}
}
