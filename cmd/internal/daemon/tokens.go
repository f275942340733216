package daemon

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus/embedded"
	"vaultmesh.cloud/vaultmesh/internal/redact"
)

// A Grant says what a name may do, over HTTP and on the broker. It stands in
// creds/NAME.json and in the file of --tokens; of a token only the hash is kept.
type Grant struct {
	Name     string          `json:"name" yaml:"name"`
	Role     Role            `json:"role" yaml:"role"`
	Producer events.Producer `json:"producer,omitzero" yaml:"producer"`
	Tenant   string          `json:"tenant,omitzero" yaml:"tenant"`
	Domains  []events.Domain `json:"domains,omitzero" yaml:"domains"` // of NATS credentials
	Expires  time.Time       `json:"expires,omitzero" yaml:"expires"` // zero is never
	SHA256   string          `json:"token_sha256" yaml:"token_sha256"`
}

func (g Grant) principal() Principal {
	p := Principal{Name: g.Name, Role: g.Role, Producer: g.Producer, Tenant: g.Tenant}
	if p.Role == Admin && p.Producer == "" {
		p.Producer = events.OperatorProducer
	}
	return p
}

// check refuses grants that mean nothing or too much.
func (g Grant) check() error {
	if !validName(g.Name) {
		return fmt.Errorf("name %q is not 1 to 64 letters, digits, - or _", g.Name)
	}
	for _, d := range g.Domains {
		if !validName(string(d)) {
			return fmt.Errorf("%q is not the name of a domain", d)
		}
		if events.Housekeeping(events.Type("cloud.vaultmesh." + string(d) + ".x.v1")) {
			return fmt.Errorf("the domain %s is the node's own", d)
		}
	}
	return g.principal().check()
}

// A credential is a grant with the hash of its token.
type credential struct {
	sum [sha256.Size]byte
	Grant
}

func (g Grant) credential() (credential, error) {
	c := credential{Grant: g}
	b, err := hex.DecodeString(g.SHA256)
	if err != nil || len(b) != len(c.sum) {
		return c, fmt.Errorf("token_sha256 of %s is not a SHA-256 in hex", g.Name)
	}
	copy(c.sum[:], b)
	return c, g.check()
}

// NewToken returns 256 random bits as text that needs no quoting anywhere.
func NewToken(random io.Reader) (redact.Secret, error) {
	b := make([]byte, 32)
	if _, err := io.ReadFull(random, b); err != nil {
		return redact.Secret{}, fmt.Errorf("read randomness for a token: %w", err)
	}
	return redact.New("vm_" + base64.RawURLEncoding.EncodeToString(b)), nil
}

// readToken reads a token file.
func readToken(path string) (redact.Secret, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return redact.Secret{}, err
	}
	s := strings.TrimSpace(string(b))
	if s == "" || len(s) > 16<<10 || strings.ContainsAny(s, " \t\r\n") {
		return redact.Secret{}, fmt.Errorf("%s does not hold one token", path)
	}
	return redact.New(s), nil
}

// standing are the grants that every node has, with files of their own.
var standing = []Grant{
	{Name: "admin", Role: Admin, Producer: events.OperatorProducer},
	{Name: "producer", Role: Producer, Producer: "producer"},
	{Name: "reader", Role: Reader},
}

// ensureCreds makes the standing token and credential files that do not exist. Those
// that exist are left alone: somebody uses them.
func ensureCreds(dir string, authority *embedded.Authority, random io.Reader) error {
	for _, g := range standing {
		path := filepath.Join(dir, g.Name+".token")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			token, err := NewToken(random)
			if err == nil {
				err = WriteFile(path, []byte(token.Reveal()+"\n"), 0o600)
			}
			if err != nil {
				return fmt.Errorf("make token %s: %w", path, err)
			}
		}
		path = filepath.Join(dir, g.Name+".creds")
		if _, err := os.Stat(path); authority == nil || !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		creds, err := authority.Issue(brokerGrant(g, 0))
		if err == nil {
			err = WriteFile(path, creds, 0o600)
		}
		if err != nil {
			return fmt.Errorf("make credentials %s: %w", path, err)
		}
	}
	return nil
}

