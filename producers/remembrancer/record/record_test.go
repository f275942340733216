package record

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/reads"
)

var (
	ctx    = context.Background()
	digest = strings.Repeat("0a", 32)
	deploy = remembrancer.DeployRecorded{Component: "api", Version: "v1", Notes: "for <Ann> & Bob"}
)

func TestDeploy(t *testing.T) {
	w := newWorld(t)
	out, err := w.recorder.Deploy(ctx, Order{Producer: "ci"}, deploy)
	w.check(err)
	e, err := w.ledger.Entry(0)
	w.check(err)
	leaf := proof.LeafHash(e.Bytes)
	if *out.Index != 0 || out.LeafHash != hex.EncodeToString(leaf[:]) || out.Source != "/ci" || out.Type != remembrancer.DeployRecordedType ||
		out.ID != e.Event.ID || out.Sealed || out.Repeated || *out.Payload.(*remembrancer.DeployRecorded) != deploy {
		t.Errorf("recorded %+v", out)
	}
	if e.Event.Subject != "api" || !e.Event.Time.Equal(now) || e.Verdict != "" || e.Event.DataSchema != events.SchemaBase+"remembrancer/deploy.recorded.v1.json" {
		t.Errorf("event %+v, verdict %q", e.Event, e.Verdict)
	}
	// The same without a key is another deployment.
	if out, err = w.recorder.Deploy(ctx, Order{Producer: "ci"}, deploy); err != nil || *out.Index != 1 {
		t.Errorf("again: %+v, %v", out, err)
	}
}

