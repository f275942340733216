package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/events/canon"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
)

// up starts a node on dir without listeners, and returns a client to it.
func up(t *testing.T, c daemon.Config) (*daemon.Client, error) {
	t.Helper()
	client, err := daemon.Dial(t.Context(), daemon.ClientOptions{Config: c, Layers: []daemon.Layer{Layer()}, NoSync: true})
	if err == nil {
		t.Cleanup(func() { _ = client.Close() })
	}
	return client, err
}

func config(dir string) daemon.Config { return daemon.Config{Data: dir} }

func do(t *testing.T, c *daemon.Client, method, path string, in, out any) {
	t.Helper()
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			t.Fatal(err)
		}
	}
	req, err := c.Request(t.Context(), method, path, &body)
	if err != nil {
		t.Fatal(err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Send(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatal(err)
		}
	}
}

type state struct {
	Size   uint64 `json:"size"`
	Sealed uint64 `json:"sealed_size"`
	Origin string `json:"origin"`
	Alarm  string `json:"alarm"`
}

// settle waits until everything is sealed.
func settle(t *testing.T, c *daemon.Client, atLeast uint64) state {
	t.Helper()
	var s state
	for range 500 {
		if do(t, c, http.MethodGet, "/v1/node", nil, &s); s.Size >= atLeast && s.Sealed >= s.Size {
			return s
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not sealed: %+v", s)
	return s
}

func deploy(t *testing.T, c *daemon.Client, version string) {
	t.Helper()
	do(t, c, http.MethodPost, "/v1/record/deploy?wait=receipt", map[string]any{"component": "api", "version": version}, nil)
}

// TestKeysAreBoundOnce reads the log's first event: the operator's statement of
// which keys speak for the log, and checks its signature.
func TestKeysAreBoundOnce(t *testing.T) {
	dir := t.TempDir()
	var origin string
	for range 2 {
		c, err := up(t, config(dir))
		if err != nil {
			t.Fatal(err)
		}
		s := settle(t, c, 1)
		if s.Size != 1 || origin != "" && s.Origin != origin {
			t.Errorf("%+v, origin was %q", s, origin)
		}
		origin = s.Origin
		var entry struct {
			Event struct {
				Type string                      `json:"type"`
				Data remembrancer.LedgerKeyBound `json:"data"`
			} `json:"event"`
		}
		do(t, c, http.MethodGet, "/v1/entries/0", nil, &entry)
		b := entry.Event.Data
		if entry.Event.Type != string(remembrancer.LedgerKeyBoundType) || b.Origin != origin {
			t.Fatalf("first entry %+v", entry)
		}
		sig := []byte(b.Signature)
		b.Signature = ""
		text, err := canon.Marshal(&b)
		if err != nil {
			t.Fatal(err)
		}
		operator, err := os.ReadFile(filepath.Join(dir, "keys", operatorPublic))
		if err != nil {
			t.Fatal(err)
		}
		ring, err := openpgp.ReadKeyRing(operator)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := openpgp.VerifyDetached(ring, bytes.NewReader(text), sig, time.Time{}); err != nil || got.Fingerprint != b.Operator {
			t.Errorf("the binding's signature: %+v, %v", got, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	other := config(dir)
	other.Name = "other.example/log"
	if _, err := up(t, other); err == nil || !strings.Contains(err.Error(), origin) {
		t.Errorf("renamed: %v", err)
	}
}

// TestStreamMadeAnew takes the broker's store away between two starts: the ledger
// stays readable, says so, and signs nothing more.
func TestStreamMadeAnew(t *testing.T) {
	dir := t.TempDir()
	c, err := up(t, config(dir))
	if err != nil {
		t.Fatal(err)
	}
	deploy(t, c, "v1")
	before := settle(t, c, 2)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(filepath.Join(dir, "keys", "signed.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, daemon.BrokerDir)); err != nil {
		t.Fatal(err)
	}
	// Not every way to start waits for readiness; a node that listens does not.
	n, err := daemon.Start(t.Context(), daemon.Options{Config: config(dir), Layers: []daemon.Layer{Layer()}, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	ready, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := n.AwaitReady(ready); err == nil {
		t.Error("a node whose stream is another says that it is ready")
	}
	if err := n.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(dir, "keys", "signed.json"))
	if err != nil || !bytes.Equal(signed, after) {
		t.Errorf("something was signed: %s, then %s, %v", signed, after, err)
	}
	l, err := ledger.Open(filepath.Join(dir, "ledger"), ledger.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Head().Size; got < before.Size {
		t.Errorf("the ledger has %d entries, had %d", got, before.Size)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPublicKeysOnly(t *testing.T) {
	dir := t.TempDir()
	if _, err := openPublic(dir, ""); err == nil || !strings.Contains(err.Error(), logPublic) {
		t.Errorf("without the log's key: %v", err)
	}
	k, err := openKeys(dir, "", "host", time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(k.Origin, "host.vaultmesh.local/log/") {
		t.Errorf("origin %s", k.Origin)
	}
	pub, err := openPublic(dir, "")
	if err != nil || pub.Origin != k.Origin || pub.VKey != k.VKey || pub.Log != nil || !bytes.Equal(pub.nodeASC, k.nodeASC) {
		t.Errorf("%+v, %v", pub, err)
	}
	if _, err := openPublic(dir, "other.example/log"); err == nil {
		t.Error("another name was accepted")
	}
	again, err := openKeys(dir, k.Origin, "elsewhere", time.Now(), rand.Reader)
	if err != nil || again.VKey != k.VKey || again.Operator.Fingerprint() != k.Operator.Fingerprint() {
		t.Errorf("read again: %v", err)
	}
	if err := os.Chmod(filepath.Join(dir, logSecret), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openKeys(dir, "", "host", time.Now(), rand.Reader); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a secret that others can read: %v", err)
	}
}

func TestDoctorOnADeadNode(t *testing.T) {
	dir := t.TempDir()
	x := daemon.Examined{Config: config(dir)}
	for _, check := range Checks(time.Now) {
		if well, findings := check.Run(t.Context(), x); len(findings) != 0 || well == "" {
			t.Errorf("%s of an empty directory: %q, %v", check.Name, well, findings)
		}
	}
	c, err := up(t, config(dir))
	if err != nil {
		t.Fatal(err)
	}
	settle(t, c, 1)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	break1 := map[string]func() error{
		"identity": func() error { return os.Remove(filepath.Join(dir, "keys", nodePublic)) },
		"head":     func() error { return os.WriteFile(filepath.Join(dir, "keys", "signed.json"), []byte("{"), 0o600) },
		"ledger": func() error {
			names, err := filepath.Glob(filepath.Join(dir, "ledger", "MANIFEST-*"))
			if err == nil && len(names) == 0 {
				err = errors.New("no manifest")
			}
			for _, n := range names {
				err = errors.Join(err, os.Truncate(n, 3))
			}
			return err
		},
		"time stamps": func() error {
			return os.WriteFile(filepath.Join(dir, "keys", tsaRoot), []byte("x"), 0o600)
		},
	}
	for _, check := range Checks(time.Now) {
		if _, findings := check.Run(t.Context(), x); len(findings) != 0 {
			t.Errorf("%s of a good directory: %v", check.Name, findings)
		}
		if err := break1[check.Name](); err != nil {
			t.Fatal(check.Name, err)
		}
		if _, findings := check.Run(t.Context(), x); len(findings) != 1 || findings[0].Mend == "" {
			t.Errorf("%s after damage: %v", check.Name, findings)
		}
	}
	if far, findings := Checks(func() time.Time { return time.Now().AddDate(30, 0, 0) })[3].Run(t.Context(), daemon.Examined{Config: config(t.TempDir())}); len(findings) != 0 {
		t.Error(fmt.Sprint(far, findings))
	}
}
