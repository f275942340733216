package remembrancer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
)

// original is what the original project left: files, signatures and tokens that
// nobody here made.
const original = "../../../projections/remembrancer/proof/testdata/original/"

// stage copies an original file with its companions.
func (d *desk) stage(name string) string {
	d.t.Helper()
	for _, suffix := range []string{"", ".asc", ".tsr"} {
		b, err := os.ReadFile(original + name + suffix)
		must(d.t, err)
		d.file(name+suffix, string(b))
	}
	return filepath.Join(d.dir, name)
}

func offline(file string, more ...string) []string {
	return append([]string{"verify-full", file, "--key-file", original + "recovered-pubkey-6E4082C6A410F340.asc",
		"--tsa-ca", original + "freetsa-root-from-token.pem", "--allow-missing", "inclusion"}, more...)
}

func TestVerifyOriginalsWithoutNode(t *testing.T) {
	for _, name := range []string{"SOVEREIGN_LORE_CODEX_V1.md", "test-app.tar.gz"} {
		d := newDesk(t)
		must(t, os.RemoveAll(d.data))
		file := d.stage(name)
		d.want(0, offline(file), "verified: "+name, "297BE5B308041DEFF3EFE4BD6E4082C6A410F340 (pinned)", "allowed", "existed at 2025-10-19")
		out := d.want(0, offline(file, "-o", "json"))
		var r proof.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil || !r.Verified || len(r.Links) != 4 {
			t.Errorf("%v in %s", err, out)
		}
		if d.dials != 0 {
			t.Error("a node was asked")
		}
		if _, err := os.Stat(d.data); !os.IsNotExist(err) {
			t.Error("a data directory was made")
		}
	}
}

func TestVerifyFlippedBytes(t *testing.T) {
	const name = "SOVEREIGN_LORE_CODEX_V1.md"
	flip := func(file string, at int) {
		b, err := os.ReadFile(file)
		must(t, err)
		b[at] ^= 1
		must(t, os.WriteFile(file, b, 0o644))
	}
	t.Run("file", func(t *testing.T) {
		d := newDesk(t)
		file := d.stage(name)
		flip(file, 100)
		d.want(4, offline(file), "signature  failed", "token      failed")
	})
	t.Run("signature", func(t *testing.T) {
		d := newDesk(t)
		file := d.stage(name)
		b, err := os.ReadFile(file + ".asc")
		must(t, err)
		lines := strings.Split(string(b), "\n")
		for i, l := range lines {
			if l == "" { // the first line of base64 holds the hashed part
				c := byte('A')
				if lines[i+1][30] == 'A' {
					c = 'B'
				}
				lines[i+1] = lines[i+1][:30] + string(c) + lines[i+1][31:]
				break
			}
		}
		must(t, os.WriteFile(file+".asc", []byte(strings.Join(lines, "\n")), 0o644))
		d.want(4, offline(file), "signature  failed", "token      ok")
	})
	t.Run("token", func(t *testing.T) {
		d := newDesk(t)
		file := d.stage(name)
		b, err := os.ReadFile(file + ".tsr")
		must(t, err)
		at := strings.Index(string(b), "20251019231406Z")
		if at < 0 {
			t.Fatal("no genTime in the token")
		}
		flip(file+".tsr", at+3) // the year
		d.want(4, offline(file), "signature  ok", "token      failed")
	})
	t.Run("missing", func(t *testing.T) {
		d := newDesk(t)
		file := d.stage(name)
		must(t, os.Remove(file+".tsr"))
		d.want(4, offline(file), "token      missing")
		d.want(0, offline(file, "--allow-missing", "token"), "token      allowed")
		d.want(2, offline(file, "--allow-missing", "everything"), "is no link")
		must(t, os.WriteFile(file+".asc", make([]byte, 1<<20), 0o644))
		d.want(4, offline(file, "--allow-missing", "token", "--allow-missing", "signature"), "signature  failed")
	})
}

// proven makes a file with all four links.
func (d *desk) proven() string {
	d.t.Helper()
	file := d.file("report.md", "the report\n")
	d.want(0, args("sign", file))
	d.want(0, args("record", "deploy", "--component", "api", "--version", "v1", "--evidence", file))
	d.want(0, args("timestamp", file))
	return file
}

func TestVerifyFull(t *testing.T) {
	d := newDesk(t)
	file := d.proven()
	d.want(0, args("verify-full", file), "verified: report.md", "3 events", "(operator)", "consistent with 3", "stamped")
	d.want(0, args("record", "deploy", "--component", "api", "--version", "v2"))
	d.want(0, args("verify-full", file), "consistent with 4")

	unknown := d.file("unknown.md", "another\n")
	d.want(4, args("verify-full", unknown), "digest     missing", "the log does not know this SHA-256")
	must(t, os.Remove(file+".asc"))
	d.want(4, args("verify-full", file), "signature  missing", "report.md.asc is not there")
	d.want(0, args("verify-full", file, "--allow-missing", "signature"))
	d.want(3, args("verify-full", filepath.Join(d.dir, "none")))
}

