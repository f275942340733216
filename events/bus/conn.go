package bus

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"vaultmesh.cloud/vaultmesh/events"
)

// Options say where the broker is and who speaks to it.
type Options struct {
	URLs   []string                   // of the brokers; not needed with Server
	Server nats.InProcessConnProvider // a server inside this process, see package embedded
	Name   string                     // of this client, in the broker's logs

	Creds     []byte // the contents of a .creds file
	CredsFile string // its path; read again at every reconnect, so that it can be renewed
	NKeyFile  string // the seed of an nkey

	TLS      *tls.Config // wins over the three files
	CAFile   string
	CertFile string
	KeyFile  string

	// InboxPrefix begins the subjects that answers come back on. Empty takes
	// InboxPrefix of the name in the credentials: their permissions end there.
	InboxPrefix string
	Timeout     time.Duration // of dialing and of one request without a deadline; 0 is 5 s
	Logger      *slog.Logger  // nil discards
}

// InboxPrefix returns the prefix of the subjects on which the user of this name
// receives answers. Nobody else may subscribe there.
func InboxPrefix(user string) string { return "_INBOX." + events.Token(user) }

// A Conn is a connection to the broker. It reconnects for ever until Close. All
// methods may be called from many goroutines at once.
type Conn struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	log     *slog.Logger
	timeout time.Duration
	inbox   string        // prefix of subjects for answers, without the last dot
	api     string        // prefix of the JetStream API, with the last dot
	closed  chan struct{} // closed when the connection is

	mu       sync.Mutex
	waits    map[*wait]struct{}     // calls that a permission violation ends
	restored map[chan struct{}]bool // told about each reconnect
}

// Connect dials the broker. Its goroutines belong to the Conn and end with Close.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	c := &Conn{
		log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)), timeout: cmp.Or(o.Timeout, 5*time.Second),
		closed: make(chan struct{}), waits: map[*wait]struct{}{}, restored: map[chan struct{}]bool{},
	}
	options, err := c.options(o)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		options = append(options, nats.Timeout(min(c.timeout, max(time.Until(deadline), time.Millisecond))))
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	c.nc, err = nats.Connect(strings.Join(o.URLs, ","), options...)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker %s: %w", strings.Join(o.URLs, ","), brokerError(err))
	}
	c.js, err = jetstream.NewWithAPIPrefix(c.nc, strings.TrimSuffix(c.api, "."), jetstream.WithDefaultTimeout(c.timeout))
	if err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	return c, nil
}

func (c *Conn) options(o Options) ([]nats.Option, error) {
	options := []nats.Option{
		nats.Name(o.Name), nats.Timeout(c.timeout),
		nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectJitter(400*time.Millisecond, time.Second),
		nats.IgnoreAuthErrorAbort(), // renewed credentials may come
		// Publishing while disconnected fails at once: the publisher's own queue
		// is bounded and re-sends, a hidden second queue is not wanted.
		nats.ReconnectBufSize(-1),
		nats.ErrorHandler(c.onError),
		nats.ReconnectHandler(func(*nats.Conn) { c.onReconnect() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.log.Warn("lost the broker; reconnecting", "err", err)
			}
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
	}
	if o.Server != nil {
		options = append(options, nats.InProcessServer(o.Server))
	} else if len(o.URLs) == 0 {
		return nil, errors.New("no broker: give a URL or a server inside this process")
	}
	c.api = jetstream.DefaultAPIPrefix
	var user *jwt.UserClaims
	switch {
	case o.Creds != nil:
		token, err := nkeys.ParseDecoratedJWT(o.Creds)
		if err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		user = claimsOf(token)
		options = append(options, nats.UserCredentialBytes(o.Creds))
	case o.CredsFile != "":
		b, err := os.ReadFile(o.CredsFile)
		if err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		token, err := nkeys.ParseDecoratedJWT(b)
		if err != nil {
			return nil, fmt.Errorf("credentials %s: %w", o.CredsFile, err)
		}
		user = claimsOf(token)
		options = append(options, nats.UserCredentials(o.CredsFile))
	case o.NKeyFile != "":
		option, err := nats.NkeyOptionFromSeed(o.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("nkey seed %s: %w", o.NKeyFile, err)
		}
		options = append(options, option)
	}
	c.inbox = o.InboxPrefix
	if user != nil {
		if c.inbox == "" && user.Name != "" {
			c.inbox = InboxPrefix(user.Name)
		}
		for _, tag := range user.Tags {
			if name, ok := strings.CutPrefix(tag, apiTag); ok {
				c.api = APIPrefix(name)
			}
		}
	}
	if c.inbox != "" {
		options = append(options, nats.CustomInboxPrefix(c.inbox))
	} else {
		c.inbox = strings.TrimSuffix(nats.InboxPrefix, ".")
	}
	if o.TLS != nil {
		options = append(options, nats.Secure(o.TLS))
	} else {
		if o.CAFile != "" {
			options = append(options, nats.RootCAs(o.CAFile))
		}
		if o.CertFile != "" {
			options = append(options, nats.ClientCert(o.CertFile, o.KeyFile))
		}
	}
	return options, nil
}

// APITag marks credentials whose account reaches the JetStream API of another one
// under APIPrefix(name), because $JS.API is always an account's own.
func APITag(name string) string { return apiTag + name }

const apiTag = "vaultmesh-api:" // the JWT library lowers the case of tags

// APIPrefix returns where an account finds the JetStream API that it imports.
func APIPrefix(name string) string { return "$JS." + name + ".API." }

// claimsOf returns what is in a JWT, or nil. The broker checks the signature.
func claimsOf(token string) *jwt.UserClaims {
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return nil
	}
	return claims
}

// JetStream returns the client of the JetStream API, for administration.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

// NATS returns the connection itself.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// Close ends the connection and its goroutines at once. Close publishers first.
func (c *Conn) Close() {
	c.nc.Close()
	<-c.closed
}

// Drain delivers what has been received and sends what is buffered, then closes.
func (c *Conn) Drain(ctx context.Context) error {
	if err := c.nc.Drain(); err != nil {
		return brokerError(err)
	}
	select {
	case <-c.closed:
		return nil
	case <-ctx.Done():
		c.Close()
		return fmt.Errorf("drain the connection to the broker: %w", ctx.Err())
	}
}

func (c *Conn) onReconnect() {
	c.log.Info("reconnected to the broker", "server", c.nc.ConnectedServerName())
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range c.restored {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// onRestored returns a channel that holds a token after each reconnect, and a
// function that ends this.
func (c *Conn) onRestored() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restored[ch] = true
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.restored, ch)
	}
}
