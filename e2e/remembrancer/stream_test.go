package remembrancer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// answerWithin bounds what a node is asked, on a busy machine.
const answerWithin = 30 * time.Second

// ask sends a request and returns status and body.
func ask(t *testing.T, method, url, token, contentType, body string, header ...string) (int, http.Header, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, b
}

func token(t *testing.T, data, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(data, "creds", name+".token"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

const (
	oneEvent   = "application/cloudevents+json"
	manyEvents = "application/cloudevents-batch+json"
)

// deploy is an event as a client writes it.
func deploy(component, version string) string {
	return fmt.Sprintf(`{"specversion":"1.0","type":"cloud.vaultmesh.deploy.recorded.v1","subject":%q,"data":{"component":%q,"version":%q}}`, component, component, version)
}

// written is the answer to a write.
type written struct {
	ID     string  `json:"id"`
	Source string  `json:"source"`
	Index  *uint64 `json:"index"`
	Sealed bool    `json:"sealed"`
}

func publish(t *testing.T, n *node, token, event string, header ...string) written {
	t.Helper()
	code, _, b := ask(t, http.MethodPost, n.HTTP+"/v1/events", token, oneEvent, event, header...)
	var w written
	if err := json.Unmarshal(b, &w); code/100 != 2 || err != nil || w.Index == nil {
		t.Fatalf("publish: %d, %v\n%s", code, err, b)
	}
	return w
}

// A sent is one event of /v1/events/stream.
type sent struct {
	id, kind string
	data     []byte
}

// feed opens the stream of events and returns a function that waits for the next.
func feed(t *testing.T, url string, header ...string) func() sent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("%s: %s, %s", url, resp.Status, resp.Header.Get("Content-Type"))
	}
	lines := bufio.NewReader(resp.Body)
	return func() sent {
		t.Helper()
		var e sent
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v", url, err)
			}
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case line == "\n" && e.data != nil:
				return e
			case name == "id":
				e.id = value
			case name == "event":
				e.kind = value
			case name == "data":
				e.data = []byte(value)
			}
		}
	}
}

func TestFeed(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	n := start(t, data, "127.0.0.1:0", "127.0.0.1:0")
	producer := token(t, data, "producer")
	stream := n.HTTP + "/v1/events/stream"
	first := publish(t, n, producer, deploy("api", "v1"))
	decision := `{"specversion":"1.0","type":"cloud.vaultmesh.decision.recorded.v1","subject":"decisions","data":{"number":1,"title":"T","status":"accepted","body":"B"}}`
	second := publish(t, n, producer, decision)
	third := publish(t, n, producer, deploy("web", "v2"))

	// From the first entry on, without a hole.
	next := feed(t, stream+"?from=0")
	for want := uint64(0); want <= *third.Index; want++ {
		if got := next(); got.id != strconv.FormatUint(want, 10) {
			t.Fatalf("entry %s, wanted %d", got.id, want)
		}
	}

	// One that reconnects says what it saw last, whatever its filter.
	resumed := feed(t, stream+"?type=cloud.vaultmesh.deploy.*", "Last-Event-ID", strconv.FormatUint(*first.Index, 10))
	got := resumed()
	if got.id != strconv.FormatUint(*third.Index, 10) || got.kind != "cloud.vaultmesh.deploy.recorded.v1" {
		t.Errorf("resumed with %s, %s", got.id, got.kind)
	}
	var e struct{ ID, Subject, Source string }
	if err := json.Unmarshal(got.data, &e); err != nil || e.ID != third.ID || e.Subject != "web" || e.Source != "/producer" {
		t.Errorf("%+v, %v", e, err)
	}
	if got := feed(t, stream+"?domain=decision&from=0")(); got.id != strconv.FormatUint(*second.Index, 10) {
		t.Errorf("the decision is %s, wanted %d", got.id, *second.Index)
	}

	// One that names nothing hears what comes from now on.
	live := feed(t, stream+"?source=/producer")
	fourth := publish(t, n, producer, deploy("api", "v3"))
	if got := live(); got.id != strconv.FormatUint(*fourth.Index, 10) {
		t.Errorf("heard %s, wanted %d", got.id, *fourth.Index)
	}

	for _, bad := range []string{"?from=-1", "?from=x"} {
		if code, _, b := ask(t, http.MethodGet, stream+bad, "", "", ""); code != http.StatusBadRequest && code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", bad, code, b)
		}
	}
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	n := start(t, data, "127.0.0.1:0", "127.0.0.1:0")
	producer := token(t, data, "producer")
	first := publish(t, n, producer, deploy("api", "v1"), "Idempotency-Key", "build-1")
	again := publish(t, n, producer, deploy("api", "v1"), "Idempotency-Key", "build-1")
	if first.ID != again.ID || *first.Index != *again.Index {
		t.Errorf("%+v, then %+v", first, again)
	}
	if code, _, b := ask(t, http.MethodPost, n.HTTP+"/v1/events", producer, oneEvent, deploy("api", "v2"), "Idempotency-Key", "build-1"); code != http.StatusConflict {
		t.Errorf("the same key for another event: %d %s", code, b)
	}
	// Another principal's key is another key.
	operator := publish(t, n, token(t, data, "admin"), deploy("api", "v1"), "Idempotency-Key", "build-1")
	if operator.ID == first.ID {
		t.Error("two principals share a key")
	}
	// A batch has one key, and its events stand in their order.
	batch := "[" + deploy("a", "1") + "," + deploy("b", "1") + "]"
	var before []byte
	for range 2 {
		_, _, b := ask(t, http.MethodPost, n.HTTP+"/v1/events", producer, manyEvents, batch, "Idempotency-Key", "batch-1")
		var got struct{ Events []written }
		if err := json.Unmarshal(b, &got); err != nil || len(got.Events) != 2 || *got.Events[1].Index != *got.Events[0].Index+1 {
			t.Fatalf("%v: %s", err, b)
		}
		ids := fmt.Appendf(nil, "%s %d %s", got.Events[0].ID, *got.Events[0].Index, got.Events[1].ID)
		if before != nil && !bytes.Equal(before, ids) {
			t.Errorf("%s, then %s", before, ids)
		}
		before = ids
	}
	// A repeat counts across a kill.
	n.kill()
	n = start(t, data, "127.0.0.1:0", "127.0.0.1:0")
	if late := publish(t, n, producer, deploy("api", "v1"), "Idempotency-Key", "build-1"); late.ID != first.ID || *late.Index != *first.Index {
		t.Errorf("after a kill %+v, before %+v", late, first)
	}
	var list struct {
		Items []struct{ ID string }
	}
	if err := json.Unmarshal(get(t, n.HTTP+"/v1/list/deployments?min_index=0"), &list); err != nil || len(list.Items) != 4 {
		t.Errorf("%d deployments, wanted 4: %v", len(list.Items), err)
	}
}
