package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"vaultmesh.cloud/vaultmesh/events/canon"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161/devtsa"
)

const origin = "ledger.example/log"

var (
	artifact = []byte("what we deployed\n")
	start    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// stream is endless repeatable randomness.
type stream struct {
	seed string
	n    uint64
	rest []byte
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) < len(p) {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(s.seed), s.n))
		s.rest, s.n = append(s.rest, sum[:]...), s.n+1
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// world is a whole node's worth of keys, and a log with a few entries.
type world struct {
	t        testing.TB
	operator *openpgp.Key
	node     *openpgp.Key
	other    *openpgp.Key // a person whom the operator does not know
	tsa      *devtsa.Authority
	log      note.Signer
	vkey     string
	entries  [][]byte
}

func newWorld(t testing.TB, seed string) *world {
	t.Helper()
	w := &world{t: t}
	key := func(name string) *openpgp.Key {
		k, err := openpgp.NewKey(name, "", name+"@example.com", start, &stream{seed: seed + name})
		must(t, err)
		return k
	}
	w.operator, w.node, w.other = key("operator"), key("node"), key("other")
	var err error
	w.tsa, err = devtsa.NewAuthority("development TSA "+seed, start, &stream{seed: seed + "tsa"})
	must(t, err)
	skey, vkey, err := proof.NewLogKey(origin, &stream{seed: seed + "log"})
	must(t, err)
	w.log, err = note.NewSigner(skey)
	must(t, err)
	w.vkey = vkey
	for i := range 21 {
		w.add("deploy.recorded", map[string]any{"n": i})
	}
	return w
}

// add appends an event and returns its index.
func (w *world) add(name string, data any) uint64 {
	w.t.Helper()
	n := len(w.entries)
	b, err := canon.Marshal(map[string]any{
		"specversion": "1.0", "id": fmt.Sprintf("0197f5a0-0000-7000-8000-%012x", n), "source": "/operator",
		"type": "cloud.vaultmesh." + name + ".v1", "subject": "app", "time": start.Format(time.RFC3339), "data": data,
	})
	must(w.t, err)
	w.entries = append(w.entries, b)
	return uint64(n)
}

func (w *world) sign(k *openpgp.Key, b []byte) []byte {
	w.t.Helper()
	sig, err := k.SignDetached(bytes.NewReader(b), start.Add(time.Minute))
	must(w.t, err)
	return sig
}

func (w *world) stamp(b []byte, at time.Time) []byte {
	w.t.Helper()
	token, err := w.tsa.Respond(rfc3161.NewRequest(sha256.Sum256(b), nil, nil), at)
	must(w.t, err)
	return token
}

// hashes is the log as x/mod/sumdb/tlog stores it.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, h[i])
	}
	return out, nil
}

// contents seals the log and proves the given leaves.
func (w *world) contents(signer *openpgp.Key, indexes ...uint64) Contents {
	w.t.Helper()
	var store hashes
	for i, e := range w.entries {
		hs, err := tlog.StoredHashes(int64(i), e, store)
		must(w.t, err)
		store = append(store, hs...)
	}
	size := int64(len(w.entries))
	root, err := tlog.TreeHash(size, store)
	must(w.t, err)
	checkpoint, err := proof.SignCheckpoint(origin, uint64(size), proof.Hash(root), w.log)
	must(w.t, err)
	operatorKey, err := w.operator.PublicArmor()
	must(w.t, err)
	nodeKey, err := w.operator.Certify(w.node.Public(), start.Add(time.Second))
	must(w.t, err)
	token := w.stamp(artifact, start.Add(2*time.Minute))
	parsed, err := rfc3161.ParseResponse(token)
	must(w.t, err)
	c := Contents{
		Artifact:            Artifact{Name: "app.tar", Size: int64(len(artifact)), SHA256: hexSum(artifact)},
		Created:             start.Add(time.Hour),
		Signature:           w.sign(signer, artifact),
		Token:               token,
		OperatorKey:         operatorKey,
		NodeKey:             nodeKey,
		LogVKey:             w.vkey,
		TSAChain:            rfc3161.ChainPEM(parsed),
		Checkpoint:          checkpoint,
		CheckpointSignature: w.sign(w.node, checkpoint),
		CheckpointToken:     w.stamp(checkpoint, start.Add(3*time.Minute)),
	}
	if !bytes.Contains(c.TSAChain, w.tsa.RootPEM()) {
		c.TSAChain = append(c.TSAChain, w.tsa.RootPEM()...)
	}
	if signer != w.operator {
		c.SignerKey, err = signer.PublicArmor()
		must(w.t, err)
	}
	for _, i := range indexes {
		path, err := tlog.ProveRecord(size, int64(i), store)
		must(w.t, err)
		p := proof.TLogProof{Index: i, Checkpoint: checkpoint}
		for _, h := range path {
			p.Hashes = append(p.Hashes, proof.Hash(h))
		}
		c.Events = append(c.Events, Event{Index: i, Body: w.entries[i], Proof: p.Marshal()})
	}
	return c
}

// standard is the usual case: signed and stamped by the operator, both recorded.
func (w *world) standard() Contents {
	w.t.Helper()
	return w.signedBy(w.operator)
}

func (w *world) signedBy(signer *openpgp.Key) Contents {
	w.t.Helper()
	sig, token := w.sign(signer, artifact), w.stamp(artifact, start.Add(2*time.Minute))
	signed := w.add("artifact.signed", map[string]any{"name": "app.tar", "size": len(artifact), "sha256": hexSum(artifact),
		"fingerprint": signer.Fingerprint(), "signature": string(sig), "signature_sha256": hexSum(sig)})
	w.add("deploy.recorded", map[string]any{"between": true})
	stamped := w.add("artifact.timestamped", map[string]any{"name": "app.tar", "size": len(artifact), "sha256": hexSum(artifact),
		"token": base64.StdEncoding.EncodeToString(token), "token_sha256": hexSum(token), "gen_time": start.Add(2 * time.Minute).Format(time.RFC3339), "tsa": "development TSA"})
	w.add("deploy.recorded", map[string]any{"after": true})
	c := w.contents(signer, signed, stamped)
	c.Signature, c.Token = sig, token
	return c
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func write(t testing.TB, c Contents) []byte {
	t.Helper()
	var buf bytes.Buffer
	must(t, Write(&buf, c))
	return buf.Bytes()
}

func read(t testing.TB, b []byte) *Bundle {
	t.Helper()
	got, err := Read(bytes.NewReader(b), Limits{})
	must(t, err)
	return got
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