func TestRefusedIntentions(t *testing.T) {
	w := newWorld(t)
	o := Order{Producer: "ci"}
	refused := func(name string, err, want error, says string) {
		t.Helper()
		if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := w.recorder.Deploy(ctx, o, remembrancer.DeployRecorded{Component: "a\x00b", Version: "v1"})
	refused("control character", err, ErrSchema, "component")
	_, err = w.recorder.Deploy(ctx, o, remembrancer.DeployRecorded{Component: "api"})
	refused("no version", err, ErrSchema, "version")
	_, err = w.recorder.Deploy(ctx, Order{Producer: "ci", Private: true}, remembrancer.DeployRecorded{Component: "api", Version: "v1", Notes: strings.Repeat("x", remembrancer.MaxNotes+1)})
	refused("private notes too long", err, ErrSchema, "notes")
	_, err = w.recorder.Incident(ctx, o, remembrancer.IncidentReported{Title: "Down", Severity: "bad"})
	refused("severity", err, ErrSchema, "severity")
	_, err = w.recorder.Decision(ctx, o, remembrancer.DecisionRecorded{Title: "Use NATS", Status: "accepted", Supersedes: []int64{7}})
	refused("supersedes nothing", err, ErrSchema, "no decision 7")
	_, err = w.recorder.Signature(ctx, o, remembrancer.ArtifactSigned{SHA256: digest, Name: "a", Fingerprint: strings.Repeat("A", 40), Signature: "s", SignatureSHA256: digest})
	refused("wrong digest of a signature", err, ErrSchema, "signature_sha256")
	_, err = w.recorder.Timestamp(ctx, o, remembrancer.ArtifactTimestamped{SHA256: digest, Name: "a", Token: "AAAA", TokenSHA256: digest})
	refused("wrong digest of a token", err, ErrSchema, "token_sha256")
	_, err = w.recorder.Timestamp(ctx, Order{Producer: "ci", Private: true}, remembrancer.ArtifactTimestamped{})
	refused("private artifact", err, reads.ErrBadRequest, "private")
	_, err = w.recorder.Deploy(ctx, Order{}, deploy)
	refused("nobody", err, ErrNotAllowed, "no producer")
	_, err = w.recorder.Deploy(ctx, Order{Producer: "ci", Domains: []events.Domain{"incident"}}, deploy)
	refused("foreign domain", err, ErrNotAllowed, "domain deploy")
	_, err = w.recorder.Deploy(ctx, Order{Producer: "ci", Key: strings.Repeat("k", 129)}, deploy)
	refused("long key", err, reads.ErrBadRequest, "key")
	_, err = w.recorder.Deploy(ctx, Order{Producer: "ci", Wait: "ever"}, deploy)
	refused("unknown wait", err, reads.ErrBadRequest, "wait")
	if w.size() != 0 {
		t.Errorf("%d leaves after refusals", w.size())
	}
}

func TestArtifacts(t *testing.T) {
	w := newWorld(t)
	sum := func(s string) string { b := sha256.Sum256([]byte(s)); return hex.EncodeToString(b[:]) }
	_, err := w.recorder.Signature(ctx, Order{Producer: "ci"}, remembrancer.ArtifactSigned{SHA256: digest, Name: "a.tgz", Fingerprint: strings.Repeat("A", 40), Signature: "sig", SignatureSHA256: sum("sig")})
	w.check(err)
	_, err = w.recorder.Timestamp(ctx, Order{Producer: "ci"}, remembrancer.ArtifactTimestamped{SHA256: digest, Name: "a.tgz",
		Token: base64.StdEncoding.EncodeToString([]byte("tok")), TokenSHA256: sum("tok"), GenTime: "2026-11-01T12:00:00Z", TSA: "tsa"})
	w.check(err)
	_, err = w.recorder.Incident(ctx, Order{Producer: "ci"}, remembrancer.IncidentReported{Title: "Down", Severity: "high"})
	w.check(err)
	a, err := w.reader.Artifact(ctx, digest)
	w.check(err)
	if len(a.Events) != 2 || w.size() != 3 {
		t.Errorf("artifact %+v of %d leaves", a, w.size())
	}
}

func TestIdempotency(t *testing.T) {
	w := newWorld(t)
	o := Order{Producer: "ci", Key: "build 17"}
	first, err := w.recorder.Deploy(ctx, o, deploy)
	w.check(err)
	now2 := now.Add(time.Hour)
	w.recorder.o.Clock = func() time.Time { return now2 }
	again, err := w.recorder.Deploy(ctx, o, deploy)
	w.check(err)
	if again.ID != first.ID || *again.Index != *first.Index || !again.Repeated || w.size() != 1 {
		t.Errorf("repeat: %+v, first %+v, %d leaves", again, first, w.size())
	}
	other := deploy
	other.Version = "v2"
	if _, err := w.recorder.Deploy(ctx, o, other); !errors.Is(err, ErrConflict) || w.size() != 1 {
		t.Errorf("the key for something else: %v, %d leaves", err, w.size())
	}
	if _, err := w.recorder.Incident(ctx, o, remembrancer.IncidentReported{Title: "Down", Severity: "low"}); !errors.Is(err, ErrConflict) {
		t.Errorf("the key for another kind: %v", err)
	}
	// Another producer's key is another key.
	if out, err := w.recorder.Deploy(ctx, Order{Producer: "cd", Key: o.Key}, deploy); err != nil || *out.Index != 1 {
		t.Errorf("another producer: %+v, %v", out, err)
	}
}

func TestIdempotencyConcurrent(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if out, err := w.recorder.Deploy(ctx, Order{Producer: "ci", Key: "k"}, deploy); err != nil || *out.Index != 0 {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
	wg.Wait()
	if h := w.ledger.Head(); h.Size != 1 || h.Repeats != 0 {
		t.Errorf("%d leaves, %d repeats", h.Size, h.Repeats)
	}
}

// TestOtherNodeFirst publishes the same key through another node between our
// look at the log and our event: ours is quarantined, the answer is the other's.
func TestOtherNodeFirst(t *testing.T) {
	w := newWorld(t)
	w.stream.before = func(e *events.Event) { w.foreign(e.ID, &deploy) }
	out, err := w.recorder.Deploy(ctx, Order{Producer: "ci", Key: "k"}, deploy)
	if err != nil || *out.Index != 0 || w.ledger.Head().Quarantined != 1 {
		t.Errorf("same intention: %+v, %v", out, err)
	}
	other := deploy
	other.Version = "v2"
	w.stream.before = func(e *events.Event) { w.foreign(e.ID, &other) }
	if out, err = w.recorder.Deploy(ctx, Order{Producer: "ci", Key: "k2"}, deploy); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "another content") {
		t.Errorf("another intention: %+v, %v", out, err)
	}
}

func TestDecisionNumbers(t *testing.T) {
	w := newWorld(t)
	adr := remembrancer.DecisionRecorded{Title: "Use NATS", Status: "accepted"}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var got []int64
	for range 20 {
		wg.Go(func() {
			out, err := w.recorder.Decision(ctx, Order{Producer: "ci"}, adr)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, out.Payload.(*remembrancer.DecisionRecorded).Number)
		})
	}
	wg.Wait()
	slices.Sort(got)
	for i, n := range got {
		if n != int64(i+1) {
			t.Fatalf("numbers %v", got)
		}
	}
	// A repeat keeps its number, even without knowing it.
	o := Order{Producer: "ci", Key: "adr"}
	adr.Supersedes = []int64{3, 20}
	for range 3 {
		out, err := w.recorder.Decision(ctx, o, adr)
		w.check(err)
		if n := out.Payload.(*remembrancer.DecisionRecorded).Number; n != 21 {
			t.Errorf("number %d, want 21", n)
		}
	}
	adr.Number = 21
	if out, err := w.recorder.Decision(ctx, o, adr); err != nil || !out.Repeated {
		t.Errorf("a repeat that names its number: %+v, %v", out, err)
	}
	if _, err := w.recorder.Decision(ctx, Order{Producer: "ci"}, adr); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "22") {
		t.Errorf("a number that is taken: %v", err)
	}
	adr.Number = 40
	if _, err := w.recorder.Decision(ctx, Order{Producer: "ci"}, adr); err != nil {
		t.Errorf("a free number: %v", err)
	}
	adr.Number = 0
	// Numbers survive a restart: they are the log's.
	w.recorder.decisions = decisions{}
	if out, err := w.recorder.Decision(ctx, Order{Producer: "ci", Wait: WaitNone}, adr); err != nil || out.Payload.(*remembrancer.DecisionRecorded).Number != 41 {
		t.Errorf("after a restart: %+v, %v", out, err)
	}
}

