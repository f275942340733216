package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/internal/dial"
	"vaultmesh.cloud/vaultmesh/internal/redact"
)

// ClientOptions say which node a command speaks to.
type ClientOptions struct {
	Config  Config  // its Node, TokenFile and Data
	Layers  []Layer // of a node in this process
	Logger  *slog.Logger
	Version string
	NoNode  bool // fail rather than start a node in this process
	NoSync  bool // as in Options
}

// A Client speaks to a node. Close it.
type Client struct {
	HTTP      *http.Client
	Base      string // URL that paths are appended to, without a slash at the end
	InProcess bool   // the node was started for this client, and stops with it

	close func() error
}

// Bounds of a client.
const (
	waitForLock  = 10 * time.Second // another command, or a node that is starting
	probeTimeout = 2 * time.Second
	maxAnswer    = 64 << 20 // of Do
)

// Dial finds a node: the URL of --node, else the one that answers on the socket of
// the data directory, else one that it starts in this process without listening.
func Dial(ctx context.Context, o ClientOptions) (*Client, error) {
	if o.Config.Node != "" {
		return dialURL(o.Config.Node, o.Config.TokenFile)
	}
	deadline := time.Now().Add(waitForLock)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		c := socketClient(o.Config.Data)
		err := c.probe(ctx)
		if err == nil {
			return c, nil
		}
		_ = c.Close()
		if o.NoNode {
			return nil, term.As(term.Unavailable, "start one with vaultmesh up --data "+o.Config.Data, fmt.Errorf("no node answers in %s: %w", o.Config.Data, err))
		}
		c, err = dialOwn(ctx, o)
		// The lock's holder is another command that ends soon, or a node whose
		// socket answers soon.
		if !errors.Is(err, ErrInUse) || time.Now().After(deadline) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

func dialURL(raw, tokenPath string) (*Client, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, term.Errorf(term.Usage, "write https://HOST:PORT, and give tokens by --token-file", "--node %s is not the URL of a node", redact.URL(raw))
	}
	var token redact.Secret
	if tokenPath != "" {
		if u.Scheme == "http" && !isLoopbackHost(u.Hostname()) {
			return nil, term.Errorf(term.NotAllowed, "use https, or leave out --token-file", "a token may not travel to %s without TLS", u.Host)
		}
		if token, err = readToken(tokenPath); err != nil {
			return nil, term.As(term.Usage, "name a file with one token by --token-file", fmt.Errorf("token file: %w", err))
		}
	}
	client, err := dial.NewClient(dial.Options{URL: raw, Operator: true, Timeout: -1, MaxBody: 1 << 62})
	if err != nil {
		return nil, term.As(term.Usage, "give another --node", err)
	}
	transport := client.Transport
	client.Transport = &tokenTransport{transport, token}
	return &Client{
		HTTP: client, Base: strings.TrimSuffix(u.String(), "/"),
		close: func() error { client.CloseIdleConnections(); return nil },
	}, nil
}

// tokenTransport adds the token. The transport below reaches one host only.
type tokenTransport struct {
	next  http.RoundTripper
	token redact.Secret
}

func (t *tokenTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.token.Set() {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+t.token.Reveal())
	}
	return t.next.RoundTrip(r)
}

func (t *tokenTransport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// localBase is the URL of a node that is not reached by a name.
const localBase = "http://localhost"

func localClient(connect func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DialContext: connect, MaxIdleConns: 4, IdleConnTimeout: idleTimeout, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func socketClient(dir string) *Client {
	client := localClient(func(ctx context.Context, _, _ string) (net.Conn, error) { return dialSocket(ctx, dir) })
	return &Client{HTTP: client, Base: localBase, close: func() error { client.CloseIdleConnections(); return nil }}
}

func (c *Client) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return c.Do(ctx, http.MethodGet, "/health", nil, nil)
}

// dialOwn starts a node for this client.
func dialOwn(ctx context.Context, o ClientOptions) (*Client, error) {
	r, err := Start(ctx, Options{Config: o.Config, Layers: o.Layers, Logger: o.Logger, Version: o.Version, NoSync: o.NoSync})
	if err != nil {
		return nil, err
	}
	client := localClient(r.pipes.dial)
	c := &Client{HTTP: client, Base: localBase, InProcess: true, close: func() error {
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 4*grace)
		defer cancel()
		return r.Stop(ctx)
	}}
	if err := r.AwaitReady(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close ends the connections, and the node if it is in this process.
func (c *Client) Close() error { return c.close() }

// Request makes a request to a path of the node, which starts with a slash.
func (c *Client) Request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, method, c.Base+path, body)
}

// Send sends a request and returns the answer, or the *Problem that the node gave,
// with the kind that ends a command. The caller closes the body.
func (c *Client) Send(r *http.Request) (*http.Response, error) {
	resp, err := c.HTTP.Do(r)
	if err != nil {
		if e := r.Context().Err(); e != nil {
			return nil, e
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, which may carry a query
		}
		if errors.Is(err, dial.ErrRefused) {
			return nil, term.As(term.NotAllowed, "give the node's own address with --node", err)
		}
		return nil, term.As(term.Unavailable, "check that the node runs: vaultmesh doctor", fmt.Errorf("the node at %s does not answer: %w", c.Base, err))
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, problemIn(resp).Err()
}

// problemIn reads the problem of an answer, or makes one of its status: something
// between may have answered in the node's place.
func problemIn(resp *http.Response) *Problem {
	p := &Problem{}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if kind != ProblemType || err != nil || json.Unmarshal(b, p) != nil {
		p = &Problem{Detail: fmt.Sprintf("the node answered %s and no reason", resp.Status), Mend: "check that --node is the address of a VaultMesh node"}
	}
	p.Status = resp.StatusCode
	return titled(p)
}

// Do sends a value as JSON, nil for no body, and decodes the answer into another, nil
// to ignore it.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	r, err := c.Request(ctx, method, path, body)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Accept", "application/json")
	resp, err := c.Send(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return term.As(term.Unavailable, "try again", fmt.Errorf("the node's answer ended early: %w", err))
	case len(b) > maxAnswer:
		return term.Errorf(term.Failure, "ask for less, with --limit", "the node's answer is over %d bytes", maxAnswer)
	case out == nil || len(b) == 0:
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("the node's answer to %s %s is not what this program expects: %w", method, path, err)
	}
	return nil
}

// TokenPath is the file of a standing token in a data directory.
func TokenPath(dir string, role Role) string {
	return filepath.Join(dir, CredsDir, string(role)+".token")
}
