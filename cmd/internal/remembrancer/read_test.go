package remembrancer

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vaultmesh.cloud/vaultmesh/events"
)

func TestVerifyAudit(t *testing.T) {
	d := newDesk(t)
	d.want(0, args("record", "deploy", "--component", "api", "--version", "v1"))
	d.want(0, args("verify-audit"), "Computed Merkle root matches published root", "Audit log integrity verified", "heads  1")
	d.want(0, args("verify-audit", "-o", "json"), `"ok": true`)
	d.node.audit = []string{`{"result":{"ok":false,"size":9,"root":"","heads":1,"index":7,"what":"the entry's hash is not the leaf"}}`}
	d.want(4, args("verify-audit"), "index 7: the entry's hash is not the leaf")
	d.node.audit = []string{fmt.Sprintf(`{"result":{"ok":true,"size":1,"root":"%064x","heads":1}}`, 1)}
	d.want(4, args("verify-audit"), "is not the published root")
	for name, lines := range map[string][]string{
		"no result": {`{"phase":"store","done":1,"total":2}`},
		"not JSON":  {"<html>"},
		"two":       {`{"phase":"a"}{"phase":"b"}`},
		"endless":   {strings.Repeat("x", 200<<10)},
	} {
		d.node.audit = lines
		if code, out, _ := d.run("verify-audit"); code == 0 || strings.Contains(out, "verified") {
			t.Errorf("%s: exit code %d, %s", name, code, out)
		}
	}
	d.node.audit, d.node.fail = nil, 403
	d.want(7, args("verify-audit"))
}

func TestReceipt(t *testing.T) {
	d := newDesk(t)
	d.node.unstamped = true
	e, _ := d.node.add("deploy.recorded", "api", map[string]any{"component": "api", "version": "v1"}, "")
	d.want(0, args("receipt", string(e.ID)), "verified", "not yet")
	d.want(8, args("receipt", string(e.ID), "--stamped", "--wait", "300ms"))
	d.node.unstamped = false
	d.node.add("deploy.recorded", "api", map[string]any{"component": "api", "version": "v2"}, "")
	d.want(0, args("receipt", string(e.ID), "--stamped"), "2 entries", "development TSA")
	out := d.want(0, args("receipt", string(e.ID), "-o", "json"))
	var r receipt
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.EventID != e.ID {
		t.Errorf("%v in %s", err, out)
	}
	d.want(3, args("receipt", "none"))
	d.want(2, args("receipt"))
}

func TestReceiptExport(t *testing.T) {
	d := newDesk(t)
	d.node.add("deploy.recorded", "api", map[string]any{"component": "../../etc/passwd\x00", "version": "v1"}, "")
	d.node.add("decision.recorded", "adr", map[string]any{"number": 7, "title": "Use NATS", "status": "accepted"}, "")
	d.node.add("artifact.signed", "app.tar", map[string]any{"name": "app.tar"}, "")
	d.node.add("federation.joined", "peer", map[string]any{}, "")
	d.node.add("slo.measured", "router", map[string]any{}, "")
	d.node.unstamped = true
	d.node.add("incident.reported", "incident", map[string]any{"title": "."}, "")
	dir := filepath.Join(d.dir, "receipts")
	d.want(0, args("receipt", "export", "--dir", dir), "written    5", "pending    0")
	var names []string
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	}))
	want := "adr/0007-Use_NATS-1.json artifact/app.tar-signed-2.json deploy/_._.._etc_passwd_-v1-0.json federation/peer-3.json incident/_-5.json"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("files\n%s, want\n%s", got, want)
	}
	first, err := os.ReadFile(filepath.Join(dir, "incident/_-5.json"))
	must(t, err)
	d.want(0, args("receipt", "export", "--dir", dir), "written    0", "unchanged  5")
	d.node.unstamped = false
	d.node.add("slo.measured", "router", map[string]any{}, "")
	d.want(0, args("receipt", "export", "--dir", dir), "written    1")
	d.node.add("slo.measured", "router", map[string]any{}, "")
	d.want(0, args("receipt", "export", "--dir", dir), "written    0")
	last, err := os.ReadFile(filepath.Join(dir, "incident/_-5.json"))
	must(t, err)
	if string(first) == string(last) {
		t.Error("the receipt did not get its stamp")
	}
	d.node.unsealed = true
	d.node.add("deploy.recorded", "api", map[string]any{"component": "api", "version": "v1"}, "")
	d.want(0, args("receipt", "export", "--dir", dir), "pending    1", "run this again")
}

