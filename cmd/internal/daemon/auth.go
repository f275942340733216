package daemon

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"vaultmesh.cloud/vaultmesh/internal/redact"
)

// An authenticator finds out who makes a request.
type authenticator struct {
	dir, file string // of tokens
	anonymous Role   // of requests without a token
	oidc      *oidcVerifier
	limits    *limits
	metrics   *httpMetrics
	clock     func() time.Time
	log       *slog.Logger

	mu      sync.Mutex
	known   []credential // guarded by mu; replaced, never changed
	stamp   string       // guarded by mu; of the files that known is from
	checked time.Time    // guarded by mu
}

// recheck is how long a token that was taken away may still work.
const recheck = time.Second

// maxToken is the longest bearer token that is looked at.
const maxToken = 8 << 10

// authenticate returns the principal of a request, or what to answer. Tokens come in
// the header only: a query is logged, a cookie is sent by any page.
func (a *authenticator) authenticate(r *http.Request, local bool) (Principal, *Problem) {
	if local {
		return operator, nil
	}
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return Principal{Role: a.anonymous}, nil
	}
	scheme, value, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "bearer") || value == "" || len(value) > maxToken {
		return Principal{}, a.failed(r, "send one header Authorization: Bearer TOKEN", "the Authorization header is not one bearer token")
	}
	token := redact.New(value)
	if p, ok := a.static(token); ok {
		return p, nil
	}
	if a.oidc == nil || strings.Count(value, ".") != 2 {
		return Principal{}, a.failed(r, "use a token of this node; vaultmesh creds add makes one", "the bearer token is not known here, or has expired")
	}
	if p, ok := a.oidc.remembered(token); ok {
		return p, nil
	}
	if a.limits.exhausted(remote(r), a.clock()) {
		return Principal{}, tooMany() // before the work of checking a signature
	}
	p, err := a.oidc.verify(r.Context(), token)
	if err != nil {
		a.log.Info("a JWT was not accepted", "err", redact.Text(err.Error(), token), "remote", r.RemoteAddr)
		return Principal{}, a.failed(r, "get a new token from the issuer", "the JWT is not accepted; the node's log says why")
	}
	return p, nil
}

func (a *authenticator) failed(r *http.Request, mend, detail string) *Problem {
	a.metrics.failures.Inc()
	if !a.limits.spend(remote(r), a.clock()) {
		return tooMany()
	}
	return NewProblem(http.StatusUnauthorized, mend, "%s", detail)
}

func tooMany() *Problem {
	return NewProblem(http.StatusTooManyRequests, "wait a minute, then try with a valid token", "too many tokens from this address were not accepted")
}

// static looks the token up by its hash. Every entry is compared in full, so that
// time tells nothing about which is near.
func (a *authenticator) static(token redact.Secret) (Principal, bool) {
	sum := token.Sum()
	found := -1
	known := a.credentials()
	for i := range known {
		if subtle.ConstantTimeCompare(sum[:], known[i].sum[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return Principal{}, false
	}
	g := known[found].Grant
	if !g.Expires.IsZero() && !a.clock().Before(g.Expires) {
		return Principal{}, false
	}
	return g.principal(), true
}

// credentials returns the accepted tokens and reads the files again if they changed.
// Files that cannot be read leave the last good set in force.
func (a *authenticator) credentials() []credential {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock()
	if age := now.Sub(a.checked); age >= 0 && age < recheck {
		return a.known
	}
	a.checked = now
	stamp := a.files()
	if stamp == a.stamp {
		return a.known
	}
	known, err := loadCredentials(a.dir, a.file)
	if err != nil {
		a.log.Error("cannot read the tokens again; keeping those from before", "err", err)
		return a.known
	}
	a.known, a.stamp = known, stamp
	return known
}

// files is a text that changes when a file of tokens does.
func (a *authenticator) files() string {
	var b strings.Builder
	note := func(path string) {
		if i, err := os.Stat(path); err == nil {
			b.WriteString(path + i.ModTime().String() + "\n")
		}
	}
	note(a.dir)
	paths, _ := filepath.Glob(filepath.Join(a.dir, "*.json")) // the pattern is well-formed
	for _, g := range standing {
		paths = append(paths, filepath.Join(a.dir, g.Name+".token"))
	}
	for _, path := range append(paths, a.file) {
		note(path)
	}
	return b.String()
}

// limits bounds failed attempts by address: a burst, then one every few seconds. It
// holds back neither valid static tokens nor addresses that never failed.
type limits struct {
	mu sync.Mutex
	by map[netip.Prefix]*rate.Limiter // guarded by mu; at most maxAddresses
}

const (
	failureBurst = 20
	failureEvery = 3 * time.Second
	maxAddresses = 4096
)

func newLimits() *limits { return &limits{by: map[netip.Prefix]*rate.Limiter{}} }

// remote is the address of the client, of IPv6 its /64: one household has 2^64.
func remote(r *http.Request) netip.Prefix {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

func (l *limits) exhausted(from netip.Prefix, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, ok := l.by[from]
	return ok && limiter.TokensAt(now) < 1
}

// spend counts a failure and reports whether the address may go on.
func (l *limits) spend(from netip.Prefix, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, ok := l.by[from]
	if !ok {
		if len(l.by) >= maxAddresses {
			for other, o := range l.by { // whoever has been quiet is forgotten
				if o.TokensAt(now) >= failureBurst {
					delete(l.by, other)
				}
			}
		}
		if len(l.by) >= maxAddresses {
			return false // an attack from thousands of addresses: everybody new waits
		}
		limiter = rate.NewLimiter(rate.Every(failureEvery), failureBurst)
		l.by[from] = limiter
	}
	return limiter.AllowN(now, 1)
}

// remembered JWTs are not checked again for a while: the signature is the costly
// part, and a client sends the same one with every request.
type memory struct {
	mu sync.Mutex
	by map[[sha256.Size]byte]rememberedToken // guarded by mu; at most maxRemembered
}

type rememberedToken struct {
	principal Principal
	until     time.Time
}

const (
	maxRemembered = 1024
	rememberFor   = time.Minute
)

func (m *memory) get(token redact.Secret, now time.Time) (Principal, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.by[token.Sum()]
	if !ok || !now.Before(t.until) {
		return Principal{}, false
	}
	return t.principal, true
}

func (m *memory) put(token redact.Secret, p Principal, expires, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.by) >= maxRemembered {
		clear(m.by)
	}
	until := now.Add(rememberFor)
	if expires.Before(until) {
		until = expires
	}
	m.by[token.Sum()] = rememberedToken{p, until}
}

// verifies is what authenticate needs of OIDC.
func (v *oidcVerifier) remembered(token redact.Secret) (Principal, bool) {
	return v.memory.get(token, v.clock())
}

func (v *oidcVerifier) verify(ctx context.Context, token redact.Secret) (Principal, error) {
	verifier, err := v.ready(ctx)
	if err != nil {
		return Principal{}, err
	}
	t, err := verifier.Verify(ctx, token.Reveal())
	if err != nil {
		return Principal{}, err
	}
	var claims map[string]any
	if err := t.Claims(&claims); err != nil {
		return Principal{}, err
	}
	p, err := v.principal(t.Subject, claims)
	if err != nil {
		return Principal{}, err
	}
	v.memory.put(token, p, t.Expiry, v.clock())
	return p, nil
}
