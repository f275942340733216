package redact_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"vaultmesh.cloud/vaultmesh/internal/redact"
)

const canary = "canary-7d1f"

func TestNoPrintingShowsASecret(t *testing.T) {
	s := redact.New(canary)
	holder := struct {
		Token redact.Secret
		Map   map[string]redact.Secret
		Ptr   *redact.Secret
		inner redact.Secret
	}{s, map[string]redact.Secret{"a": s}, &s, s}
	var out bytes.Buffer
	for _, v := range []any{s, &s, holder, &holder, []redact.Secret{s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%08b", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		y, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(j)
		out.Write(y)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		out.WriteString(errors.Join(fmt.Errorf("with %v", v)).Error())
	}
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), "Y2FuYXJ5LTdkMWY"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q is shown", form)
		}
	}
	if s.Reveal() != canary || !s.Set() || redact.New("").Set() {
		t.Error("Reveal or Set is wrong")
	}
	if !s.Equal(redact.New(canary)) || s.Equal(redact.New("other")) {
		t.Error("Equal is wrong")
	}
}

func TestURLs(t *testing.T) {
	for in, want := range map[string]string{
		"https://u:" + canary + "@h/p?token=" + canary + "&a=1#" + canary: "https://redacted@h/p?token=…&a=…",
		"http://h/p":  "http://h/p",
		"http://h:x/": redact.Mark,
		"":            "",
	} {
		if got := redact.URL(in); got != want {
			t.Errorf("URL(%q) = %q, want %q", in, got, want)
		}
	}
}

func ExampleSecret() {
	token := redact.New("s3cret")
	fmt.Println(token, len(token.Reveal()))
	// Output: [redacted] 6
}
