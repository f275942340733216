package remembrancer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRecord(t *testing.T) {
	d := newDesk(t)
	evidence := d.file("api.tar.gz", "what was deployed")
	d.want(0, args("record", "deploy", "--component", "api", "--version", "v1", "--evidence", evidence, "--environment", "staging"),
		"inclusion verified", "index       0", "ledger.example/log at 1 entries")
	d.want(0, args("record", "deploy", "--component", "api", "--version", "v2", "--no-wait"), "not waited for")
	body := d.file("adr.md", "# Why\nBecause.\n")
	out := d.want(0, args("record", "decision", "--title", "Use NATS", "--body", body, "--tag", "bus", "-o", "json"))
	var r recordResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || !r.Sealed || r.ID == "" || *r.Index != 2 || *r.Size != 3 {
		t.Errorf("%v in %s", err, out)
	}
	d.stdin = "private reasons"
	d.want(0, args("record", "decision", "--title", "Fire the vendor", "--body", "-", "--private", "--supersedes", "1"), "decision    2")
	d.want(0, args("record", "incident", "--title", "Router down", "--severity", "high"), "sealed")
	if strings.Contains(string(d.node.entries[3]), "reasons") {
		t.Error("private text stands in the log")
	}
	d.want(0, args("adr", "show", "1"), "Because.", "public", "bus")
	d.want(0, args("adr", "show", "2"), "private reasons", "supersedes  1")
	clear(d.node.privates)
	d.want(0, args("adr", "show", "2"), "redacted")
	d.want(3, args("adr", "show", "9"), "no decision 9")
	d.want(2, args("adr", "show", "x"))
	d.want(0, args("adr", "list"), "NUMBER", "accepted")
}

func TestRecordRefusals(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct {
		code int
		args []string
	}{
		{2, args("record", "deploy", "--component", "api")},
		{2, args("record", "deploy", "--component", "", "--version", "v1")},
		{2, args("record", "deploy", "--component", "a\x1b[31m", "--version", "v1")},
		{2, args("record", "deploy", "--component", "api", "--version", "v1", "--sha256", "abc")},
		{2, args("record", "deploy", "--component", "api", "--version", "v1", "--sha256", "abc", "--evidence", "x")},
		{3, args("record", "deploy", "--component", "api", "--version", "v1", "--evidence", filepath.Join(d.dir, "none"))},
		{2, args("record", "deploy", "--component", "api", "--version", "v1", "--evidence", d.dir)},
		{2, args("record", "decision", "--title", "x", "--body", d.file("b", "x"), "--status", "maybe")},
		{2, args("record", "incident", "--title", "x", "--severity", "fatal")},
	} {
		d.want(c.code, c.args)
	}
	if len(d.node.entries) != 0 {
		t.Errorf("%d events were recorded", len(d.node.entries))
	}
	for status, code := range map[int]int{400: 2, 401: 7, 403: 7, 404: 3, 409: 5, 413: 1, 422: 2, 429: 8, 500: 1, 503: 8} {
		d.node.fail = status
		d.want(code, args("record", "deploy", "--component", "api", "--version", "v1"), "told to fail", "mend: do better")
	}
	d.node.fail = 0
	d.node.unsealed = true
	d.want(8, args("record", "deploy", "--component", "api", "--version", "v1", "--wait", "300ms"), "was recorded, but was not sealed", "remembrancer receipt")
	d.base = "http://127.0.0.1:1"
	d.want(8, args("record", "deploy", "--component", "api", "--version", "v1"))
}

func TestIdempotencyKey(t *testing.T) {
	d := newDesk(t)
	for range 3 {
		d.want(0, args("record", "deploy", "--component", "api", "--version", "v1", "--idempotency-key", "run-7"), "index       0")
	}
	if len(d.node.entries) != 1 {
		t.Errorf("%d events", len(d.node.entries))
	}
}

