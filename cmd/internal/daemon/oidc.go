package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/internal/dial"
)

// An oidcVerifier makes principals of JWTs. The issuer is asked for its keys when
// the first token comes, so that its being down does not keep the node down.
type oidcVerifier struct {
	config OIDC
	client *http.Client // to the issuer
	clock  func() time.Time
	memory memory

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // guarded by mu; nil until the issuer answered
	keys     *http.Client          // guarded by mu; to the issuer's keys
	tried    time.Time             // guarded by mu
	err      error                 // guarded by mu; of the last try
}

// askAgain is how long the issuer is left alone after it did not answer.
const askAgain = 5 * time.Second

const (
	oidcTimeout = 5 * time.Second
	oidcMaxBody = 1 << 20
)

func newOIDC(c OIDC, clock func() time.Time) (*oidcVerifier, error) {
	if c.Issuer == "" {
		return nil, nil
	}
	client, err := dial.NewClient(dial.Options{URL: c.Issuer, Operator: true, Timeout: oidcTimeout, MaxBody: oidcMaxBody})
	if err != nil {
		return nil, fmt.Errorf("OpenID issuer: %w", err)
	}
	return &oidcVerifier{config: c, client: client, clock: clock, memory: memory{by: map[[32]byte]rememberedToken{}}}, nil
}

func (v *oidcVerifier) close() {
	if v == nil {
		return
	}
	v.client.CloseIdleConnections()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys != nil {
		v.keys.CloseIdleConnections()
	}
}

func (v *oidcVerifier) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, v.client)
}

// ready asks the issuer for its discovery document, once.
func (v *oidcVerifier) ready(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.verifier != nil {
		return v.verifier, nil
	}
	if v.err != nil && v.clock().Sub(v.tried) < askAgain {
		return nil, v.err
	}
	// The key set keeps this context for later fetches: it must not end with
	// the request.
	provider, err := oidc.NewProvider(v.context(context.WithoutCancel(ctx)), v.config.Issuer)
	v.tried = v.clock()
	if err != nil {
		v.err = fmt.Errorf("the OpenID issuer does not answer: %w", err)
		return nil, v.err
	}
	var found struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&found); err != nil {
		v.err = fmt.Errorf("the OpenID issuer's discovery document: %w", err)
		return nil, v.err
	}
	if err := v.keysFrom(found.Keys); err != nil {
		v.err = err
		return nil, v.err
	}
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.WithoutCancel(ctx), v.keys), found.Keys)
	v.verifier = oidc.NewVerifier(v.config.Issuer, keys, &oidc.Config{
		ClientID: v.config.Audience, Now: v.clock,
		SupportedSigningAlgs: []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA},
	})
	return v.verifier, nil
}

// keysFrom makes the client for the signing keys. Some issuers keep them on another
// host; that is not a URL of the operator, so it has no exception for addresses
// inside.
func (v *oidcVerifier) keysFrom(keysURL string) error {
	keys, err := url.Parse(keysURL)
	issuer, err2 := url.Parse(v.config.Issuer)
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("the OpenID issuer's keys: %w", err)
	}
	if keys.Scheme == issuer.Scheme && keys.Host == issuer.Host {
		v.keys = v.client
		return nil
	}
	v.keys, err = dial.NewClient(dial.Options{URL: keysURL, Timeout: oidcTimeout, MaxBody: oidcMaxBody})
	if err != nil {
		return fmt.Errorf("the OpenID issuer's keys: %w", err)
	}
	return nil
}

// principal maps claims. The strongest role that the token has counts; a token
// without any is a principal that may do what everybody may.
func (v *oidcVerifier) principal(subject string, claims map[string]any) (Principal, error) {
	p := Principal{Name: "oidc:" + subject, Role: Public}
	if subject == "" {
		return p, errors.New("the token has no subject")
	}
	order := []Role{Public, Submitter, Reader, Producer, Admin}
	strength := 0
	for _, value := range texts(claim(claims, v.config.RoleClaim)) {
		for i, r := range order {
			if string(r) == v.config.Roles[value] && i > strength {
				p.Role, strength = r, i
			}
		}
	}
	if p.Role == Public {
		return p, nil
	}
	if producer := texts(claim(claims, v.config.ProducerClaim)); len(producer) == 1 {
		p.Producer = events.Producer(producer[0])
	}
	if tenant := texts(claim(claims, v.config.TenantClaim)); len(tenant) == 1 {
		p.Tenant = tenant[0]
	}
	if p.Role == Admin && p.Producer == "" {
		p.Producer = events.OperatorProducer
	}
	return p, p.check()
}

// claim follows a dotted path, after the name itself: some issuers put URLs there.
func claim(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok || path == "" {
		return v
	}
	name, rest, ok := strings.Cut(path, ".")
	inner, isMap := claims[name].(map[string]any)
	if !ok || !isMap {
		return nil
	}
	return claim(inner, rest)
}

// texts reads a claim that is a string or a list of strings.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}