// TestNumberTaken lets another node take the number between our look and our
// event.
func TestNumberTaken(t *testing.T) {
	w := newWorld(t)
	adr := remembrancer.DecisionRecorded{Title: "Ours", Status: "accepted"}
	theirs := func(id events.ID, n int64) func(*events.Event) {
		return func(*events.Event) {
			w.foreign(id, &remembrancer.DecisionRecorded{Number: n, Title: "Theirs", Status: "accepted"})
		}
	}
	w.stream.before = theirs("theirs-1", 1)
	o := Order{Producer: "ci", Key: "k"}
	out, err := w.recorder.Decision(ctx, o, adr)
	if err != nil || out.Payload.(*remembrancer.DecisionRecorded).Number != 2 {
		t.Fatalf("renumbered: %+v, %v", out, err)
	}
	again, err := w.recorder.Decision(ctx, o, adr)
	if err != nil || *again.Index != *out.Index || !again.Repeated {
		t.Errorf("repeat of a renumbered decision: %+v, %v", again, err)
	}
	chosen := adr
	chosen.Number = 9
	w.stream.before = theirs("theirs-9", 9)
	if _, err := w.recorder.Decision(ctx, Order{Producer: "ci"}, chosen); !errors.Is(err, ErrConflict) {
		t.Errorf("chosen number: %v", err)
	}
}

func TestPrivate(t *testing.T) {
	w := newWorld(t)
	o := Order{Producer: "ci", Key: "k", Private: true}
	adr := remembrancer.DecisionRecorded{Title: "Fire Bob", Status: "accepted", Body: "because of the secret reason"}
	out, err := w.recorder.Decision(ctx, o, adr)
	w.check(err)
	e, err := w.ledger.Entry(*out.Index)
	w.check(err)
	if strings.Contains(string(e.Bytes), "secret") || e.Event.Private == "" {
		t.Fatalf("event %s", e.Bytes)
	}
	p, err := w.private.Get(e.Event.Private)
	w.check(err)
	if p.Fields["body"] != adr.Body {
		t.Errorf("private text %+v", p)
	}
	again, err := w.recorder.Decision(ctx, o, adr)
	if err != nil || *again.Index != *out.Index {
		t.Errorf("repeat: %+v, %v", again, err)
	}
	other := adr
	other.Body = "something else"
	if _, err := w.recorder.Decision(ctx, o, other); !errors.Is(err, ErrConflict) {
		t.Errorf("the key for another text: %v", err)
	}
	if _, err := w.recorder.Decision(ctx, Order{Producer: "ci", Key: "k"}, remembrancer.DecisionRecorded{Title: "Fire Bob", Status: "accepted"}); !errors.Is(err, ErrConflict) {
		t.Errorf("the key without text: %v", err)
	}
	w.check(w.private.Delete(e.Event.Private))
	if again, err = w.recorder.Decision(ctx, o, adr); err != nil || *again.Index != *out.Index {
		t.Errorf("repeat after redaction: %+v, %v", again, err)
	}
	if _, err := w.private.Get(e.Event.Private); !errors.Is(err, reads.ErrNotFound) {
		t.Errorf("after redaction: %v", err)
	}
	if files, err := os.ReadDir(w.dir); err != nil || len(files) != 0 {
		t.Errorf("files %v, %v", files, err)
	}
	// Nothing to keep back is no fault.
	if out, err = w.recorder.Deploy(ctx, Order{Producer: "ci", Private: true}, remembrancer.DeployRecorded{Component: "api", Version: "v1"}); err != nil || w.event(*out.Index).Private != "" {
		t.Errorf("private without text: %+v, %v", out, err)
	}
}

func TestPrivateBeforePublishing(t *testing.T) {
	w := newWorld(t)
	w.stream.fail = bus.ErrFull
	_, err := w.recorder.Deploy(ctx, Order{Producer: "ci", Private: true}, deploy)
	if !errors.Is(err, bus.ErrFull) || w.size() != 0 {
		t.Errorf("store full: %v, %d leaves", err, w.size())
	}
	if files, err := os.ReadDir(w.dir); err != nil || len(files) != 1 {
		t.Errorf("the text must be durable before its event: %v, %v", files, err)
	}
}

