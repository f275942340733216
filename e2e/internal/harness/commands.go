package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// lookup finds a path such as "links.0.name" in JSON. "#" is the length of an
// array. A string is returned as it is, anything else as JSON.
func lookup(text []byte, path string) (string, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return "", fmt.Errorf("not JSON: %w", err)
	}
	for step := range strings.SplitSeq(path, ".") {
		if step == "" { // "." is the whole document
			continue
		}
		switch in := v.(type) {
		case map[string]any:
			next, ok := in[step]
			if !ok {
				return "", fmt.Errorf("no field %q", step)
			}
			v = next
		case []any:
			if step == "#" {
				v = json.Number(strconv.Itoa(len(in)))
				continue
			}
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(in) {
				return "", fmt.Errorf("no element %q of %d", step, len(in))
			}
			v = in[i]
		default:
			return "", fmt.Errorf("nothing below %q", step)
		}
	}
	if s, ok := v.(string); ok {
		return s, nil
	}
	out, err := json.Marshal(v)
	return string(out), err
}

func jsonField(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: [!] jsonfield FILE PATH [VALUE]")
	}
	got, err := lookup([]byte(ts.ReadFile(args[0])), args[1])
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "not JSON"):
		ts.Fatalf("%s: %v", args[0], err)
	case err != nil && !neg:
		ts.Fatalf("%s: %s: %v", args[0], args[1], err)
	case err == nil && len(args) == 3 && (got == args[2]) == neg:
		ts.Fatalf("%s: %s is %q, wanted %q (negated: %v)", args[0], args[1], got, args[2], neg)
	case err == nil && len(args) == 2 && neg:
		ts.Fatalf("%s: %s is %q, wanted nothing", args[0], args[1], got)
	}
}

func jsonEnv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: jsonenv VAR FILE PATH")
	}
	got, err := lookup([]byte(ts.ReadFile(args[1])), args[2])
	if err != nil {
		ts.Fatalf("%s: %s: %v", args[1], args[2], err)
	}
	ts.Setenv(args[0], got)
}

func httpGet(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: [!] httpget URL [HEADER...]")
	}
	send(ts, neg, http.MethodGet, args[0], "", args[1:])
}

func httpSend(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: [!] httpsend METHOD URL FILE [HEADER...]")
	}
	send(ts, neg, args[0], args[1], ts.ReadFile(args[2]), args[3:])
}

const answerWithin = 30 * time.Second

func send(ts *testscript.TestScript, neg bool, method, url, body string, headers []string) {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	ts.Check(err)
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			ts.Fatalf("a header is 'Name: value', not %q", h)
		}
		if value = strings.TrimSpace(value); strings.EqualFold(name, "Host") {
			req.Host = value
		} else {
			req.Header.Set(name, value)
		}
	}
	// An answer is an answer, a redirect too.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	ts.Check(err)
	text, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	ts.Check(err)
	head, err := httputil.DumpResponse(res, false)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("http.head"), head, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("http.body"), text, 0o600))
	_, _ = ts.Stdout().Write(text)
	if ok := res.StatusCode/100 == 2; ok == neg {
		ts.Fatalf("%s %s: %s\n%s", method, url, res.Status, text)
	}
}

func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually DURATION COMMAND...")
	}
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			ts.Fatalf("not within %v: %v", limit, err)
		case <-tick.C:
		}
	}
}
