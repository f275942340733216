package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
)

// An Authority signs credentials: NATS' operator, account and user JWTs. A user's
// permissions stand in the user's own JWT, so that issuing one needs no restart.
//
// Producers and readers live in accounts of their own, which import exactly what
// they need from the node's account. Permissions alone would not keep them apart:
// the broker does not check the reply subject of a message, and JetStream's answer to
// a publish would be published there with all rights of the account. A producer
// could so delete a stream (reply to $JS.API.STREAM.DELETE.X, as the answer inside a
// batch is empty) or write to HEADS. Across accounts the answer goes to the reply
// subject in the sender's account, where nothing listens but its own inboxes.
type Authority struct {
	operator nkeys.KeyPair
	claims   *jwt.OperatorClaims
	accounts map[string]*account // by file name
	epochs   uint32
	now      func() time.Time
}

type account struct {
	key   nkeys.KeyPair
	id    string // public key
	token string // JWT
}

// The accounts; each name is also that of its key file, nats-<name>.nk.
const (
	vaultAccount    = "account" // the node and admins; holds all streams
	producerAccount = "producers"
	readerAccount   = "readers"
	systemAccount   = "system" // NATS' own; nobody gets credentials for it
)

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

// AuthorityOptions are the bounds and seams of an Authority.
type AuthorityOptions struct {
	Epochs uint32           // readers may read the events streams of epochs 1 to this; 0 is 8
	Now    func() time.Time // nil is time.Now
}

// OpenAuthority reads the keys in dir, or makes them there with mode 0600. They
// are the root of who may speak: whoever reads them is admin.
func OpenAuthority(dir string, o AuthorityOptions) (*Authority, error) {
	a := &Authority{now: o.Now, epochs: cmp.Or(o.Epochs, 8), accounts: map[string]*account{}}
	if a.now == nil {
		a.now = time.Now
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
	var id string
	var err error
	if a.operator, id, err = loadKey(filepath.Join(dir, "nats-operator.nk"), nkeys.CreateOperator); err != nil {
		return err
	}
	a.claims = jwt.NewOperatorClaims(id)
	for _, name := range []string{vaultAccount, producerAccount, readerAccount, systemAccount} {
		acc := &account{}
		if acc.key, acc.id, err = loadKey(filepath.Join(dir, "nats-"+name+".nk"), nkeys.CreateAccount); err != nil {
			return err
		}
		a.accounts[name] = acc
	}
	a.claims.Name, a.claims.SystemAccount = "vaultmesh", a.accounts[systemAccount].id
	for name, acc := range a.accounts {
		claims := jwt.NewAccountClaims(acc.id)
		claims.Name = name
		a.describe(name, claims)
		if acc.token, err = claims.Encode(a.operator); err != nil {
			return fmt.Errorf("sign account %s: %w", name, err)
		}
	}
	return nil
}

// A service is a request that one account lets another make.
type service struct {
	subject string
	many    bool // it has more than one answer
}

func producerServices() []service {
	return []service{{subject: events.SubjectPrefix + ".*.*.*"}}
}

// readerServices is all that reading needs of the JetStream API. Names of consumers
// are random and cannot be listed, so that a reader does not find another's; there is
// no right to delete one, they end when nobody asks. A push consumer of a reader
// delivers within the node's account, to a subject that somebody subscribes to
// literally, or not at all.
func (a *Authority) readerServices() []service {
	names := []string{events.HeadsStream, events.SealsStream}
	for epoch := uint32(1); epoch <= a.epochs; epoch++ {
		names = append(names, events.EventsStream(epoch))
	}
	var out []service
	for _, s := range names {
		out = append(out,
			service{"$JS.API.STREAM.INFO." + s, false},
			service{"$JS.API.STREAM.MSG.GET." + s, false},
			service{"$JS.API.DIRECT.GET." + s, true},
			service{"$JS.API.DIRECT.GET." + s + ".>", true},
			service{"$JS.API.CONSUMER.CREATE." + s + ".>", false},
			service{"$JS.API.CONSUMER.INFO." + s + ".*", false},
			service{"$JS.API.CONSUMER.MSG.NEXT." + s + ".*", true},
		)
	}
	return out
}

// apiName is what readers know the node's account by.
const apiName = "vault"

// localAPI returns where readers find a subject of the JetStream API.
func localAPI(subject string) string {
	return bus.APIPrefix(apiName) + strings.TrimPrefix(subject, jetstream.DefaultAPIPrefix)
}

// receiptSubjects matches what producers receive.
var receiptSubjects = events.ReceiptSubject("x")[:len(events.ReceiptSubject("x"))-1] + "*"

func (a *Authority) describe(name string, claims *jwt.AccountClaims) {
	vault := a.accounts[vaultAccount].id
	switch name {
	case vaultAccount:
		claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
			MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
		}
		for _, s := range append(producerServices(), a.readerServices()...) {
			export := &jwt.Export{Name: s.subject, Subject: jwt.Subject(s.subject), Type: jwt.Service, ResponseType: jwt.ResponseTypeSingleton}
			if s.many {
				export.ResponseType = jwt.ResponseTypeStream
			}
			claims.Exports.Add(export)
		}
		claims.Exports.Add(&jwt.Export{Name: receiptSubjects, Subject: jwt.Subject(receiptSubjects), Type: jwt.Stream})
	case producerAccount:
		for _, s := range producerServices() {
			claims.Imports.Add(&jwt.Import{Name: s.subject, Subject: jwt.Subject(s.subject), Account: vault, Type: jwt.Service})
		}
		claims.Imports.Add(&jwt.Import{Name: receiptSubjects, Subject: jwt.Subject(receiptSubjects), Account: vault, Type: jwt.Stream})
	case readerAccount:
		for _, s := range a.readerServices() {
			claims.Imports.Add(&jwt.Import{
				Name: s.subject, Subject: jwt.Subject(s.subject), Account: vault, Type: jwt.Service,
				LocalSubject: jwt.RenamingSubject(strings.ReplaceAll(localAPI(s.subject), ".*", ".$1")),
			})
		}
	}
}

func loadKey(path string, create func() (nkeys.KeyPair, error)) (key nkeys.KeyPair, public string, err error) {
	seed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = create(); err == nil {
			seed, err = key.Seed()
		}
		if err == nil {
			err = bus.WriteFile(bus.Disk(), path, seed)
		}
	}
	if err != nil {
		return nil, "", err
	}
	if key, err = nkeys.FromSeed(seed); err == nil {
		public, err = key.PublicKey()
	}
	if err != nil {
		return nil, "", fmt.Errorf("key file %s: %w", path, err)
	}
	return key, public, nil
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
	name := vaultAccount
	switch g.Role {
	case Producer:
		name = producerAccount
	case Reader:
		name = readerAccount
		claims.Tags.Add(bus.APITag(apiName))
	}
	token, err := claims.Encode(a.accounts[name].key)
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
		for _, s := range a.readerServices() {
			p.Pub.Allow.Add(localAPI(s.subject))
		}
		p.Sub.Allow.Add(inbox)
		return p, nil
	}
	return p, fmt.Errorf("unknown role %q", g.Role)
}