func TestPrivateDir(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, digest+".json.tmp"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := OpenPrivateDir(bus.Disk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	p := events.Private{Salt: make([]byte, 32), Fields: map[string]string{"body": "x"}}
	c, err := p.Commitment()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Put("sha256:"+digest, p); !errors.Is(err, events.ErrCommitment) {
		t.Errorf("text under a foreign commitment: %v", err)
	}
	for _, bad := range []string{"", "sha256:", digest, "sha256:../../etc/passwd", "sha256:" + strings.ToUpper(digest)} {
		if _, err := d.Get(bad); !errors.Is(err, reads.ErrBadRequest) {
			t.Errorf("Get(%q): %v", bad, err)
		}
	}
	if err := errors.Join(d.Put(c, p), d.Put(c, p)); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, files[0].Name()), []byte(`{"salt":"AAAA","fields":{"body":"y"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(c); !errors.Is(err, events.ErrCommitment) {
		t.Errorf("text that was changed on disk: %v", err)
	}
	if err := d.Delete(c); err != nil {
		t.Error(err)
	}
	if err := d.Delete(c); !errors.Is(err, reads.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestWaits(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.LeafWait = 30 * time.Millisecond })
	// Not sealed in time: the event stands all the same.
	out, err := w.recorder.Deploy(ctx, Order{Producer: "ci", Wait: WaitReceipt}, deploy)
	if err != nil || out.Sealed || out.Receipt != nil || *out.Index != 0 {
		t.Errorf("not sealed: %+v, %v", out, err)
	}
	w.recorder.o.SealWait = time.Minute
	go func() {
		if _, err := w.ledger.Wait(ctx, 1); err != nil {
			t.Error(err)
		}
		w.seal()
	}()
	if out, err = w.recorder.Deploy(ctx, Order{Producer: "ci", Wait: WaitReceipt}, deploy); err != nil || !out.Sealed || out.Receipt == nil || out.Receipt.Size != 2 {
		t.Errorf("sealed: %+v, %v", out, err)
	}
	if out, err = w.recorder.Deploy(ctx, Order{Producer: "ci", Wait: WaitNone}, deploy); err != nil || out.Index != nil || out.Payload == nil {
		t.Errorf("not waited: %+v, %v", out, err)
	}
	w.stream.hold = true
	o := Order{Producer: "ci", Key: "k"}
	if out, err = w.recorder.Deploy(ctx, o, deploy); !errors.Is(err, ErrPending) || out.ID == "" || out.Index != nil {
		t.Errorf("not folded: %+v, %v", out, err)
	}
	w.stream.release()
	if out, err = w.recorder.Deploy(ctx, o, deploy); err != nil || !out.Repeated || *out.Index != 3 {
		t.Errorf("repeat after folding: %+v, %v", out, err)
	}
}

// TestLostAnswer loses the broker's answer: the caller's repeat finds the leaf.
func TestLostAnswer(t *testing.T) {
	w := newWorld(t)
	w.stream.lose = bus.ErrUnavailable
	o := Order{Producer: "ci", Key: "k"}
	if _, err := w.recorder.Deploy(ctx, o, deploy); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("lost answer: %v", err)
	}
	w.stream.lose = nil
	if out, err := w.recorder.Deploy(ctx, o, deploy); err != nil || !out.Repeated || w.size() != 1 {
		t.Errorf("repeat: %+v, %v", out, err)
	}
	// A decision whose fate is unknown keeps its number.
	w.stream.lose, w.stream.hold = bus.ErrUnavailable, true
	adr := remembrancer.DecisionRecorded{Title: "A", Status: "accepted"}
	if _, err := w.recorder.Decision(ctx, o, adr); err == nil {
		t.Error("the key of a deployment was taken for a decision")
	}
	if _, err := w.recorder.Decision(ctx, Order{Producer: "ci"}, adr); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("lost answer: %v", err)
	}
	w.stream.lose = nil
	w.stream.release()
	w.recorder.decisions.next = 99 // as if the fold had not come to it
	if out, err := w.recorder.Decision(ctx, Order{Producer: "ci", Wait: WaitNone}, adr); err == nil && out.Payload.(*remembrancer.DecisionRecorded).Number == 1 {
		t.Errorf("a number was given twice: %+v", out)
	}
}

func TestLockWaitsNoLongerThanAsked(t *testing.T) {
	var l locks
	unlock, err := l.lock(ctx, "b", "a", "a")
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	if _, err := l.lock(short, "b", "c"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock that is held: %v", err)
	}
	unlock()
	unlock, err = l.lock(ctx, "a", "b", "c")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if len(l.held) != 0 {
		t.Errorf("names left: %v", l.held)
	}
}
