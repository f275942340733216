package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// entry is one tar header with its content, however hostile.
type entry struct {
	h    tar.Header
	body []byte
}

func file(name string, body []byte) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body}
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	must(t, err)
	tw := tar.NewWriter(zw)
	for _, e := range entries {
		if e.h.Size == 0 {
			e.h.Size = int64(len(e.body))
		}
		must(t, tw.WriteHeader(&e.h))
		_, err := tw.Write(e.body)
		must(t, err)
	}
	must(t, tw.Close())
	must(t, zw.Close())
	return buf.Bytes()
}

func entriesOf(files map[string][]byte) []entry {
	var out []entry
	for _, path := range sortedPaths(files) {
		out = append(out, file(path, files[path]))
	}
	return out
}

func TestWriteIsDeterministicAndReadable(t *testing.T) {
	c := newWorld(t, "a").standard()
	one, two := write(t, c), write(t, c)
	if !bytes.Equal(one, two) {
		t.Error("the same contents give other bytes")
	}
	b := read(t, one)
	if b.Manifest.Format != Format || b.Manifest.Created != c.Created || len(b.Manifest.Files) != 14 || b.Manifest.Log.Size != 25 {
		t.Errorf("%+v", b.Manifest)
	}
	c.Created = c.Created.In(time.FixedZone("x", 3600))
	if !bytes.Equal(one, write(t, c)) {
		t.Error("the writer's time zone shows")
	}
	// GNU tar's padding to 10 KiB and another packer's order are no fault.
	files, err := c.files()
	must(t, err)
	read(t, pack(t, entriesOf(files)...))
}

