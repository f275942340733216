package node

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/events/canon"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/internal/keys"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161/devtsa"
)

// Files below the data directory's keys/.
const (
	operatorSecret = "operator.key" // armored OpenPGP secret key
	operatorPublic = "operator.asc"
	nodeSecret     = "node.key"
	nodePublic     = "node.asc" // with the operator's certification
	logSecret      = "log.skey" // C2SP note signing key
	logPublic      = "log.vkey"
	tsaSecret      = "tsa.pem" // of the development authority
	tsaRoot        = "tsa-root.pem"
)

// A keyring holds the keys of one node. One that does not seal has the public
// halves only.
type keyring struct {
	Operator *openpgp.Key // nil without secrets
	Node     *openpgp.Key // nil without secrets
	Log      note.Signer  // nil without secrets
	Origin   string
	VKey     string // the log's verifier key

	operatorASC []byte // empty if this node does not know it
	nodeASC     []byte // empty if this node does not know it
}

// openPublic reads the keys of a log that another node seals.
func openPublic(dir, origin string) (*keyring, error) {
	var k keyring
	path := filepath.Join(dir, logPublic)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("a node without the role %s needs to know whose log it folds: copy %s of the node that seals to %s", roleSeal, logPublic, path)
	}
	if err != nil {
		return nil, fmt.Errorf("the log's key: %w", err)
	}
	k.VKey = strings.TrimSpace(string(b))
	if k.Origin, _, err = proof.ParseVKey(k.VKey); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if origin != "" && origin != k.Origin {
		return nil, fmt.Errorf("%s is the key of the log %s, not of %s: leave --name out, or copy the right key", path, k.Origin, origin)
	}
	for name, into := range map[string]*[]byte{operatorPublic: &k.operatorASC, nodePublic: &k.nodeASC} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read a public key: %w", err)
		}
		*into = b
	}
	return &k, nil
}

// hasSecrets reports whether the log's signing key is here.
func hasSecrets(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, logSecret))
	return err == nil
}

// openKeys reads the keys in dir, making on the first start those that are
// missing: an operator key, a node key that the operator's certifies, and a log
// key whose name is the origin, which thereby is fixed. origin "" takes the
// host's name and eight hex digits of the log key.
func openKeys(dir, origin, host string, at time.Time, random io.Reader) (*keyring, error) {
	var k keyring
	var err error
	if k.Operator, err = openPGP(dir, operatorSecret, "VaultMesh operator", host, at, random); err != nil {
		return nil, err
	}
	if k.Node, err = openPGP(dir, nodeSecret, "VaultMesh node", host, at, random); err != nil {
		return nil, err
	}
	if k.operatorASC, err = k.Operator.PublicArmor(); err != nil {
		return nil, fmt.Errorf("export the operator's key: %w", err)
	}
	if err := writePublic(filepath.Join(dir, operatorPublic), k.operatorASC); err != nil {
		return nil, err
	}
	if err := k.certify(dir, at); err != nil {
		return nil, err
	}
	if err := k.openLog(dir, origin, host, random); err != nil {
		return nil, err
	}
	return &k, nil
}

func openPGP(dir, name, user, host string, at time.Time, random io.Reader) (*openpgp.Key, error) {
	path := filepath.Join(dir, name)
	b, err := keys.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		k, err := openpgp.NewKey(user, "", "vaultmesh@"+host, at, random)
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
		b, err := k.Armor()
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
		return k, keys.WriteSecret(path, b)
	}
	if err != nil {
		return nil, err
	}
	k, err := openpgp.ReadKey(b, nil)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return k, nil
}

// certify reads or makes the node's public key with the operator's certification.
func (k *keyring) certify(dir string, at time.Time) error {
	path := filepath.Join(dir, nodePublic)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = k.Operator.Certify(k.Node.Public(), at); err == nil {
			err = writePublic(path, b)
		}
	}
	if err != nil {
		return fmt.Errorf("certify the node's key: %w", err)
	}
	ring, err := openpgp.ReadKeyRing(b)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	pub := ring.Find(k.Node.Fingerprint())
	if pub == nil {
		return fmt.Errorf("%s is not the public half of %s: remove it, and the next start makes it anew", path, nodeSecret)
	}
	if err := openpgp.CertifiedBy(pub, k.Operator.Public(), at); err != nil {
		return fmt.Errorf("%s: %w: remove it, and the next start makes it anew", path, err)
	}
	k.nodeASC = b
	return nil
}

