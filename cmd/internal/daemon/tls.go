package daemon

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

// A certificate is read again when its files change, so that renewing needs no
// restart. A pair that does not fit leaves the last good one in force.
type certificate struct {
	certFile, keyFile string
	clock             func() time.Time
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate // guarded by mu
	stamp   string           // guarded by mu; of the files current is from
	checked time.Time        // guarded by mu
}

// newTLS returns the server's TLS configuration, nil without a certificate.
func newTLS(c Config, clock func() time.Time, log *slog.Logger) (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil
	}
	cert := &certificate{certFile: c.TLSCert, keyFile: c.TLSKey, clock: clock, log: log}
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, term.As(term.Usage, "give PEM files that belong together as --tls-cert and --tls-key", fmt.Errorf("TLS certificate: %w", err))
	}
	cert.current, cert.stamp, cert.checked = &pair, cert.files(), clock()
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get}, nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	if age := now.Sub(c.checked); age >= 0 && age < recheck {
		return c.current, nil
	}
	c.checked = now
	if stamp := c.files(); stamp != c.stamp {
		pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
		if err != nil {
			c.log.Error("the TLS certificate changed and cannot be used; keeping the one from before", "err", err)
			return c.current, nil
		}
		c.current, c.stamp = &pair, stamp
		c.log.Info("read the TLS certificate again")
	}
	return c.current, nil
}

func (c *certificate) files() string {
	var s string
	for _, path := range []string{c.certFile, c.keyFile} {
		if i, err := os.Stat(path); err == nil {
			s += fmt.Sprint(i.ModTime().UnixNano(), i.Size(), " ")
		}
	}
	return s
}