func TestVerifyFullOtherSigner(t *testing.T) {
	d := newDesk(t)
	file := d.file("report.md", "the report\n")
	other := newFake(t).operator
	secret, err := other.Armor()
	must(t, err)
	key := d.file("other.key", string(secret))
	must(t, os.Chmod(key, 0o600))
	d.want(0, args("sign", file, "--key", key), other.Fingerprint())
	d.want(0, args("timestamp", file))
	d.want(0, args("verify-full", file), "(logged)", "the operator does not certify the signer")
	public, err := other.PublicArmor()
	must(t, err)
	pin := d.file("other.asc", string(public))
	d.want(0, args("verify-full", file, "--key-file", pin), "(pinned)")
	operator, err := d.node.operator.PublicArmor()
	must(t, err)
	d.want(4, args("verify-full", file, "--key-file", d.file("op.asc", string(operator))), "signature  failed")
}

func TestVerifyFullUnsealed(t *testing.T) {
	d := newDesk(t)
	file := d.file("report.md", "the report\n")
	d.node.unstamped = true
	d.want(0, args("sign", file))
	d.want(0, args("timestamp", file))
	d.want(0, args("verify-full", file), "has no time-stamp yet")
	d.node.unstamped = false
	d.node.add("deploy.recorded", "api", map[string]any{"component": "api", "version": "v1"}, "")
	d.want(0, args("verify-full", file), "checkpoint of 3 entries, signed and sealed, stamped")
	d.node.unsealed = true
	other := d.file("other.md", "other\n")
	d.want(0, args("sign", other, "--no-wait"))
	d.want(0, args("timestamp", other, "--no-wait"))
	d.want(4, args("verify-full", other), "not sealed yet")
}

// TestVerifyFullSeal: the checkpoint's own signature and the operator's word for
// the node.
func TestVerifyFullSeal(t *testing.T) {
	d := newDesk(t)
	file := d.proven()
	stranger := newFake(t)
	armor, err := stranger.operator.Certify(stranger.node.Public(), stranger.now)
	must(t, err)
	good := d.node.nodeArm
	d.node.nodeArm = armor
	d.want(4, args("verify-full", file), "the node's signature over the checkpoint")
	d.node.nodeArm, err = d.node.node.PublicArmor()
	must(t, err)
	d.want(4, args("verify-full", file), "not certified by the operator")
	d.node.nodeArm = good
	d.want(0, args("verify-full", file))
	d.node.tsa = stranger.tsa
	d.want(4, args("verify-full", file), "inclusion  failed", "token      failed")
}

func TestRolledBackLog(t *testing.T) {
	d := newDesk(t)
	file := d.proven()
	d.want(0, args("record", "deploy", "--component", "api", "--version", "v2"))
	d.want(0, args("verify-full", file), "consistent with 4")
	seen := filepath.Join(d.data, "clients", "ledger.example%2Flog.json")
	before, err := os.ReadFile(seen)
	must(t, err)

	// An older head of the same history.
	four := d.node.heads[4]
	delete(d.node.heads, 4)
	d.want(4, args("verify-full", file), "rolled back")
	d.want(4, args("checkpoint"), "rolled back")
	d.node.heads[4] = four
	d.want(0, args("verify-full", file))

	// Another history that is longer: as if the log had been rebuilt without one.
	d.node.entries, d.node.stored = d.node.entries[:3], d.node.stored[:4]
	clear(d.node.heads)
	d.node.add("deploy.recorded", "api", map[string]any{"component": "other", "version": "v2"}, "")
	d.want(4, args("verify-full", file), "two histories")
	d.node.add("deploy.recorded", "api", map[string]any{"component": "api", "version": "v3"}, "")
	d.want(4, args("verify-full", file), "two histories")
	d.want(4, args("publish-root", filepath.Join(d.dir, "ROOT.md")), "two histories")
	after, err := os.ReadFile(seen)
	must(t, err)
	if string(before) != string(after) {
		t.Error("a refused head replaced the good one")
	}
	forks, _ := filepath.Glob(filepath.Join(d.data, "clients", "*.fork-*"))
	if len(forks) == 0 {
		t.Error("no evidence was kept")
	}

	// Another key under the same name.
	d.node.vkey = newFake(t).vkey
	d.want(4, args("checkpoint"))
}