func TestReadRefusals(t *testing.T) {
	files, err := newWorld(t, "a").standard().files()
	must(t, err)
	entries := entriesOf(files)
	good := pack(t, entries...)
	with := func(extra ...entry) []byte { return pack(t, append(append([]entry(nil), entries...), extra...)...) }
	special := func(kind byte, name, link string) entry {
		return entry{tar.Header{Typeflag: kind, Name: name, Linkname: link}, nil}
	}
	without := func(path string) []byte {
		var left []entry
		for _, e := range entries {
			if e.h.Name != path {
				left = append(left, e)
			}
		}
		return pack(t, left...)
	}
	swap := func(path string, body []byte) []byte {
		changed := append([]entry(nil), entries...)
		for i := range changed {
			if changed[i].h.Name == path {
				changed[i] = file(path, body)
			}
		}
		return pack(t, changed...)
	}
	manifest := func(old, new string) []byte {
		s := string(files[manifestPath])
		if !strings.Contains(s, old) {
			t.Fatalf("%q does not stand in the manifest", old)
		}
		return swap(manifestPath, []byte(strings.Replace(s, old, new, 1)))
	}
	zeros := make([]byte, 8<<20)
	for _, x := range []struct {
		name    string
		archive []byte
		limits  Limits
		entry   string
		rule    string
	}{
		{"empty", nil, Limits{}, "", "not a gzip archive"},
		{"no gzip", []byte("PK\x03\x04 something else"), Limits{}, "", "not a gzip archive"},
		{"no tar", gz(t, []byte(strings.Repeat("x", 1024))), Limits{}, "", "not a tar archive"},
		{"nothing inside", pack(t), Limits{}, manifestPath, "not there"},
		{"cut", good[:len(good)-20], Limits{}, "", "archive"},
		{"bytes after", append(bytes.Clone(good), 'x'), Limits{}, "", "bytes after the archive"},
		{"second gzip member", append(bytes.Clone(good), gz(t, nil)...), Limits{}, "", "bytes after the archive"},
		{"tar after tar", gz(t, append(gunzip(t, good), gunzip(t, good)...)), Limits{}, "", "after the end of the tar"},
		{"gzip header with a name", named(t, gunzip(t, good)), Limits{}, "", "gzip header"},
		{"parent folder", with(file("../x.asc", nil)), Limits{}, "../x.asc", "no such file"},
		{"inner parent", with(file("keys/../../x.asc", nil)), Limits{}, "keys/../../x.asc", "no such file"},
		{"absolute", with(file("/etc/passwd", nil)), Limits{}, "/etc/passwd", "no such file"},
		{"dot", with(file("./manifest.json", nil)), Limits{}, "./manifest.json", "no such file"},
		{"backslash", with(file(`..\x.asc`, nil)), Limits{}, `..\x.asc`, "no such file"},
		{"drive", with(file("c:/x.asc", nil)), Limits{}, "c:/x.asc", "no such file"},
		{"script", with(file("verify.sh", nil)), Limits{}, "verify.sh", "no such file"},
		{"padded index", with(file("events/021.json", nil)), Limits{}, "events/021.json", "no such file"},
		{"line end in name", with(file("a\nb.asc", nil)), Limits{}, "a\nb.asc", "no such file"},
		{"symbolic link", with(special(tar.TypeSymlink, "keys/signer.asc", "/etc/passwd")), Limits{}, "keys/signer.asc", "regular files"},
		{"hard link", with(special(tar.TypeLink, "keys/signer.asc", "keys/node.asc")), Limits{}, "keys/signer.asc", "regular files"},
		{"device", with(special(tar.TypeChar, "keys/signer.asc", "")), Limits{}, "keys/signer.asc", "regular files"},
		{"pipe", with(special(tar.TypeFifo, "keys/signer.asc", "")), Limits{}, "keys/signer.asc", "regular files"},
		{"folder", with(special(tar.TypeDir, "keys/", "")), Limits{}, "keys/", "regular files"},
		{"folder as file", with(special(tar.TypeDir, "keys/signer.asc", "")), Limits{}, "keys/signer.asc", "regular files"},
		{"extended attribute", with(entry{tar.Header{Typeflag: tar.TypeReg, Name: signerKeyPath, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}, nil}), Limits{}, signerKeyPath, "extended header"},
		{"twice", with(file(checkpointPath, files[checkpointPath])), Limits{}, checkpointPath, "twice"},
		{"twice but for case", with(file("App.tar.asc", []byte("x"))), Limits{}, "App.tar.asc", "twice"},
		{"unlisted key", with(file(signerKeyPath, []byte("x"))), Limits{}, signerKeyPath, "does not list"},
		{"unlisted event", with(file("events/7.json", []byte("x"))), Limits{}, "events/7.json", "does not list"},
		{"other artifact's signature", with(file("other.asc", []byte("x"))), Limits{}, "other.asc", "does not list"},
		{"missing key", without(nodeKeyPath), Limits{}, nodeKeyPath, "does not hold"},
		{"missing event", without("events/21.json"), Limits{}, "events/21.json", "does not hold"},
		{"missing manifest", without(manifestPath), Limits{}, manifestPath, "not there"},
		{"changed file", swap("events/21.json", []byte("{}")), Limits{}, "events/21.json", "differs"},
		{"long manifest", swap(manifestPath, zeros[:maxManifest+1]), Limits{}, manifestPath, "the most is"},
		{"long signature", with(file("x.asc", zeros[:1<<20])), Limits{}, "x.asc", "the most is"},
		{"bomb in a file", with(file(signerKeyPath, zeros)), Limits{}, signerKeyPath, "the most is"},
		{"bomb in two", pack(t, file(operatorKeyPath, zeros[:1<<20]), file(nodeKeyPath, zeros[:1<<20])), Limits{}, "", "out of proportion"},
		{"bomb behind the end", gz(t, append(gunzip(t, good), zeros...)), Limits{}, "", ""},
		{"many files", pack(t, many(300)...), Limits{}, "", "over 256 files"},
		{"few bytes allowed", good, Limits{Compressed: 1000}, "", "size limit"},
		{"few content allowed", good, Limits{Total: 4000}, "", "together"},
		{"few files allowed", good, Limits{Entries: 3}, "", "over 3 files"},
		{"manifest not JSON", swap(manifestPath, []byte("{")), Limits{}, manifestPath, "not JSON"},
		{"no bundle", manifest("proof-bundle/v1", "something"), Limits{}, manifestPath, "no proof bundle"},
		{"space in manifest", manifest(`{"`, `{ "`), Limits{}, manifestPath, "canonical"},
		{"duplicate member", manifest(`"format":`, `"format":"x","format":`), Limits{}, manifestPath, "canonical"},
		{"unknown member", manifest(`"files":`, `"extra":1,"files":`), Limits{}, manifestPath, "extra"},
		{"null member", manifest(`"size":17}`, `"size":null}`), Limits{}, manifestPath, "form"},
		{"missing member", manifest(`"size":17}`, `"tize":17}`), Limits{}, manifestPath, ""},
		{"path as name", manifest(`"name":"app.tar"`, `"name":"../app.tar"`), Limits{}, manifestPath, "is a path"},
		{"another name", manifest(`"name":"app.tar"`, `"name":"xpp.tar"`), Limits{}, manifestPath, "no part"},
		{"upper-case digest", manifest(`"sha256":"3`, `"sha256":"A`), Limits{}, manifestPath, "SHA-256"},
		{"negative size", manifest(`"size":17}`, `"size":-1}`), Limits{}, manifestPath, "SHA-256"},
		{"other zone", manifest(`:00Z"`, `:00+00:00"`), Limits{}, manifestPath, "form"},
		{"fraction", manifest(`:00Z"`, `:00.5Z"`), Limits{}, manifestPath, "whole seconds"},
		{"another origin", manifest(`"origin":"ledger`, `"origin":"xedger`), Limits{}, manifestPath, "belong together"},
		{"another log size", manifest(`"size":25`, `"size":26`), Limits{}, checkpointPath, "differs"},
		{"index past the log", manifest(`"size":25`, `"size":22`), Limits{}, manifestPath, "event 1"},
		{"another index", manifest(`"index":21`, `"index":20`), Limits{}, manifestPath, "event 0"},
		{"listed out of order", manifest(`"path":"app.tar.asc"`, `"path":"checkpoint.asc"`), Limits{}, manifestPath, ""},
		{"listed itself", manifest(`"path":"app.tar.asc"`, `"path":"manifest.json"`), Limits{}, manifestPath, "no part"},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(x.archive), x.limits)
			var ee *EntryError
			if !errors.As(err, &ee) || !errors.Is(err, ErrRefused) {
				t.Fatalf("%v, want an *EntryError", err)
			}
			if x.entry != "" && ee.Entry != x.entry || !strings.Contains(ee.Rule, x.rule) {
				t.Errorf("%v; want entry %q, rule %q", err, x.entry, x.rule)
			}
		})
	}
	if _, err := Read(bytes.NewReader(manifest("proof-bundle/v1", "proof-bundle/v2")), Limits{}); !errors.Is(err, ErrVersion) || errors.Is(err, ErrRefused) {
		t.Errorf("later version: %v", err)
	}
	if _, err := Read(io.MultiReader(bytes.NewReader(good[:1000]), broken{}), Limits{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reader's own error: %v", err)
	}
	if _, err := Read(bytes.NewReader(good), Limits{Compressed: int64(len(good))}); err != nil {
		t.Errorf("exactly at the limit: %v", err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, os.ErrClosed }

func many(n int) []entry {
	var out []entry
	for i := range n {
		out = append(out, file(fmt.Sprintf("events/%d.json", i), nil))
	}
	return out
}

func gz(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	must(t, err)
	_, err = zw.Write(b)
	must(t, err)
	must(t, zw.Close())
	return buf.Bytes()
}

func named(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	zw.Name = "../../evil"
	_, err := zw.Write(b)
	must(t, err)
	must(t, zw.Close())
	return buf.Bytes()
}

func gunzip(t testing.TB, b []byte) []byte {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(b))
	must(t, err)
	out, err := io.ReadAll(zr)
	must(t, err)
	return out
}

// Fault row 14: 64 MiB at most, whatever comes in.
func TestReadMemoryIsBounded(t *testing.T) {
	zeros := make([]byte, 80<<20)
	random := make([]byte, 60000)
	_, err := io.ReadFull(&stream{seed: "r"}, random)
	must(t, err)
	var largest []entry
	for i := range 300 {
		largest = append(largest, file(fmt.Sprintf("events/%d.json", i), random))
	}
	for name, archive := range map[string][]byte{
		"one file":        pack(t, file(operatorKeyPath, zeros)),
		"after the end":   gz(t, append(gunzip(t, pack(t)), zeros...)),
		"no tar":          gz(t, zeros),
		"as many as fit":  pack(t, largest...),
		"16 MiB of noise": bytes.Repeat(random, 400),
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		_, err := Read(bytes.NewReader(archive), Limits{})
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
			t.Errorf("%s: %d MiB allocated", name, n>>20)
		}
	}
}

