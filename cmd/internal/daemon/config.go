package daemon

import (
	"cmp"
	"encoding"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/adrg/xdg"
	"github.com/go-viper/mapstructure/v2"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

// Config is what the operator decides about a node. It holds no secrets, only the
// names of files that do; URLs in it may carry passwords, see [Explain].
type Config struct {
	Data      string                    `koanf:"data"`       // the data directory
	HTTP      string                    `koanf:"http"`       // host:port to serve on; port 0 picks one
	NATS      string                    `koanf:"nats"`       // host:port of the embedded broker; port 0 picks one
	Name      string                    `koanf:"name"`       // the log's origin; "" lets the layer that keeps a log choose
	Host      []string                  `koanf:"host"`       // names beside loopback that a request's Host may have
	PublicLog bool                      `koanf:"public-log"` // entry bundles need no token
	TSA       []string                  `koanf:"tsa"`        // URLs of RFC 3161 authorities, the first preferred
	TSACA     []string                  `koanf:"tsa-ca"`     // PEM files with the authorities' roots
	TLSCert   string                    `koanf:"tls-cert"`
	TLSKey    string                    `koanf:"tls-key"`
	Tokens    string                    `koanf:"tokens"` // file of static bearer tokens, see [tokenFile]
	LogLevel  string                    `koanf:"log-level"`
	Reserve   Bytes                     `koanf:"reserve"` // of the disk, that streams leave free
	OIDC      OIDC                      `koanf:"oidc"`
	Cluster   Cluster                   `koanf:"cluster"`
	Layers    map[string]map[string]any `koanf:"layers"` // by layer, see [Config.Layer]

	Node      string `koanf:"node"`       // URL that commands speak to
	TokenFile string `koanf:"token-file"` // bearer token for Node
}

// OIDC says how JWTs become principals. Claims are names or dotted paths.
type OIDC struct {
	Issuer        string            `koanf:"issuer"`   // URL; its discovery document names the keys
	Audience      string            `koanf:"audience"` // that a token must be for
	RoleClaim     string            `koanf:"role-claim"`
	ProducerClaim string            `koanf:"producer-claim"`
	TenantClaim   string            `koanf:"tenant-claim"`
	Roles         map[string]string `koanf:"roles"` // value of the role claim → role
}

// Cluster is the broker that `run` uses instead of an embedded one.
type Cluster struct {
	NATS     []string `koanf:"nats"` // URLs
	Creds    string   `koanf:"creds"`
	CA       string   `koanf:"ca"`
	Roles    []string `koanf:"roles"`    // that this node runs; empty runs all
	Replicas int      `koanf:"replicas"` // of each stream
}

// Bytes is a size that is written like 512MiB or 10GB.
type Bytes int64

var (
	_ encoding.TextUnmarshaler = (*Bytes)(nil)
	_ encoding.TextMarshaler   = Bytes(0)
)

var units = []struct {
	name string
	size int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) error {
	s, factor := strings.TrimSpace(string(text)), int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			s, factor = strings.TrimSpace(n), u.size
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return fmt.Errorf("%q is not a size such as 512MiB or 10GB", text)
	}
	*b = Bytes(n * factor)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

func (b Bytes) String() string {
	for i := 3; i >= 0; i-- {
		if u := units[i]; int64(b) >= u.size && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// DefaultData is the data directory if nobody names one.
func DefaultData() string { return filepath.Join(xdg.DataHome, "vaultmesh") }

// DefaultFile is the configuration file that is read if it exists.
func DefaultFile() string { return filepath.Join(xdg.ConfigHome, "vaultmesh", "config.yaml") }

// Layer decodes what the configuration says under layers.NAME into a struct with
// koanf tags. Unknown keys are errors.
func (c Config) Layer(name string, into any) error {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: into, TagName: "koanf", ErrorUnused: true,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			mapstructure.StringToTimeDurationHookFunc(), mapstructure.TextUnmarshallerHookFunc()),
	})
	if err != nil {
		return err
	}
	if err := d.Decode(c.Layers[name]); err != nil {
		return term.As(term.Usage, "correct layers."+name+" in the configuration file", fmt.Errorf("configuration of layer %s: %w", name, err))
	}
	return nil
}