func TestPublishRoot(t *testing.T) {
	d := newDesk(t)
	d.node.add("deploy.recorded", "api", map[string]any{"component": "api", "version": "v1"}, "")
	file := filepath.Join(d.dir, "REMEMBRANCER.md")
	d.want(0, args("publish-root", file), "(written)")
	root := d.node.heads[1].root
	first, err := os.ReadFile(file)
	must(t, err)
	if !strings.Contains(string(first), fmt.Sprintf("%x", root[:])) || !strings.HasPrefix(string(first), rootBegin) {
		t.Errorf("document:\n%s", first)
	}
	d.want(0, args("publish-root", file), "(unchanged)")

	text := "# Log\n\nbefore\n" + string(first) + "after\n"
	must(t, os.WriteFile(file, []byte(text), 0o600))
	must(t, os.Chmod(file, 0o600))
	d.node.add("deploy.recorded", "api", map[string]any{"component": "api", "version": "v2"}, "")
	d.want(0, args("publish-root", file), "(written)")
	b, err := os.ReadFile(file)
	must(t, err)
	info, err := os.Stat(file)
	must(t, err)
	if s := string(b); !strings.HasPrefix(s, "# Log\n\nbefore\n"+rootBegin) || !strings.HasSuffix(s, rootEnd+"\nafter\n") || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, document:\n%s", info.Mode(), s)
	}
	d.want(0, args("publish-root", file), "(unchanged)")

	plain := d.file("plain.md", "# Plain\n")
	d.want(0, args("publish-root", plain))
	if b, _ := os.ReadFile(plain); !strings.HasPrefix(string(b), "# Plain\n\n"+rootBegin) {
		t.Errorf("document:\n%s", b)
	}
	for name, content := range map[string]string{"half": rootBegin, "wrong order": rootEnd + rootBegin, "twice": string(first) + string(first)} {
		d.want(5, args("publish-root", d.file("bad.md", content)), "repair the markers")
		if b, _ := os.ReadFile(filepath.Join(d.dir, "bad.md")); string(b) != content {
			t.Errorf("%s: the file was changed", name)
		}
	}
	link := filepath.Join(d.dir, "link.md")
	must(t, os.Symlink(plain, link))
	d.want(5, args("publish-root", link), "not a regular file")
	d.want(5, args("publish-root", d.dir))
}

func TestListAndTimeline(t *testing.T) {
	d := newDesk(t)
	for i := range 30 {
		d.node.add("deploy.recorded", "api", map[string]any{"component": "api", "version": fmt.Sprint(i)}, "")
	}
	d.node.add("decision.recorded", "adr", map[string]any{"number": 1, "title": "x"}, "")
	out := d.want(0, args("list", "decisions"))
	if strings.Count(out, "\n") != 2 {
		t.Errorf("list over empty pages:\n%s", out)
	}
	out = d.want(0, args("list", "all", "-o", "json"))
	var items []item
	if err := json.Unmarshal([]byte(out), &items); err != nil || len(items) != 31 {
		t.Errorf("%d items, %v", len(items), err)
	}
	d.want(0, args("list", "all", "--limit", "3"), "only the first 3")
	if out := d.want(0, args("list", "artifacts", "-o", "json")); out != "[]\n" {
		t.Errorf("an empty list is %q", out)
	}
	d.want(2, args("list", "everything"))
	d.want(2, args("list", "--since", "yesterday"), "write 2025-10-01")
	out = d.want(0, args("timeline"))
	day := d.node.now.Format("2006-01-02")
	if !strings.HasPrefix(out, day+"\n") || strings.Count(out, "\n\n") == 0 {
		t.Errorf("timeline:\n%s", out)
	}
	out = d.want(0, args("timeline", "--until", day, "-o", "json"))
	must(t, json.Unmarshal([]byte(out), &items))
	for _, it := range items {
		if it.Time.Format("2006-01-02") != day {
			t.Errorf("--until %s shows %v", day, it.Time)
		}
	}
	d.want(0, args("timeline", "--since", d.node.now.AddDate(0, 0, 9).Format("2006-01-02")))
}