func brokerGrant(g Grant, ttl time.Duration) embedded.Grant {
	b := embedded.Grant{Name: g.Name, Producer: g.Producer, Domains: g.Domains, TTL: ttl}
	switch g.Role {
	case Admin:
		b.Role = embedded.Admin
	case Producer:
		b.Role = embedded.Producer
	default:
		b.Role = embedded.Reader
	}
	return b
}

// IssueGrant makes NAME.creds for the broker, NAME.token for HTTP and NAME.json, by
// which the node knows the token's hash, in dir, and returns the paths of the first
// two. Names in use are refused.
func IssueGrant(dir string, authority *embedded.Authority, g Grant, ttl time.Duration, now time.Time, random io.Reader) (creds, token string, err error) {
	if g.Role == Producer && g.Producer == "" {
		g.Producer = events.Producer(g.Name)
	}
	if err := g.check(); err != nil {
		return "", "", err
	}
	if slices.ContainsFunc(standing, func(s Grant) bool { return s.Name == g.Name }) {
		return "", "", fmt.Errorf("%s: %w", g.Name, fs.ErrExist)
	}
	for _, suffix := range []string{".json", ".token", ".creds"} {
		if _, err := os.Stat(filepath.Join(dir, g.Name+suffix)); err == nil {
			return "", "", fmt.Errorf("%s: %w", filepath.Join(dir, g.Name+suffix), fs.ErrExist)
		}
	}
	secret, err := NewToken(random)
	if err != nil {
		return "", "", err
	}
	sum := secret.Sum()
	g.SHA256 = hex.EncodeToString(sum[:])
	if ttl > 0 {
		g.Expires = now.Add(ttl).UTC().Truncate(time.Second)
	}
	record, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return "", "", err
	}
	token = filepath.Join(dir, g.Name+".token")
	if g.Role != Submitter { // a tenant has nothing to say on the broker
		b, err := authority.Issue(brokerGrant(g, ttl))
		if err != nil {
			return "", "", err
		}
		creds = filepath.Join(dir, g.Name+".creds")
		if err := WriteFile(creds, b, 0o600); err != nil {
			return "", "", err
		}
	}
	if err := WriteFile(token, []byte(secret.Reveal()+"\n"), 0o600); err != nil {
		return "", "", err
	}
	// Last, because from now on the token is accepted.
	return creds, token, WriteFile(filepath.Join(dir, g.Name+".json"), append(record, '\n'), 0o600)
}

// loadCredentials reads all tokens that the node accepts: the standing ones, those
// of creds/*.json, and those of the operator's file.
func loadCredentials(dir, file string) ([]credential, error) {
	var out []credential
	for _, g := range standing {
		token, err := readToken(filepath.Join(dir, g.Name+".token"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed: no longer accepted
		}
		if err != nil {
			return nil, err
		}
		out = append(out, credential{token.Sum(), g})
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var g Grant
		if err := json.Unmarshal(b, &g); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		c, err := g.credential()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, c)
	}
	if file == "" {
		return out, nil
	}
	more, err := tokenFile(file)
	return append(out, more...), err
}

// tokenFile reads the file of --tokens:
//
//	tokens:
//	  - name: ci
//	    role: producer
//	    producer: ci
//	    token_sha256: 2c26b4...
//	    expires: 2027-01-01T00:00:00Z
func tokenFile(path string) ([]credential, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	var doc struct {
		Tokens []Grant `yaml:"tokens"`
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&doc); err != nil {
		// The decoder's message may quote a line, and somebody may have written
		// the token itself there.
		return nil, fmt.Errorf("token file %s: not a mapping with tokens: [{name, role, producer, tenant, expires, token_sha256}]", path)
	}
	var out []credential
	for i, g := range doc.Tokens {
		c, err := g.credential()
		if err != nil {
			return nil, fmt.Errorf("token file %s, entry %d: %w", path, i+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("token file %s: no tokens", path)
	}
	return out, nil
}
