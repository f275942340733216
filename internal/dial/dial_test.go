package dial_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vaultmesh.cloud/vaultmesh/internal/dial"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// names resolves from a list and gives the next answer each time, as a rebinding
// name server does.
type names struct {
	answers [][]string
	asked   atomic.Int32
}

func (n *names) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	i := min(int(n.asked.Add(1))-1, len(n.answers)-1)
	var out []netip.Addr
	for _, s := range n.answers[i] {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

// Fault row 29: no address inside is reached by a URL that is not the operator's,
// and no metadata address by any.
func TestAddresses(t *testing.T) {
	const public, inside, never = "public", "inside", "never"
	for ip, want := range map[string]string{
		"93.184.215.14": public, "2606:2800:21f:cb07:6820:80da:af6b:8b2c": public, "8.8.8.8": public,
		"127.0.0.1": inside, "127.1.2.3": inside, "::1": inside, "10.0.0.1": inside, "172.16.0.1": inside, "172.31.255.255": inside,
		"192.168.1.1": inside, "100.64.0.1": inside, "fc00::1": inside, "fd12::1": inside, "198.18.0.1": inside,
		"169.254.169.254": never, "169.254.170.2": never, "fd00:ec2::254": never, "fd20:ce::254": never,
		"100.100.100.200": never, "168.63.129.16": never, "0.0.0.0": never, "0.1.2.3": never, "::": never,
		"fe80::1": never, "fe80::1%eth0": never, "224.0.0.1": never, "ff02::1": never, "255.255.255.255": never,
		"::ffff:127.0.0.1": never, "::ffff:8.8.8.8": never, "::ffff:169.254.169.254": never, "::127.0.0.1": never,
		"64:ff9b::7f00:1": never, "64:ff9b::a9fe:a9fe": never, "2002:7f00:1::": never, "2001::1": never, "fec0::1": never,
		"::ffff:0:127.0.0.1": never,
	} {
		addr := netip.MustParseAddr(ip)
		if err := dial.Check(addr, false); (err == nil) != (want == public) {
			t.Errorf("Check(%s, stranger) = %v, the address is %s", ip, err, want)
		}
		if err := dial.Check(addr, true); (err == nil) != (want != never) {
			t.Errorf("Check(%s, operator) = %v, the address is %s", ip, err, want)
		}
	}
}

func TestNoConnectionToForbiddenAddresses(t *testing.T) {
	var hits atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	for _, c := range []struct {
		name, url string
		answers   []string
		operator  bool
	}{
		{"literal", srv.URL, nil, false},
		{"localhost", "http://localhost:" + u.Port(), []string{"127.0.0.1"}, false},
		{"name to loopback", "http://evil.example:" + u.Port(), []string{"127.0.0.1"}, false},
		{"name to mapped", "http://evil.example:" + u.Port(), []string{"::ffff:127.0.0.1"}, false},
		{"mapped literal", "http://[::ffff:127.0.0.1]:" + u.Port(), nil, false},
		{"mapped literal of operator", "http://[::ffff:127.0.0.1]:" + u.Port(), nil, true},
		{"decimal", "http://2130706433:" + u.Port(), []string{"127.0.0.1"}, false},
		{"octal", "http://0177.0.0.1:" + u.Port(), []string{"127.0.0.1"}, false},
		{"metadata of operator", "http://metadata.internal:" + u.Port(), []string{"169.254.169.254"}, true},
		{"all forbidden", "http://evil.example:" + u.Port(), []string{"10.0.0.1", "127.0.0.1", "::1"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := dial.NewClient(dial.Options{URL: c.url, Operator: c.operator, Schemes: []string{"http"}, Resolver: &names{answers: [][]string{c.answers}}})
			if err == nil {
				_, err = client.Get(c.url)
			}
			if !errors.Is(err, dial.ErrRefused) {
				t.Errorf("err = %v, want ErrRefused", err)
			}
		})
	}
	if hits.Load() != 0 {
		t.Errorf("%d requests arrived", hits.Load())
	}
}

func TestRebindingBetweenRequests(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }))
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	base := "http://tsa.example:" + u.Port()
	r := &names{answers: [][]string{{"127.0.0.1"}, {"169.254.169.254"}}}
	client, err := dial.NewClient(dial.Options{URL: base, Operator: true, Resolver: r})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(base)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if _, err := client.Get(base); !errors.Is(err, dial.ErrRefused) {
		t.Errorf("after the name was rebound: %v, want ErrRefused", err)
	}
}

func TestRedirects(t *testing.T) {
	var hits atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer other.Close()
	var target string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ok" {
			return
		}
		http.Redirect(w, r, target, http.StatusFound)
	}))
	defer srv.Close()
	client, err := dial.NewClient(dial.Options{URL: srv.URL, Operator: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	for to, ok := range map[string]bool{
		"/ok": true, srv.URL + "/ok": true, other.URL: false, "http://169.254.169.254/latest": false,
		"https" + strings.TrimPrefix(srv.URL, "http") + "/ok": false, "file:///etc/passwd": false, "/loop": false,
	} {
		target = to
		resp, err := client.Get(srv.URL + "/start")
		if resp != nil {
			_ = resp.Body.Close()
		}
		if ok && err != nil || !ok && !errors.Is(err, dial.ErrRefused) {
			t.Errorf("redirect to %s: %v", to, err)
		}
	}
	if hits.Load() != 0 {
		t.Error("a redirect reached another host")
	}
	if _, err := client.Get(other.URL); !errors.Is(err, dial.ErrRefused) {
		t.Errorf("the client reaches another host: %v", err)
	}
}

func TestURLs(t *testing.T) {
	for _, c := range []struct {
		url      string
		operator bool
		ok       bool
	}{
		{"https://tsa.example", false, true}, {"http://tsa.example", false, false}, {"http://tsa.example", true, true},
		{"file:///etc/passwd", true, false}, {"gopher://h/", true, false}, {"https://", true, false}, {"://", true, false},
		{"https://u:p@h/", false, false}, {"https://u:p@h/", true, true}, {"https:opaque", true, false}, {"https://169.254.169.254/", true, false},
	} {
		if _, err := dial.NewClient(dial.Options{URL: c.url, Operator: c.operator}); (err == nil) != c.ok {
			t.Errorf("NewClient(%s, operator %v): %v", c.url, c.operator, err)
		} else if err != nil && strings.Contains(err.Error(), ":p@") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestCaps(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			<-r.Context().Done()
		case "/stream":
			for range 64 {
				_, _ = w.Write(make([]byte, 1024))
				w.(http.Flusher).Flush()
			}
		default:
			_, _ = w.Write(make([]byte, 1000))
		}
	}))
	defer srv.Close()
	client, err := dial.NewClient(dial.Options{URL: srv.URL, Operator: true, MaxBody: 1000, Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	read := func(path string) (int, error) {
		resp, err := client.Get(srv.URL + path)
		if err != nil {
			return 0, err
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		return len(b), err
	}
	if n, err := read("/exact"); n != 1000 || err != nil {
		t.Errorf("an answer of exactly the cap: %d bytes, %v", n, err)
	}
	if n, err := read("/stream"); n > 1000 || !errors.Is(err, dial.ErrTooLarge) {
		t.Errorf("a long answer: %d bytes, %v", n, err)
	}
	if _, err := read("/slow"); err == nil {
		t.Error("a slow answer was waited for")
	}
}

func ExampleNewClient() {
	_, err := dial.NewClient(dial.Options{URL: "https://169.254.169.254/latest/meta-data"})
	fmt.Println(err)
	// Output: refused to connect: 169.254.169.254 is link-local, where clouds keep instance metadata
}
