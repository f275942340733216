// Package dial makes HTTP clients that cannot be talked into reaching inside: a
// name is resolved first, every address is checked, and the checked address is
// what is dialled. A client belongs to one URL; an exception for private addresses
// belongs to a URL that the operator set, never to one from an event, a tenant or
// a peer.
package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"vaultmesh.cloud/vaultmesh/internal/redact"
)

// Errors of this package; match with errors.Is.
var (
	// ErrRefused means that the URL, or an address behind its name, may not be
	// reached. Trying again does not help.
	ErrRefused = errors.New("refused to connect")
	// ErrTooLarge means that the answer is longer than the cap: do not use what
	// was read of it.
	ErrTooLarge = errors.New("the answer is too large")
)

// Defaults of Options.
const (
	DefaultTimeout = 15 * time.Second
	DefaultMaxBody = 4 << 20
	maxRedirects   = 3
)

// A Resolver gives the addresses of a name; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options of a client.
type Options struct {
	// URL is the only scheme, host and port that the client reaches.
	URL string
	// Operator says that the URL was set by the operator of this node on the
	// command line or in its configuration: loopback and private addresses are
	// allowed then. Link-local addresses, where clouds keep their metadata, never.
	Operator bool
	Schemes  []string       // that the URL may have; empty is https, with Operator also http
	Timeout  time.Duration  // of one request with all redirects and its body; 0 is DefaultTimeout, below 0 none
	MaxBody  int64          // bytes of one answer's body; 0 is DefaultMaxBody
	RootCAs  *x509.CertPool // nil is the system's
	Resolver Resolver       // nil is the system's
}

// NewClient returns a client for one URL. It follows redirects to the same scheme,
// host and port only, uses no proxy, and caps time and size.
func NewClient(o Options) (*http.Client, error) {
	d, err := newDialer(o)
	if err != nil {
		return nil, err
	}
	timeout := o.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	maxBody := o.MaxBody
	if maxBody == 0 {
		maxBody = DefaultMaxBody
	}
	return &http.Client{
		Timeout: max(timeout, 0),
		Transport: &capped{dialer: d, maxBody: maxBody, next: &http.Transport{
			DialContext:            d.DialContext, // and no Proxy: it would dial for us, unchecked
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  max(timeout, 0),
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConns:           4,
			IdleConnTimeout:        30 * time.Second,
			ForceAttemptHTTP2:      true,
		}},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("%w: more than %d redirects", ErrRefused, maxRedirects)
			}
			return d.check(r.URL)
		},
	}, nil
}

// A dialer reaches one host and port.
type dialer struct {
	scheme, host, port string
	operator           bool
	resolver           Resolver
	net                net.Dialer
}

func newDialer(o Options) (*dialer, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not a URL", ErrRefused, redact.URL(o.URL))
	}
	schemes := o.Schemes
	if len(schemes) == 0 {
		schemes = []string{"https"}
		if o.Operator {
			schemes = append(schemes, "http")
		}
	}
	if !slices.Contains(schemes, u.Scheme) {
		return nil, fmt.Errorf("%w: the scheme of %s is not one of %s", ErrRefused, redact.URL(o.URL), strings.Join(schemes, ", "))
	}
	if u.Hostname() == "" || u.Opaque != "" {
		return nil, fmt.Errorf("%w: %s names no host", ErrRefused, redact.URL(o.URL))
	}
	if u.User != nil && !o.Operator {
		return nil, fmt.Errorf("%w: %s carries a password", ErrRefused, redact.URL(o.URL))
	}
	d := &dialer{scheme: u.Scheme, host: strings.ToLower(u.Hostname()), port: portOf(u), operator: o.Operator, resolver: o.Resolver}
	if d.resolver == nil {
		d.resolver = net.DefaultResolver
	}
	d.net = net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: d.control}
	if ip, err := netip.ParseAddr(d.host); err == nil {
		if err := Check(ip, d.operator); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// check refuses every URL but the client's own scheme, host and port.
func (d *dialer) check(u *url.URL) error {
	if u.Scheme != d.scheme || strings.ToLower(u.Hostname()) != d.host || portOf(u) != d.port {
		return fmt.Errorf("%w: %s://%s is not the host that was configured, %s://%s",
			ErrRefused, u.Scheme, u.Host, d.scheme, net.JoinHostPort(d.host, d.port))
	}
	return nil
}

// DialContext connects to an address that was checked, never to a name.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(host, d.host) || port != d.port {
		return nil, fmt.Errorf("%w: %s", ErrRefused, address)
	}
	ips, err := d.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, ip := range ips {
		if err := Check(ip, d.operator); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", host, err))
			continue
		}
		c, err := d.net.DialContext(ctx, "tcp", netip.AddrPortFrom(ip, portNumber(port)).String())
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func portNumber(s string) uint16 {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0 // a dial to port 0 fails
	}
	return uint16(n)
}

func (d *dialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	ips, err := d.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", host, err)
	}
	for i := range ips {
		ips[i] = ips[i].Unmap() // some resolvers give A records in the mapped form
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("look up %s: no address", host)
	}
	return ips, nil
}

// control sees the address that the kernel is about to be given: the last word,
// whatever the code above did.
func (d *dialer) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrRefused, address)
	}
	return Check(ap.Addr(), d.operator)
}

// capped bounds answers and keeps requests on the client's own host.
type capped struct {
	dialer  *dialer
	next    *http.Transport
	maxBody int64
}

func (c *capped) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := c.dialer.check(r.URL); err != nil {
		return nil, err
	}
	resp, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > c.maxBody {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: %d bytes, the most is %d", ErrTooLarge, resp.ContentLength, c.maxBody)
	}
	resp.Body = &capBody{resp.Body, c.maxBody}
	return resp, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the transport.
func (c *capped) CloseIdleConnections() { c.next.CloseIdleConnections() }

type capBody struct {
	io.ReadCloser
	left int64
}

func (b *capBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, b.left = int(b.left), 0
		return n, ErrTooLarge
	}
	b.left -= int64(n)
	return n, err
}
