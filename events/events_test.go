package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func sampleEvent() *Event {
	return &Event{
		ID: "0193a5c2-7d1e-7b9a-9c1f-3f1f5b7f8c2d", Source: "/ci/github", Type: "cloud.vaultmesh.deploy.recorded.v1",
		Subject: "api", Time: time.Date(2026, 11, 23, 3, 19, 0, 120_000_000, time.UTC),
		Data: json.RawMessage(`{"version": "v1", "component":"api"}`),
	}
}

func TestCanonicalRoundTrip(t *testing.T) {
	e := sampleEvent()
	e.TraceParent, e.Cause = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "cause"
	b, err := e.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"data":{"component":"api","version":"v1"},"datacontenttype":"application/json","id":"0193a5c2-7d1e-7b9a-9c1f-3f1f5b7f8c2d","source":"/ci/github","specversion":"1.0","subject":"api","time":"2026-11-23T03:19:00.12Z","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","type":"cloud.vaultmesh.deploy.recorded.v1","vmcause":"cause"}`
	if string(b) != want {
		t.Fatalf("got  %s\nwant %s", b, want)
	}
	got, again, err := Accept("vm.deploy.api.ci", b)
	if err != nil {
		t.Fatal(err)
	}
	if &again[0] != &b[0] {
		t.Error("canonical bytes were copied")
	}
	e.Data = json.RawMessage(`{"component":"api","version":"v1"}`)
	if fmt.Sprint(got) != fmt.Sprint(*e) {
		t.Errorf("got %+v, want %+v", got, *e)
	}
}

func TestAcceptRefuses(t *testing.T) {
	good, err := sampleEvent().Canonical()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) string {
		s := strings.Replace(string(good), old, new, 1)
		if s == string(good) {
			t.Fatalf("%q is not in the sample", old)
		}
		return s
	}
	const subject = "vm.deploy.api.ci"
	for _, c := range []struct {
		name, subject, body string
		want                Reason
	}{
		{"raw too large", subject, strings.Repeat(" ", MaxRaw+1), TooLarge},
		{"canonical too large", subject, edit(`"v1"`, `"`+strings.Repeat("x", MaxSize)+`"`), TooLarge},
		{"not JSON", subject, "\x00", BadJSON},
		{"duplicate name", subject, edit(`"id"`, `"id":"x","id"`), BadJSON},
		{"not an object", subject, `[1]`, BadEnvelope},
		{"specversion", subject, edit(`"1.0"`, `"0.3"`), BadEnvelope},
		{"no id", subject, edit(`"id":"0193a5c2-7d1e-7b9a-9c1f-3f1f5b7f8c2d",`, ``), BadEnvelope},
		{"id not a string", subject, edit(`"0193a5c2-7d1e-7b9a-9c1f-3f1f5b7f8c2d"`, `7`), BadEnvelope},
		{"id with a space", subject, edit(`0193a5c2-`, `0193a5c2 `), BadEnvelope},
		{"id too long", subject, edit(`0193a5c2-`, strings.Repeat("a", 129)), BadEnvelope},
		{"foreign type", subject, edit(`cloud.vaultmesh.deploy.recorded.v1`, `com.example.deploy.v1`), BadEnvelope},
		{"type without version", subject, edit(`recorded.v1`, `recorded`), BadEnvelope},
		{"type version 0", subject, edit(`recorded.v1`, `recorded.v0`), BadEnvelope},
		{"type with wildcard", subject, edit(`.deploy.`, `.*.`), BadEnvelope},
		{"source not absolute", subject, edit(`"/ci/github"`, `"ci"`), BadEnvelope},
		{"time", subject, edit(`2026-11-23T`, `2026-13-23T`), BadEnvelope},
		{"content type", subject, edit(`application/json`, `text/plain`), BadEnvelope},
		{"extension object", subject, edit(`"id"`, `"ext":{},"id"`), BadEnvelope},
		{"extension name", subject, edit(`"id"`, `"Ext":"x","id"`), BadEnvelope},
		{"binary data", subject, edit(`"datacontenttype"`, `"data_base64":"AA==","datacontenttype"`), BadEnvelope},
		{"empty subject", subject, edit(`"subject":"api"`, `"subject":""`), BadEnvelope},
		{"commitment", subject, edit(`"type"`, `"vmprivate":"sha256:00","type"`), BadEnvelope},
		{"other entity", "vm.deploy.web.ci", string(good), WrongSubject},
		{"other producer", "vm.deploy.api.mallory", string(good), WrongSubject},
		{"other domain", "vm.artifact.api.ci", string(good), WrongSubject},
		{"housekeeping by another", "vm.ledger.api.ci", edit(`.deploy.recorded.`, `.ledger.stamped.`), NotAllowed},
		{"treaty by another", "vm.treaty.api.ci", edit(`.deploy.recorded.`, `.treaty.applied.`), NotAllowed},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, b, err := Accept(c.subject, []byte(c.body))
			var r *Refusal
			if !errors.As(err, &r) || r.Reason != c.want || b != nil {
				t.Fatalf("got %v, want %s", err, c.want)
			}
		})
	}
	for name, body := range map[string]string{
		"extensions":     edit(`"id"`, `"flag":true,"id"`),
		"fraction":       edit(`"v1"`, `1.5`),
		"no time":        edit(`"time":"2026-11-23T03:19:00.12Z",`, ``),
		"spaces":         edit(`,"id"`, ` , "id"`),
		"escaped source": edit(`/ci/github`, `/c\u0069/github`),
	} {
		if _, _, err := Accept(subject, []byte(body)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestToken(t *testing.T) {
	for name, want := range map[string]string{
		"api": "api", "a.b": "a=2Eb", "*": "=2A", ">": "=3E", "a b": "a=20b", "é": "=C3=A9", "=": "=3D", "A_1-z": "A_1-z",
	} {
		if got := Token(name); got != want {
			t.Errorf("Token(%q) = %q, want %q", name, got, want)
		}
	}
	for _, bad := range []string{"", "a.b", "=2", "=2e", "=61", "=", "a=4"} {
		if got, err := ParseToken(bad); err == nil {
			t.Errorf("ParseToken(%q) = %q, want an error", bad, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(1, -1, 64).Draw(t, "name")
		got, err := ParseToken(Token(name))
		if err != nil || got != name || strings.ContainsAny(Token(name), ".*> \t\n") {
			t.Fatalf("%q became %q, then %q, %v", name, Token(name), got, err)
		}
	})
}

func TestIDs(t *testing.T) {
	at := time.UnixMilli(0x0193a5c27d1e)
	id, err := NewID(at, bytes.NewReader(make([]byte, 16)))
	if err != nil || id != "0193a5c2-7d1e-7000-8000-000000000000" {
		t.Errorf("NewID = %s, %v", id, err)
	}
	if _, err := NewID(at, bytes.NewReader(nil)); err == nil {
		t.Error("an id without randomness")
	}
	a, b := DerivedID("/router", "cause", "router", 1), DerivedID("/router", "cause", "router", 2)
	if a == b || a != DerivedID("/router", "cause", "router", 1) || a[14] != '8' {
		t.Errorf("derived ids %s, %s", a, b)
	}
	if DerivedID("/a", "bc", "d", 1) == DerivedID("/ab", "c", "d", 1) {
		t.Error("two causes give one derived id")
	}
}

func TestPrivate(t *testing.T) {
	p, err := NewPrivate(map[string]string{"body": "we chose it because"}, bytes.NewReader(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Commitment()
	if err != nil || !isCommitment(c) {
		t.Fatalf("commitment %q, %v", c, err)
	}
	if err := p.Open(c); err != nil {
		t.Error(err)
	}
	p.Fields["body"] += "."
	if err := p.Open(c); !errors.Is(err, ErrCommitment) {
		t.Errorf("changed text: %v", err)
	}
	weak := Private{Fields: map[string]string{"body": "x"}}
	c, _ = weak.Commitment()
	if err := weak.Open(c); !errors.Is(err, ErrCommitment) {
		t.Errorf("text without a salt: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	b, err := sampleEvent().Canonical()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/x","type":"cloud.vaultmesh.a.b.v1","subject":"s","data":0.5}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, canonical, err := Parse(raw)
		var r *Refusal
		if err != nil {
			if !errors.As(err, &r) {
				t.Fatalf("%T is not a *Refusal", err)
			}
			return
		}
		again, b2, err := Parse(canonical)
		if err != nil || !bytes.Equal(b2, canonical) || fmt.Sprint(again) != fmt.Sprint(e) {
			t.Fatalf("%q parses to %q, which parses to %q, %v", raw, canonical, b2, err)
		}
	})
}

func BenchmarkAccept(b *testing.B) {
	raw, err := sampleEvent().Canonical()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Accept("vm.deploy.api.ci", raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCanonical(b *testing.B) {
	e := sampleEvent()
	e.Data = json.RawMessage(`{"component":"api","version":"v1"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Canonical(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestTimesAreStrict(t *testing.T) {
	good, err := sampleEvent().Canonical()
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]bool{
		"2026-11-23T03:19:00Z": true, "2026-11-23T03:19:00.5+05:30": true, "2026-11-23T3:19:00Z": false,
		"2026-11-23T03:19:00,5Z": false, "2026-11-23T03:19:00+24:00": false, "2026-11-23T03:19:00-01:60": false, "2026-02-29T00:00:00Z": false,
	} {
		_, _, err := Parse(bytes.Replace(good, []byte("2026-11-23T03:19:00.12Z"), []byte(at), 1))
		if (err == nil) != want {
			t.Errorf("time %s: %v", at, err)
		}
	}
}
