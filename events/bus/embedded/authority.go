package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
)

// An Authority signs credentials: NATS' operator, account and user JWTs. A user's
// permissions stand in the user's own JWT, so that issuing one needs no restart.
type Authority struct {
	operator, accountKey  nkeys.KeyPair
	account, system       string // public keys
	accountJWT, systemJWT string
	claims                *jwt.OperatorClaims
	streams               func() []string // that readers may read
	now                   func() time.Time
}

// Role says what a user may do at all.
type Role string

// The roles.
const (
	Admin    Role = "admin"    // everything, the JetStream API included
	Node     Role = "node"     // as Admin: the node itself, which folds, seals and consumes
	Producer Role = "producer" // publish events in its name, receive its receipts
	Reader   Role = "reader"   // read events, heads and seals
)

// A Grant is what credentials allow.
type Grant struct {
	Name     string // of the user; its answers come on bus.InboxPrefix(Name)
	Role     Role
	Producer events.Producer // of the role Producer; empty is Name
	Domains  []events.Domain // of the role Producer; empty is every domain but the housekeeping ones
	TTL      time.Duration   // 0 does not expire
}

// AuthorityOptions are the seams of an Authority.
type AuthorityOptions struct {
	Epochs uint32           // events streams that readers may read, 1 to this; 0 is 1
	Now    func() time.Time // nil is time.Now
}

// OpenAuthority reads the keys in dir, or makes them there with mode 0600. They
// are the root of who may speak: whoever reads them is admin.
func OpenAuthority(dir string, o AuthorityOptions) (*Authority, error) {
	a := &Authority{now: o.Now}
	if a.now == nil {
		a.now = time.Now
	}
	a.streams = func() []string {
		names := []string{events.HeadsStream, events.SealsStream}
		for epoch := uint32(1); epoch <= max(o.Epochs, 1); epoch++ {
			names = append(names, events.EventsStream(epoch))
		}
		return names
	}
	if err := a.open(dir); err != nil {
		return nil, fmt.Errorf("open the bus authority in %s: %w", dir, err)
	}
	return a, nil
}

func (a *Authority) open(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	if a.operator, err = loadKey(filepath.Join(dir, "nats-operator.nk"), nkeys.CreateOperator); err != nil {
		return err
	}
	if a.accountKey, err = loadKey(filepath.Join(dir, "nats-account.nk"), nkeys.CreateAccount); err != nil {
		return err
	}
	systemKey, err := loadKey(filepath.Join(dir, "nats-system.nk"), nkeys.CreateAccount)
	if err != nil {
		return err
	}
	operator, err := a.operator.PublicKey()
	if err != nil {
		return err
	}
	if a.account, err = a.accountKey.PublicKey(); err != nil {
		return err
	}
	if a.system, err = systemKey.PublicKey(); err != nil {
		return err
	}
	a.claims = jwt.NewOperatorClaims(operator)
	a.claims.Name, a.claims.SystemAccount = "vaultmesh", a.system
	account := jwt.NewAccountClaims(a.account)
	account.Name = "vaultmesh"
	account.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
	}
	if a.accountJWT, err = account.Encode(a.operator); err != nil {
		return err
	}
	system := jwt.NewAccountClaims(a.system)
	system.Name = "system"
	a.systemJWT, err = system.Encode(a.operator)
	return err
}

func loadKey(path string, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, error) {
	seed, err := os.ReadFile(path)
	if err == nil {
		key, err := nkeys.FromSeed(seed)
		if err != nil {
			return nil, fmt.Errorf("key file %s: %w", path, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := create()
	if err != nil {
		return nil, err
	}
	if seed, err = key.Seed(); err != nil {
		return nil, err
	}
	return key, bus.WriteFile(bus.Disk(), path, seed)
}

// Issue returns the contents of a new .creds file. Nothing is stored: the file is
// the only copy of the user's key.
func (a *Authority) Issue(g Grant) ([]byte, error) {
	creds, err := a.issue(g)
	if err != nil {
		return nil, fmt.Errorf("issue credentials for %q: %w", g.Name, err)
	}
	return creds, nil
}

func (a *Authority) issue(g Grant) ([]byte, error) {
	if g.Name == "" {
		return nil, errors.New("a name is needed")
	}
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	claims := jwt.NewUserClaims(public)
	claims.Name = g.Name
	if claims.Permissions, err = a.permissions(g); err != nil {
		return nil, err
	}
	if g.TTL > 0 {
		claims.Expires = a.now().Add(g.TTL).Unix()
	}
	token, err := claims.Encode(a.accountKey)
	if err != nil {
		return nil, err
	}
	seed, err := key.Seed()
	if err != nil {
		return nil, err
	}
	return jwt.FormatUserConfig(token, seed)
}

// domains that a producer may be granted; ledger and federation are the node's own.
var domains = []events.Domain{"deploy", "artifact", "decision", "incident", "treaty", "route", "slo"}

func (a *Authority) permissions(g Grant) (p jwt.Permissions, err error) {
	inbox := bus.InboxPrefix(g.Name) + ".>"
	switch g.Role {
	case Admin, Node:
		return p, nil // empty allows everything in the account
	case Producer:
		producer := g.Producer
		if producer == "" {
			producer = events.Producer(g.Name)
		}
		granted := g.Domains
		if len(granted) == 0 {
			granted = domains
		}
		for _, d := range granted {
			if events.Token(string(d)) != string(d) {
				return p, fmt.Errorf("%q is not the name of a domain", d)
			}
			p.Pub.Allow.Add(events.PublishSubject(d, producer))
		}
		p.Sub.Allow.Add(inbox, events.ReceiptSubject(producer))
		return p, nil
	case Reader:
		for _, s := range a.streams() {
			p.Pub.Allow.Add(
				"$JS.API.STREAM.INFO."+s,
				"$JS.API.STREAM.MSG.GET."+s,
				"$JS.API.DIRECT.GET."+s,
				"$JS.API.DIRECT.GET."+s+".>",
				// Names of consumers are random and cannot be listed, so that a
				// reader does not find another's; there is no right to delete,
				// they end when nobody asks.
				"$JS.API.CONSUMER.CREATE."+s+".*",
				"$JS.API.CONSUMER.INFO."+s+".*",
				"$JS.API.CONSUMER.MSG.NEXT."+s+".*",
			)
		}
		p.Sub.Allow.Add(inbox)
		return p, nil
	}
	return p, fmt.Errorf("unknown role %q", g.Role)
}