// TestForgedReceipts: each lie of a node is found, whatever it says of itself.
func TestForgedReceipts(t *testing.T) {
	for name, lie := range map[string]func(m map[string]any){
		"other event": func(m map[string]any) {
			m["event"] = json.RawMessage(strings.Replace(string(m["event"].(json.RawMessage)), "api", "apx", 1))
		},
		"other index":      func(m map[string]any) { m["index"] = 5 },
		"other root":       func(m map[string]any) { m["root"] = strings.Repeat("0", 64) },
		"other size":       func(m map[string]any) { m["size"] = 7 },
		"other leaf":       func(m map[string]any) { m["leaf_hash"] = strings.Repeat("0", 64) },
		"other origin":     func(m map[string]any) { m["origin"] = "evil.example/log" },
		"no proof":         func(m map[string]any) { m["proof"] = "" },
		"other source":     func(m map[string]any) { m["source"] = "/mallory" },
		"broken note":      func(m map[string]any) { m["checkpoint"] = strings.Replace(m["checkpoint"].(string), "1", "2", 1) },
		"bad consistency":  func(m map[string]any) { m["latest"].(map[string]any)["consistency"] = []string{proofHash('x')} },
		"unsigned newest":  func(m map[string]any) { m["latest"].(map[string]any)["checkpoint"] = "x\n1\n" + proofHash('y') + "\n" },
		"malformed hashes": func(m map[string]any) { m["latest"].(map[string]any)["consistency"] = []string{"..."} },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.node.lie = func(path string, b []byte) []byte {
				if !strings.HasPrefix(path, "/v1/receipts/") {
					return b
				}
				e, i := d.node.find(strings.TrimPrefix(path, "/v1/receipts/"))
				m := d.node.receiptOf(e, i, d.node.newest())
				lie(m)
				out, err := json.Marshal(m)
				must(t, err)
				return out
			}
			d.want(4, args("record", "deploy", "--component", "api", "--version", "v1"), "receipt of")
		})
	}
}

func proofHash(c byte) string { return strings.Repeat(string(c), 42) + "A=" }

func TestSign(t *testing.T) {
	d := newDesk(t)
	file := d.file("report.md", "the report\n")
	d.want(0, args("sign", file), "inclusion verified", d.node.operator.Fingerprint())
	first, err := os.ReadFile(file + ".asc")
	must(t, err)
	d.want(0, args("sign", file), "holds a good signature of this key already")
	if len(d.node.entries) != 1 {
		t.Errorf("a repeat recorded %d events", len(d.node.entries))
	}
	must(t, os.WriteFile(file+".asc", []byte("something else"), 0o644))
	d.want(5, args("sign", file), "--force")
	d.want(0, args("sign", file, "--force"))
	d.want(0, args("sign", file, "--out", filepath.Join(d.dir, "other.asc")))
	if len(first) == 0 {
		t.Error("no signature")
	}
	must(t, os.Chmod(filepath.Join(d.data, "keys", "operator.key"), 0o644))
	d.want(7, args("sign", file, "--force"), "chmod 600")
	d.want(3, args("sign", filepath.Join(d.dir, "none")))
}

func TestTimestamp(t *testing.T) {
	d := newDesk(t)
	file := d.file("report.md", "the report\n")
	d.want(0, args("timestamp", file), "inclusion verified", "development TSA")
	d.want(0, args("timestamp", file), "holds a good token over this file already")
	if len(d.node.entries) != 1 {
		t.Errorf("a repeat recorded %d events", len(d.node.entries))
	}
	must(t, os.WriteFile(file+".tsr", []byte("something else"), 0o644))
	d.want(5, args("timestamp", file))

	// Through a URL, with the root named and not named, and from another TSA.
	other := newFake(t)
	url := other.server().URL + "/v1/timestamp"
	ca := d.file("ca.pem", string(other.tsa.RootPEM()))
	out := filepath.Join(d.dir, "direct.tsr")
	d.want(4, args("timestamp", file, "--tsa", url, "--out", out), "--tsa-ca")
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Error("a refused token was written")
	}
	d.want(0, args("timestamp", file, "--tsa", url, "--tsa-ca", ca, "--out", out))
	d.want(2, args("timestamp", file, "--tsa", "ftp://x", "--out", out+"2"))
	d.want(8, args("timestamp", file, "--tsa", "http://127.0.0.1:1", "--out", out+"2"))

	// An answer for another file, and no answer at all.
	d.node.lie = func(path string, b []byte) []byte {
		if path == "/v1/timestamp" {
			return b[:len(b)-1]
		}
		return b
	}
	d.want(4, args("timestamp", file, "--out", out+"3"))
}
