package remembrancer

import (
	"strings"
	"testing"
	"time"
)

const zeroRoot = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

func TestStampedBy(t *testing.T) {
	at := time.Date(2026, 11, 23, 3, 19, 0, 120_000_000, time.UTC)
	h := NewHead("log.example.com/log", 7, zeroRoot, 3, "note", "asc", at)
	if err := h.Check(); err != nil {
		t.Fatal(err)
	}
	s := NewTokenSeal(h, "AAAA", strings.Repeat("a", 64), "https://tsa.example.com", at)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	p, when, err := StampedBy(s)
	if err != nil || !when.Equal(at) {
		t.Fatalf("%v, %v", when, err)
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	want := LedgerStamped{Origin: h.Origin, Size: 7, Root: strings.Repeat("0", 64), TokenSHA256: s.TokenSHA256, TSA: s.TSA, GenTime: "2026-11-23T03:19:00.12Z"}
	if *p != want {
		t.Errorf("got %+v, want %+v", *p, want)
	}
	for _, bad := range []Seal{{GenTime: "yesterday", Root: zeroRoot}, {GenTime: s.GenTime, Root: "?"}} {
		if _, _, err := StampedBy(bad); err == nil {
			t.Errorf("%+v gives an event", bad)
		}
	}
}

func TestParseHeadRefuses(t *testing.T) {
	for _, bad := range []string{"", "{", "[]", `{"format":"vaultmesh.cloud/head/v2"}`, `{"format":"vaultmesh.cloud/head/v1","more":1}`} {
		if _, err := ParseHead([]byte(bad)); err == nil {
			t.Errorf("%q is a head", bad)
		}
		if _, err := ParseSeal([]byte(bad)); err == nil {
			t.Errorf("%q is a seal", bad)
		}
	}
}

func TestEntities(t *testing.T) {
	for _, c := range []struct {
		entity interface{ Entity() string }
		want   string
	}{
		{&DeployRecorded{Component: strings.Repeat("é", 128)}, strings.Repeat("é", 64)},
		{&ArtifactSigned{Name: "dist/api.tar.gz"}, "api.tar.gz"},
		{&ArtifactTimestamped{Name: "a" + strings.Repeat("é", 100)}, "a" + strings.Repeat("é", 63)},
		{&DecisionRecorded{}, "adr"},
		{&IncidentReported{}, "incident"},
		{&IncidentReported{Component: "api"}, "api"},
		{&LedgerStamped{}, "log"},
		{&PeerJoined{Peer: "a.example.com/log"}, "a.example.com/log"},
	} {
		if got := c.entity.Entity(); got != c.want {
			t.Errorf("entity of %T is %q, want %q", c.entity, got, c.want)
		}
	}
}
