package proof

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

func TestVerdict(t *testing.T) {
	all := []LinkName{LinkDigest, LinkSignature, LinkToken, LinkInclusion}
	for _, c := range []struct {
		name   string
		ok     []LinkName
		failed []LinkName
		allow  []LinkName
		want   bool
		status map[LinkName]Status
	}{
		{"all four", all, nil, nil, true, nil},
		{"nothing", nil, nil, nil, false, map[LinkName]Status{LinkToken: StatusMissing}},
		{"no token", []LinkName{LinkDigest, LinkSignature, LinkInclusion}, nil, nil, false, nil},
		{"no token, allowed", []LinkName{LinkDigest, LinkSignature, LinkInclusion}, nil, []LinkName{LinkToken}, true, map[LinkName]Status{LinkToken: StatusAllowed}},
		{"another allowed", []LinkName{LinkDigest, LinkSignature, LinkInclusion}, nil, []LinkName{LinkSignature}, false, nil},
		{"no node", []LinkName{LinkSignature, LinkToken}, nil, []LinkName{LinkInclusion}, true, map[LinkName]Status{LinkDigest: StatusAllowed, LinkInclusion: StatusAllowed}},
		{"digest alone does not bring inclusion", []LinkName{LinkSignature, LinkToken}, nil, []LinkName{LinkDigest}, false, map[LinkName]Status{LinkInclusion: StatusMissing}},
		{"failed is never allowed", []LinkName{LinkDigest, LinkSignature, LinkInclusion}, []LinkName{LinkToken}, all, false, map[LinkName]Status{LinkToken: StatusFailed}},
		{"allowed and there", all, nil, all, true, map[LinkName]Status{LinkToken: StatusOK}},
		{"all allowed", nil, nil, all, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReport("f", "00")
			for _, n := range c.failed {
				r.Fail(n, "wrong")
				r.Miss(n, "late") // neither of these may heal a failed link
				r.Pass(n, "late")
			}
			for _, n := range c.ok {
				r.Pass(n, "")
			}
			r.Conclude(c.allow...)
			if r.Verified != c.want || (r.Err() == nil) != c.want {
				t.Errorf("verified %v, %v", r.Verified, r.Err())
			}
			if err := r.Err(); err != nil && !errors.Is(err, ErrNotProven) {
				t.Error(err)
			}
			for n, s := range c.status {
				if got := r.Link(n).Status; got != s {
					t.Errorf("%s is %s, want %s", n, got, s)
				}
			}
		})
	}
}

// The JSON names are an interface of verify-full and verify-proof.
func TestReportJSON(t *testing.T) {
	r := NewReport("app.tar", "ab")
	signed, size, zero := time.Unix(0, 0).UTC(), uint64(7), uint64(0)
	r.Link(LinkSignature).Facts = Facts{Fingerprint: "AB", SignedAt: &signed, SignerIs: "operator"}
	r.Link(LinkInclusion).Facts = Facts{Origin: testOrigin, Index: &zero, Size: &size, GenTime: &signed, TSA: "CN=x", Root: "r", NodeKey: "CD",
		Cosignatures: []string{"w"}, ConsistentTo: &size, EventIDs: []string{"id"}}
	r.Pass(LinkSignature, "good")
	r.Warn("%d remark", 1)
	r.Anchors = []Anchor{{"log key", "v", false}}
	r.Conclude(LinkToken, LinkInclusion)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"file":"app.tar","sha256":"ab","verified":true,"links":[` +
		`{"name":"digest","status":"allowed","facts":{}},` +
		`{"name":"signature","status":"ok","detail":"good","facts":{"fingerprint":"AB","signer_is":"operator","signed_at":"1970-01-01T00:00:00Z"}},` +
		`{"name":"token","status":"allowed","facts":{}},` +
		`{"name":"inclusion","status":"allowed","facts":{"gen_time":"1970-01-01T00:00:00Z","tsa":"CN=x","origin":"ledger.example/log","index":0,"size":7,"root":"r","node_key":"CD","cosignatures":["w"],"event_ids":["id"],"consistent_to":7}}],` +
		`"anchors":[{"name":"log key","value":"v","pinned":false}],"warnings":["1 remark"]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

func TestParseLinkName(t *testing.T) {
	if n, err := ParseLinkName("token"); err != nil || n != LinkToken {
		t.Error(n, err)
	}
	if _, err := ParseLinkName("tokens"); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}