func TestExportAndVerifyProof(t *testing.T) {
	d := newDesk(t)
	for i := range 5 {
		d.node.add("deploy.recorded", "api", map[string]any{"component": "api", "version": string(rune('a' + i))}, "")
	}
	file := d.proven()
	d.node.add("deploy.recorded", "api", map[string]any{"component": "api", "version": "later"}, "")
	bundleFile := file + ".proof.tgz"
	d.want(0, args("export-proof", file, "--out", bundleFile), "wrote", "events      ")
	d.want(0, args("export-proof", file, "--out", bundleFile))
	d.dials = 0
	d.base = "http://127.0.0.1:1"
	d.want(0, args("verify-proof", bundleFile), "verified: report.md", "came with the evidence")
	vkey := d.file("log.vkey", d.node.vkey+"\n")
	ca := d.file("ca.pem", string(d.node.tsa.RootPEM()))
	pins := []string{"--key", d.node.operator.Fingerprint(), "--log-vkey", vkey, "--tsa-ca", ca}
	out := d.want(0, append(args("verify-proof", bundleFile, file), pins...), "named by you")
	if strings.Contains(out, "came with the evidence") {
		t.Errorf("an anchor is not pinned:\n%s", out)
	}
	stranger := newFake(t)
	d.want(4, args("verify-proof", bundleFile, "--key", stranger.operator.Fingerprint()))
	d.want(4, args("verify-proof", bundleFile, "--log-vkey", stranger.vkey))
	d.want(4, args("verify-proof", bundleFile, "--tsa-ca", d.file("ca2.pem", string(stranger.tsa.RootPEM()))))
	d.want(2, args("verify-proof", bundleFile, "--key", "6E4082C6A410F340"), "short ids can be forged")
	d.want(4, args("verify-proof", bundleFile, d.file("x", "another file")), "digest     failed")
	d.want(4, args("verify-proof", d.file("junk.proof.tgz", "junk")))
	d.want(3, args("verify-proof", filepath.Join(d.dir, "none")))
	if d.dials != 0 {
		t.Error("verify-proof asked a node")
	}
}

func TestExportProofFromLog(t *testing.T) {
	d := newDesk(t)
	file := d.proven()
	must(t, os.Remove(file+".asc"))
	must(t, os.Remove(file+".tsr"))
	out := filepath.Join(d.dir, "p.tgz")
	d.want(0, args("export-proof", file, "--out", out))
	d.want(0, args("verify-proof", out, file))

	bare := d.file("bare.md", "bare\n")
	d.want(4, args("export-proof", bare, "--out", out+"2"), "the log does not know")
	d.want(0, args("record", "deploy", "--component", "api", "--version", "v9", "--evidence", bare))
	d.want(4, args("export-proof", bare, "--out", out+"2"), "nothing was written")
	d.want(5, args("export-proof", file, "--out", d.file("taken", "mine")))
	d.node.unstamped = true
	d.want(0, args("sign", bare))
	d.want(8, args("export-proof", bare, "--out", out+"2", "--wait", "300ms"), "not time-stamped")
	if _, err := os.Stat(out + "2"); !os.IsNotExist(err) {
		t.Error("a bundle that proves nothing was written")
	}
}

func TestReadsKeyArgument(t *testing.T) {
	k := newFake(t).operator
	armored, err := k.PublicArmor()
	must(t, err)
	file := filepath.Join(t.TempDir(), "k.asc")
	must(t, os.WriteFile(file, armored, 0o644))
	for _, s := range []string{k.Fingerprint(), strings.ToLower(k.Fingerprint()), file} {
		if got, err := keyArgument(s); err != nil || got != k.Fingerprint() {
			t.Errorf("keyArgument(%s) = %s, %v", s, got, err)
		}
	}
	if _, err := openpgp.ReadKeyRing(armored); err != nil {
		t.Error(err)
	}
}

// FuzzReceipt: a node's receipt never makes more than a refusal.
func FuzzReceipt(f *testing.F) {
	n := newFake(f)
	e, index := n.add("deploy.recorded", "api", map[string]any{"component": "api", "version": "v1"}, "")
	n.add("deploy.recorded", "api", map[string]any{"component": "api", "version": "v2"}, "")
	good, err := json.Marshal(n.receiptOf(e, int(index), 1))
	must(f, err)
	f.Add(good)
	f.Add([]byte(`{"format":"vaultmesh.cloud/receipt/v1","latest":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r receipt
		if decode(b, &r) != nil {
			return
		}
		p, err := checkReceipt(r, e.ID, n.vkey)
		if err == nil && (p.event.ID != e.ID || r.Index != index) {
			t.Errorf("accepted %s", b)
		}
	})
}

// TestTwoAuthorities: the file was stamped by one authority, the log by another.
func TestTwoAuthorities(t *testing.T) {
	d := newDesk(t)
	file := d.file("report.md", "the report\n")
	other := newFake(t)
	ca := d.file("ca.pem", string(other.tsa.RootPEM()))
	d.want(0, args("sign", file))
	d.want(0, args("timestamp", file, "--tsa", other.server().URL+"/v1/timestamp", "--tsa-ca", ca))
	d.want(4, args("verify-full", file), "token      failed")
	d.want(0, args("verify-full", file, "--tsa-ca", ca), "verified: report.md")
	d.want(4, args("export-proof", file, "--out", file+".proof.tgz"), "nothing was written")
	d.want(0, args("export-proof", file, "--out", file+".proof.tgz", "--tsa-ca", ca))
	d.want(0, args("verify-proof", file+".proof.tgz"))
}

// TestSignForAnotherOperator: the key in this data directory is not that of the
// node that --node names, so the log must hold it.
func TestSignForAnotherOperator(t *testing.T) {
	d := newDesk(t)
	elsewhere := newFake(t)
	d.base = elsewhere.server().URL
	file := d.file("report.md", "the report\n")
	d.want(0, args("sign", file))
	d.want(0, args("timestamp", file))
	d.want(0, args("verify-full", file), "(logged)", d.node.operator.Fingerprint())
}
