package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus/embedded"
)

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func tenantTokens() []byte {
	return fmt.Appendf(nil, "tokens:\n- {name: acme, role: submitter, tenant: acme, token_sha256: %s}\n", hashOf("tenant-token"))
}

// issuer is a local OpenID issuer.
type issuer struct {
	*httptest.Server
	key    *ecdsa.PrivateKey
	asked  atomic.Int32
	broken atomic.Bool
	keys   atomic.Pointer[string] // base URL of the keys, if another
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		if i.broken.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		keys := i.URL
		if other := i.keys.Load(); other != nil {
			keys = *other
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": keys + "/keys", "authorization_endpoint": i.URL, "token_endpoint": i.URL,
			"id_token_signing_alg_values_supported": []string{"ES256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) token(t *testing.T, key any, alg jose.SignatureAlgorithm, change map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": i.URL, "aud": "vm", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	for k, v := range change {
		claims[k] = v
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signer.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOIDC(t *testing.T) {
	idp := newIssuer(t)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, _, log := start(t, func(o *Options) {
		withEcho(o)
		o.Config.OIDC = OIDC{Issuer: idp.URL, Audience: "vm", RoleClaim: "realm.roles", ProducerClaim: "producer", TenantClaim: "https://x/tenant",
			Roles: map[string]string{"ops": "admin", "ci": "producer", "look": "reader", "job": "submitter"}}
	})
	if idp.asked.Load() != 0 {
		t.Error("the issuer was asked before a token came")
	}
	roles := func(names ...any) map[string]any { return map[string]any{"realm": map[string]any{"roles": names}} }
	with := func(m map[string]any, k string, v any) map[string]any { m[k] = v; return m }
	none := strings.Join([]string{"eyJhbGciOiJub25lIn0", "eyJzdWIiOiJhIn0", ""}, ".")
	for _, tc := range []struct {
		name, token, path string
		status            int
		says              string
	}{
		{"admin", idp.token(t, idp.key, jose.ES256, roles("look", "ops")), "/v1/admin/x", 200, `"producer":"operator"`},
		{"producer", idp.token(t, idp.key, jose.ES256, with(roles("ci"), "producer", "build-7")), "/v1/producer/x", 200, `"producer":"build-7"`},
		{"tenant", idp.token(t, idp.key, jose.ES256, with(roles("job"), "https://x/tenant", "acme")), "/v1/submitter/x", 200, `"tenant":"acme"`},
		{"reader may not write", idp.token(t, idp.key, jose.ES256, roles("look")), "/v1/producer/x", 403, "reader"},
		{"no role", idp.token(t, idp.key, jose.ES256, nil), "/v1/reader/x", 403, "public"},
		{"the role's own name is not mapped", idp.token(t, idp.key, jose.ES256, roles("admin")), "/v1/reader/x", 403, "public"},
		{"producer without a name", idp.token(t, idp.key, jose.ES256, roles("ci")), "/v1/producer/x", 401, "JWT"},
		{"producer with the node's name", idp.token(t, idp.key, jose.ES256, with(roles("ci"), "producer", "node")), "/v1/producer/x", 401, "JWT"},
		{"producer with a wildcard", idp.token(t, idp.key, jose.ES256, with(roles("ci"), "producer", "*")), "/v1/producer/x", 401, "JWT"},
		{"tenant without a name", idp.token(t, idp.key, jose.ES256, roles("job")), "/v1/submitter/x", 401, "JWT"},
		{"another audience", idp.token(t, idp.key, jose.ES256, with(roles("ops"), "aud", "other")), "/v1/admin/x", 401, "JWT"},
		{"another issuer", idp.token(t, idp.key, jose.ES256, with(roles("ops"), "iss", "https://evil.example")), "/v1/admin/x", 401, "JWT"},
		{"expired", idp.token(t, idp.key, jose.ES256, with(roles("ops"), "exp", time.Now().Add(-time.Minute).Unix())), "/v1/admin/x", 401, "JWT"},
		{"another key", idp.token(t, other, jose.ES256, roles("ops")), "/v1/admin/x", 401, "JWT"},
		{"symmetric with a public value", idp.token(t, []byte("0123456789abcdef0123456789abcdef"), jose.HS256, roles("ops")), "/v1/admin/x", 401, "JWT"},
		{"alg none", none, "/v1/admin/x", 401, "JWT"},
		{"no subject", idp.token(t, idp.key, jose.ES256, with(roles("ops"), "sub", "")), "/v1/admin/x", 401, "JWT"},
	} {
		req := request(t, "GET", base(r)+tc.path, nil)
		req.Header.Set("Authorization", "Bearer "+tc.token)
		resp, b := do(t, req)
		if resp.StatusCode != tc.status || !strings.Contains(string(b), tc.says) {
			t.Errorf("%s: %d %s", tc.name, resp.StatusCode, b)
		}
		if strings.Contains(log.String(), tc.token) {
			t.Errorf("%s: the log has the token", tc.name)
		}
	}
}

func TestIssuerThatIsDownKeepsNobodyElseOut(t *testing.T) {
	idp := newIssuer(t)
	idp.broken.Store(true)
	now := time.Now()
	var skew atomic.Int64
	r, c, _ := start(t, func(o *Options) {
		withEcho(o)
		o.Clock = func() time.Time { return now.Add(time.Duration(skew.Load())) }
		o.Config.OIDC = OIDC{Issuer: idp.URL, Audience: "vm", RoleClaim: "roles", Roles: map[string]string{"ops": "admin"}}
	})
	jwt := idp.token(t, idp.key, jose.ES256, map[string]any{"roles": "ops"})
	ask := func(token string) int {
		req := request(t, "GET", base(r)+"/v1/admin/x", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, _ := do(t, req)
		return resp.StatusCode
	}
	for range 5 {
		if got := ask(jwt); got != 401 {
			t.Errorf("with the issuer down: %d", got)
		}
	}
	if n := idp.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times at once", n)
	}
	if got := ask(token(t, c, "admin")); got != 200 {
		t.Errorf("a static token: %d", got)
	}
	idp.broken.Store(false)
	skew.Store(int64(askAgain))
	if got := ask(jwt); got != 200 {
		t.Errorf("after the issuer came back: %d", got)
	}
}

// Fault row 29: an issuer cannot make the node fetch keys from inside.
func TestKeysOfAnIssuerAreNotInside(t *testing.T) {
	inside := newIssuer(t)
	idp := newIssuer(t)
	idp.keys.Store(&inside.URL)
	r, _, log := start(t, func(o *Options) {
		withEcho(o)
		o.Config.OIDC = OIDC{Issuer: idp.URL, Audience: "vm", RoleClaim: "roles", Roles: map[string]string{"ops": "admin"}}
	})
	req := request(t, "GET", base(r)+"/v1/admin/x", nil)
	req.Header.Set("Authorization", "Bearer "+idp.token(t, inside.key, jose.ES256, map[string]any{"roles": "ops"}))
	if resp, b := do(t, req); resp.StatusCode != 401 || inside.asked.Load() != 0 || !strings.Contains(log.String(), "refused to connect") {
		t.Errorf("%d %s, asked %d times", resp.StatusCode, b, inside.asked.Load())
	}
}

func TestFailedTokensAreLimited(t *testing.T) {
	r, c, _ := start(t, withEcho)
	ask := func(token string) int {
		req := request(t, "GET", base(r)+"/v1/admin/x", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, _ := do(t, req)
		return resp.StatusCode
	}
	counts := map[int]int{}
	for i := range 3 * failureBurst {
		counts[ask(fmt.Sprint("guess-", i))]++
	}
	if counts[401] < failureBurst || counts[401] > failureBurst+3 || counts[429] == 0 {
		t.Errorf("answers to guesses: %v", counts)
	}
	if got := ask(token(t, c, "admin")); got != 200 {
		t.Errorf("a valid token from the same address: %d", got)
	}
	l := newLimits()
	for i := range 3 * maxAddresses {
		l.spend(remote(&http.Request{RemoteAddr: fmt.Sprintf("[2001:db8:%x:%x::1]:1", i>>16, i&0xffff)}), time.Now())
	}
	if len(l.by) > maxAddresses {
		t.Errorf("%d addresses are remembered", len(l.by))
	}
}

func TestGrants(t *testing.T) {
	r, c, _ := start(t, withEcho)
	creds := filepath.Join(c.Data, CredsDir)
	authority, err := embedded.OpenAuthority(filepath.Join(c.Data, authorityDir), embedded.AuthorityOptions{})
	if err != nil {
		t.Fatal(err)
	}
	issue := func(g Grant, ttl time.Duration) error {
		_, _, err := IssueGrant(creds, authority, g, ttl, time.Now(), rand.Reader)
		return err
	}
	for _, g := range []Grant{
		{Name: "../x", Role: Reader}, {Name: "", Role: Reader}, {Name: "x", Role: "root"}, {Name: "x", Role: Public},
		{Name: "node", Role: Producer}, {Name: "x", Role: Producer, Producer: "operator"}, {Name: "x", Role: Submitter}, {Name: "x", Role: Producer, Producer: "a.b"},
	} {
		if err := issue(g, 0); err == nil {
			t.Errorf("%+v was granted", g)
		}
	}
	if err := issue(Grant{Name: "admin", Role: Reader}, 0); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a standing name: %v", err)
	}
	if err := issue(Grant{Name: "ci", Role: Producer, Domains: []events.Domain{"deploy"}}, 0); err != nil {
		t.Fatal(err)
	}
	if err := issue(Grant{Name: "ci", Role: Producer}, 0); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a name in use: %v", err)
	}
	secret := token(t, c, "ci")
	if record, _ := os.ReadFile(filepath.Join(creds, "ci.json")); strings.Contains(string(record), secret) {
		t.Error("the record holds the token")
	}
	ask := func() int {
		req := request(t, "GET", base(r)+"/v1/producer/x", nil)
		req.Header.Set("Authorization", "Bearer "+secret)
		resp, _ := do(t, req)
		return resp.StatusCode
	}
	eventually := func(want int) {
		t.Helper()
		deadline := time.Now().Add(5 * time.Second)
		for ask() != want {
			if time.Now().After(deadline) {
				t.Fatalf("still %d, want %d", ask(), want)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	eventually(200) // a running node learns of it
	if err := os.Remove(filepath.Join(creds, "ci.token")); err != nil {
		t.Fatal(err)
	}
	eventually(200) // the token moved to its owner
	if err := os.Remove(filepath.Join(creds, "ci.json")); err != nil {
		t.Fatal(err)
	}
	eventually(401)
}

func TestExpiry(t *testing.T) {
	now := time.Now()
	a := &authenticator{clock: func() time.Time { return now }, checked: now, known: []credential{
		{sha256.Sum256([]byte("old")), Grant{Name: "old", Role: Reader, Expires: now}},
		{sha256.Sum256([]byte("new")), Grant{Name: "new", Role: Reader, Expires: now.Add(1)}},
	}}
	for name, want := range map[string]bool{"old": false, "new": true} {
		if _, ok := a.static(secretOf(name)); ok != want {
			t.Errorf("%s: %v", name, ok)
		}
	}
}

// writeCert makes a self-signed certificate.
func writeCert(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600),
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens.yaml")
	if err := os.WriteFile(tokens, tenantTokens(), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var skew atomic.Int64
	r, c, _ := start(t, func(o *Options) {
		withEcho(o)
		o.Config.TLSCert, o.Config.TLSKey = writeCert(t, dir, "first")
		o.Config.Tokens, o.Config.HTTP, o.Config.NATS = tokens, "0.0.0.0:0", "0.0.0.0:0"
		o.Clock = func() time.Time { return now.Add(time.Duration(skew.Load())) }
	})
	_, natsURL, _ := r.Addresses()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(base(r), "https://"))
	if !strings.HasPrefix(base(r), "https://") || !strings.HasPrefix(natsURL, "tls://") {
		t.Fatalf("addresses %s %s", base(r), natsURL)
	}
	handshake := func(version uint16) (string, error) {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{InsecureSkipVerify: true, MaxVersion: version, MinVersion: tls.VersionTLS10})
		if err != nil {
			return "", err
		}
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
	}
	if name, err := handshake(tls.VersionTLS13); name != "first" || err != nil {
		t.Errorf("TLS 1.3: %q %v", name, err)
	}
	if _, err := handshake(tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is accepted")
	}
	// Anonymous requests may not read a node that others can reach.
	client := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{"/v1/public/x": 200, "/v1/reader/x": 401, "/metrics": 401, "/openapi.json": 401, "/health": 200, "/readyz": 200} {
		resp, err := client.RoundTrip(request(t, "GET", "https://127.0.0.1:"+port+path, nil))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s without a token: %d, want %d", path, resp.StatusCode, want)
		}
	}
	// A renewed certificate is taken up; a broken one is not.
	writeCert(t, dir, "second")
	skew.Store(int64(2 * recheck))
	if name, err := handshake(tls.VersionTLS13); name != "second" || err != nil {
		t.Errorf("after renewal: %q %v", name, err)
	}
	if err := os.WriteFile(c.TLSCert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	skew.Store(int64(4 * recheck))
	if name, err := handshake(tls.VersionTLS13); name != "second" || err != nil {
		t.Errorf("after a broken renewal: %q %v", name, err)
	}
}