// Check returns what is wrong with the configuration of a node that listens, naming
// the flags.
func (c Config) Check() error {
	if _, err := c.level(); err != nil {
		return err
	}
	if err := c.checkOIDC(); err != nil {
		return err
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return term.Errorf(term.Usage, "give both --tls-cert and --tls-key, or neither", "TLS needs a certificate and its key")
	}
	open, err := notLoopback("--http", c.HTTP)
	if err != nil {
		return err
	}
	if open && (c.TLSCert == "" || !c.authenticates()) {
		return term.Errorf(term.NotAllowed,
			"give --tls-cert and --tls-key, and --oidc-issuer or --tokens; or listen on 127.0.0.1",
			"--http %s is reachable from other machines: that needs TLS and configured authentication", c.HTTP)
	}
	if len(c.Cluster.NATS) > 0 {
		return c.checkCluster()
	}
	open, err = notLoopback("--nats", c.NATS)
	if err != nil {
		return err
	}
	// Who may speak on the broker is always configured: by the credentials that
	// the node's own authority signs.
	if open && c.TLSCert == "" {
		return term.Errorf(term.NotAllowed, "give --tls-cert and --tls-key, or listen on 127.0.0.1",
			"--nats %s is reachable from other machines: that needs TLS", c.NATS)
	}
	return nil
}

func (c Config) authenticates() bool { return c.OIDC.Issuer != "" || c.Tokens != "" }

func (c Config) level() (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(cmp.Or(c.LogLevel, "info"))); err != nil {
		return l, term.Errorf(term.Usage, "use debug, info, warn or error", "--log-level %q is not a level", c.LogLevel)
	}
	return l, nil
}

func (c Config) checkCluster() error {
	for _, raw := range c.Cluster.NATS {
		u, err := url.Parse(raw)
		if err != nil || (u.Scheme != "nats" && u.Scheme != "tls") || u.Host == "" {
			return term.Errorf(term.Usage, "write nats://HOST:4222 or tls://HOST:4222", "a URL in --nats is not the URL of a broker")
		}
		if u.User != nil {
			return term.Errorf(term.Usage, "put them into a file and give --creds FILE", "a URL in --nats carries credentials, which other users of this machine could see")
		}
	}
	if c.Cluster.Creds == "" {
		return term.Errorf(term.Usage, "give --creds FILE with credentials of the role node or admin", "a broker of others needs credentials")
	}
	return nil
}

func (c Config) checkOIDC() error {
	o := c.OIDC
	if o.Issuer == "" {
		return nil
	}
	u, err := url.Parse(o.Issuer)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
		return term.Errorf(term.Usage, "give the issuer's https URL", "--oidc-issuer is not the URL of an issuer")
	}
	if u.Scheme == "http" && !isLoopbackHost(u.Hostname()) {
		return term.Errorf(term.Usage, "use https", "--oidc-issuer %s would fetch signing keys without TLS", u.Host)
	}
	if o.Audience == "" {
		return term.Errorf(term.Usage, "give --oidc-audience, the client id that tokens for this node name", "--oidc-issuer needs an audience")
	}
	for claim, name := range o.Roles {
		if r, err := ParseRole(name); err != nil || r == Public {
			return term.Errorf(term.Usage, "use admin, producer, reader or submitter", "oidc.roles maps %q to %q, which is no role", claim, name)
		}
	}
	return nil
}

// notLoopback reports whether the address can be reached from other machines.
func notLoopback(flag, addr string) (bool, error) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return false, term.Errorf(term.Usage, "write host:port, such as 127.0.0.1:0", "%s %q is not an address to listen on", flag, addr)
	}
	return !isLoopbackHost(host), nil
}

func isLoopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// literal makes localhost an address: what a name means is not ours to say.
func literal(addr string) string {
	if host, port, err := net.SplitHostPort(addr); err == nil && strings.EqualFold(host, "localhost") {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// DefaultOrigin is <hostname>.vaultmesh.local/log.
func DefaultOrigin() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	return strings.ToLower(name) + ".vaultmesh.local/log"
}
