package eventstest

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vaultmesh.cloud/vaultmesh/events"
)

// TestStreams compares the document's channels with the catalogue, in both
// directions.
func TestStreams(t *testing.T) {
	doc := readDocument(t)
	left := map[string]channel{}
	for key, c := range doc.Channels {
		if _, ok := left[c.JetStream.Stream]; ok {
			t.Errorf("two channels are the stream %s", c.JetStream.Stream)
		}
		left[c.JetStream.Stream] = c
		if len(c.Messages) == 0 {
			t.Errorf("channel %s has no message", key)
		}
	}
	parameter := regexp.MustCompile(`\{[a-z]+\}`)
	for _, s := range events.Streams(1) {
		c, ok := left[s.Name]
		if !ok {
			t.Errorf("stream %s is no channel", s.Name)
			continue
		}
		delete(left, s.Name)
		if c.Description != s.Doc {
			t.Errorf("%s: described as %q, in the catalogue as %q", s.Name, c.Description, s.Doc)
		}
		js := c.JetStream
		if !slices.Equal(js.Subjects, s.Subjects) || (js.Storage == "memory") != s.Memory || js.Log != s.Log ||
			js.MaxAge != s.MaxAge.String() || js.MaxMsgSize != s.MaxMsg || js.MaxBytes != s.MaxBytes {
			t.Errorf("%s: x-jetstream is %+v, the catalogue has %+v", s.Name, js, s)
		}
		pattern := parameter.ReplaceAllString(c.Address, "*")
		if want := strings.ReplaceAll(s.Subjects[0], ">", "*"); len(s.Subjects) != 1 || pattern != want {
			t.Errorf("%s: address %s is not %v", s.Name, c.Address, s.Subjects)
		}
		for _, p := range parameter.FindAllString(c.Address, -1) {
			if _, ok := c.Parameters[strings.Trim(p, "{}")]; !ok {
				t.Errorf("%s: parameter %s is not described", s.Name, p)
			}
		}
	}
	for name := range left {
		t.Errorf("the catalogue has no stream %s", name)
	}
}

// TestMessages holds the document together: each message has its channel, each
// channel an operation, and nothing points outside. Which messages there are is
// for each layer's test, so that a layer can be removed.
func TestMessages(t *testing.T) {
	doc := readDocument(t)
	used := map[string]string{}
	for key, c := range doc.Channels {
		for name, r := range c.Messages {
			target := strings.TrimPrefix(r.To, "#/components/messages/")
			if _, ok := doc.Components.Messages[target]; !ok {
				t.Errorf("channel %s: message %s points to %s", key, name, r.To)
			}
			if other := used[target]; other != "" {
				t.Errorf("message %s is in the channels %s and %s", target, other, key)
			}
			used[target] = key
		}
	}
	layers := []string{"spawn", "remembrancer", "aurora"}
	domains := map[string]bool{}
	for key, m := range doc.Components.Messages {
		if used[key] == "" {
			t.Errorf("message %s is in no channel", key)
		}
		if s := m.schema(); s != "" && !slices.Contains(layers, path.Dir(s)) {
			t.Errorf("message %s: %s is in no layer's folder", key, s)
		}
		if len(m.Payload.AllOf) > 0 && used[key] != "events" {
			t.Errorf("message %s is an event outside of the channel events", key)
		}
		domains[string(events.Type(m.Name).Domain())] = true
	}
	for _, d := range doc.Channels["events"].Parameters["domain"].Enum {
		if !domains[d] {
			t.Errorf("no message is of the domain %s", d)
		}
	}
	operated := map[string]bool{}
	for key, op := range doc.Operations {
		name := strings.TrimPrefix(op.Channel.To, "#/channels/")
		if _, ok := doc.Channels[name]; !ok || op.Action != "send" && op.Action != "receive" {
			t.Errorf("operation %s: %s on %s", key, op.Action, op.Channel.To)
		}
		operated[name] = true
	}
	for key := range doc.Channels {
		if !operated[key] {
			t.Errorf("channel %s has no operation", key)
		}
	}
}