func (k *keyring) openLog(dir, origin, host string, random io.Reader) error {
	path := filepath.Join(dir, logSecret)
	b, err := keys.ReadSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		var skey string
		if skey, err = newLogKey(origin, host, random); err == nil {
			b = []byte(skey + "\n")
			err = keys.WriteSecret(path, b)
		}
	}
	if err != nil {
		return fmt.Errorf("the log's key: %w", err)
	}
	skey := strings.TrimSpace(string(b))
	if k.Log, err = note.NewSigner(skey); err != nil {
		return fmt.Errorf("read %s: it is damaged: %w", path, err)
	}
	k.Origin = k.Log.Name()
	if origin != "" && origin != k.Origin {
		return fmt.Errorf("this log is named %s since its first start, it cannot be named %s: leave --name out, or use another --data", k.Origin, origin)
	}
	if k.VKey, err = verifierKey(skey); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return writePublic(filepath.Join(dir, logPublic), []byte(k.VKey+"\n"))
}

// newLogKey names the key by the origin; the default origin holds eight digits
// of the key itself, so that two logs never share a name by accident.
func newLogKey(origin, host string, random io.Reader) (string, error) {
	seed := make([]byte, 32)
	if _, err := io.ReadFull(random, seed); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	if origin == "" {
		_, vkey, err := proof.NewLogKey("unnamed.invalid/log", bytes.NewReader(seed))
		if err != nil {
			return "", err
		}
		_, key, err := proof.ParseVKey(vkey)
		if err != nil {
			return "", err
		}
		origin = host + ".vaultmesh.local/log/" + hex.EncodeToString(key[:4])
	}
	skey, _, err := proof.NewLogKey(origin, bytes.NewReader(seed))
	return skey, err
}

// openTSA reads or makes the development time-stamping authority.
func openTSA(dir, host string, at time.Time, random io.Reader) (*devtsa.Authority, error) {
	path := filepath.Join(dir, tsaSecret)
	b, err := keys.ReadSecret(path)
	var a *devtsa.Authority
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if a, err = devtsa.NewAuthority("VaultMesh development TSA of "+host, at, random); err != nil {
			return nil, fmt.Errorf("make a development TSA: %w", err)
		}
		if b, err = a.Marshal(); err == nil {
			err = keys.WriteSecret(path, b)
		}
	case err == nil:
		a, err = devtsa.Unmarshal(b)
	}
	if err != nil {
		return nil, fmt.Errorf("the development TSA's key %s: %w", path, err)
	}
	return a, writePublic(filepath.Join(dir, tsaRoot), a.RootPEM())
}

// readRoots reads PEM files of trust anchors.
func readRoots(files []string) (*x509.CertPool, []byte, error) {
	pool := x509.NewCertPool()
	var all []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, nil, fmt.Errorf("read the TSA's certificates: %w", err)
		}
		if !pool.AppendCertsFromPEM(b) {
			return nil, nil, fmt.Errorf("%s holds no PEM certificate", f)
		}
		all = append(append(all, bytes.TrimSpace(b)...), '\n')
	}
	return pool, all, nil
}

// writePublic writes a file that others may read, unless it is there already.
func writePublic(path string, b []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
		return nil
	}
	return daemon.WriteFile(path, b, 0o644)
}

// hostName is the host's name, as far as an origin can hold it.
func hostName() string {
	h, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	h, _, _ = strings.Cut(strings.ToLower(h), ".")
	h = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, h)
	if h = strings.Trim(h, "-"); h == "" {
		return "localhost"
	}
	return h
}

func verifierKey(skey string) (string, error) {
	// PRIVATE+KEY+<name>+<hash>+<base64 of type and seed>
	parts := strings.SplitN(skey, "+", 5)
	if len(parts) != 5 {
		return "", errors.New("it is not a note signing key")
	}
	seed, err := decodeSeed(parts[4])
	if err != nil {
		return "", err
	}
	_, vkey, err := proof.NewLogKey(parts[2], bytes.NewReader(seed))
	return vkey, err
}

func decodeSeed(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != 33 {
		return nil, errors.New("its seed is damaged")
	}
	return b[1:], nil
}

// signCheckpoint signs the bytes of a checkpoint with the node's key.
func (k *keyring) signCheckpoint(data []byte, at time.Time) ([]byte, error) {
	return k.Node.SignDetached(bytes.NewReader(data), at)
}

// signBinding signs the JCS bytes of a binding without its signature.
func (k *keyring) signBinding(b *remembrancer.LedgerKeyBound, at time.Time) error {
	b.Signature = ""
	text, err := canon.Marshal(b)
	if err != nil {
		return fmt.Errorf("bind the log's keys: %w", err)
	}
	asc, err := k.Operator.SignDetached(bytes.NewReader(text), at)
	if err != nil {
		return fmt.Errorf("bind the log's keys: %w", err)
	}
	b.Signature = string(asc)
	return nil
}