func TestHostileAnswers(t *testing.T) {
	d := newDesk(t)
	evil := "\x1b]0;owned\x07\u202e"
	d.node.lie = func(path string, b []byte) []byte {
		if !strings.HasPrefix(path, "/v1/list") {
			return b
		}
		out, err := json.Marshal(map[string]any{"items": []item{{ID: events.ID(evil), Kind: evil, Title: evil, Subject: evil, Source: events.Source(evil), Type: "x"}}})
		must(t, err)
		return out
	}
	for _, a := range [][]string{{"list"}, {"timeline"}, {"adr", "list"}, {"list", "-o", "json"}, {"list", "-o", "yaml"}} {
		if out := d.want(0, a); strings.ContainsAny(out, "\x1b\x07\u202e") {
			t.Errorf("%v prints %q", a, out)
		}
	}
	for name, answer := range map[string]string{
		"not JSON": "<html>", "two values": "{}{}", "wrong type": `{"items":7}`, "stuck": `{"items":[{"index":1}],"next":5}`,
		"too large": strings.Repeat(" ", maxAnswer+1),
	} {
		d.node.lie = func(string, []byte) []byte { return []byte(answer) }
		if code, _, _ := d.run("list"); code == 0 || code == 2 {
			t.Errorf("%s: exit code %d", name, code)
		}
	}
}

func TestCheckpoint(t *testing.T) {
	d := newDesk(t)
	d.node.add("deploy.recorded", "api", map[string]any{"component": "api", "version": "v1"}, "")
	if out := d.want(0, args("checkpoint")); out != string(d.node.heads[1].note) {
		t.Errorf("not the note itself: %q", out)
	}
	if out := d.want(0, args("checkpoint", "--verifier-key")); out != d.node.vkey+"\n" {
		t.Errorf("not the key itself: %q", out)
	}
	d.want(0, args("checkpoint", "-o", "json"), `"origin": "ledger.example/log"`)
	d.node.lie = func(path string, b []byte) []byte {
		return []byte(strings.Replace(string(b), "ledger.example/log\n1\n", "ledger.example/log\n2\n", 1))
	}
	d.want(4, args("checkpoint"))
}

func TestFiles(t *testing.T) {
	for in, want := range map[string]string{"../../x": "_._.._x", "": "_", ".hidden": "_hidden", "a b/c": "a_b_c", "日本": "______"} {
		if safeName(in) != want {
			t.Errorf("safeName(%q) = %q, want %q", in, safeName(in), want)
		}
		if got := safeName(in); strings.ContainsAny(got, "/\\\x00") || strings.HasPrefix(got, ".") || len(safeName(strings.Repeat("x", 999))) != 100 {
			t.Errorf("safeName(%q) = %q", in, got)
		}
	}
	for _, origin := range []string{"a/b", "..", "a/../../b", strings.Repeat("x/", 120)} {
		if got := clientFile(origin); strings.Contains(got, "/") || len(got) > 255 {
			t.Errorf("clientFile(%q) = %q", origin, got)
		}
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	must(t, writeFile(name, []byte("a"), 0o644, false))
	must(t, writeFile(name, []byte("a"), 0o644, false))
	if writeFile(name, []byte("b"), 0o644, false) == nil {
		t.Error("another content replaced")
	}
	must(t, writeFile(name, []byte("b"), 0o600, true))
	if left, _ := filepath.Glob(filepath.Join(dir, ".f*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