func TestWriteRefusals(t *testing.T) {
	w := newWorld(t, "a")
	good := w.standard()
	for name, change := range map[string]func(*Contents){
		"no checkpoint":       func(c *Contents) { c.Checkpoint = nil },
		"another log's key":   func(c *Contents) { c.LogVKey = newWorld(t, "b").vkey },
		"cosigned checkpoint": func(c *Contents) { c.Checkpoint, _ = proof.Cosign(c.Checkpoint, "w", witness(), start) },
		"no events":           func(c *Contents) { c.Events = nil },
		"event twice":         func(c *Contents) { c.Events = append(c.Events, c.Events[1]) },
		"events descending":   func(c *Contents) { c.Events = []Event{c.Events[1], c.Events[0]} },
		"no body":             func(c *Contents) { c.Events[0].Body = nil },
		"no proof":            func(c *Contents) { c.Events[0].Proof = nil },
		"another leaf":        func(c *Contents) { c.Events[0].Index++ },
		"proof of another":    func(c *Contents) { c.Events[0].Proof = c.Events[1].Proof },
		"proof with extra": func(c *Contents) {
			p, _ := proof.ParseTLogProof(c.Events[0].Proof)
			p.Extra = []byte("x")
			c.Events[0].Proof = p.Marshal()
		},
		"path cut": func(c *Contents) {
			p, _ := proof.ParseTLogProof(c.Events[0].Proof)
			p.Hashes = p.Hashes[1:]
			c.Events[0].Proof = p.Marshal()
		},
		"other checkpoint":   func(c *Contents) { c.Events[0].Proof = olderProof(w) },
		"name is a path":     func(c *Contents) { c.Artifact.Name = "a/b" },
		"name is empty":      func(c *Contents) { c.Artifact.Name = "" },
		"name is parent":     func(c *Contents) { c.Artifact.Name = ".." },
		"name is long":       func(c *Contents) { c.Artifact.Name = strings.Repeat("x", maxArtifactName+1) },
		"name with escape":   func(c *Contents) { c.Artifact.Name = "a\x1b[2J" },
		"name with bidi":     func(c *Contents) { c.Artifact.Name = "a\u202egnp.exe" },
		"name not UTF-8":     func(c *Contents) { c.Artifact.Name = "a\xff" },
		"digest":             func(c *Contents) { c.Artifact.SHA256 = "x" },
		"key is junk":        func(c *Contents) { c.OperatorKey = []byte("x") },
		"token is junk":      func(c *Contents) { c.Token = []byte("x") },
		"long signature":     func(c *Contents) { c.Signature = make([]byte, 65<<10) },
		"line end in vkey":   func(c *Contents) { c.LogVKey += "\n" },
		"no artifact at all": func(c *Contents) { c.Artifact = Artifact{} },
	} {
		c := good
		c.Events = append([]Event(nil), good.Events...)
		change(&c)
		var buf bytes.Buffer
		if err := Write(&buf, c); err == nil || buf.Len() > 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, buf.Len())
		}
	}
	if err := Write(full{}, good); !errors.Is(err, os.ErrClosed) {
		t.Errorf("writer's own error: %v", err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, os.ErrClosed }

// olderProof proves leaf 21 below an earlier head of the same log.
func olderProof(w *world) []byte {
	short := *w
	short.entries = w.entries[:22]
	return short.contents(w.operator, 21).Events[0].Proof
}

// An artifact may be called like one of the bundle's own files.
func TestArtifactNames(t *testing.T) {
	for _, name := range []string{"checkpoint", "Checkpoint", "manifest.json", "VERIFY.md", "it's `here` $HOME", "-rf", "ünï cöde", "a\"b", strings.Repeat("x", maxArtifactName)} {
		c := newWorld(t, "a").standard()
		c.Artifact.Name = name
		if r := verify(t, c, given(), Trust{}); !r.Verified || r.File != name {
			t.Errorf("%q: %v", name, r.Err())
		}
	}
}
