package harness

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"vaultmesh.cloud/vaultmesh/e2e/internal/document"
)

// runner runs one command of a document ($1) and keeps what it changed, folder
// and variables, for the next one, as a reader's shell would.
const runner = `
state=$1.state; exec 2>&1 </dev/null
cd "$(cat "$state/cwd")" || exit 125
. "$state/env" || exit 125
export -p | sort > "$state/before"
set -a -o pipefail
trap 'code=$?; set +a; pwd > "$state/cwd"; export -p | sort | comm -13 "$state/before" - |
  grep -vE "^declare -x (OLDPWD|PWD|SHLVL|_)(=|$)" >> "$state/env"; exit $code' EXIT
. "$2"
`

// documentCommand runs command N of a document: document N WANTED-EXIT. The
// files are .doc/N.sh and, if the output is checked, .doc/N.out. With ! the
// command must not do what the document says, which only tests of this need.
func documentCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] document N EXIT")
	}
	work := of(ts).work
	base := filepath.Join(work, ".doc", args[0])
	state := filepath.Join(work, ".doc.state")
	if _, err := os.Stat(state); err != nil {
		ts.Check(os.Mkdir(state, 0o700))
		ts.Check(os.WriteFile(filepath.Join(state, "cwd"), []byte(work+"\n"), 0o600))
		ts.Check(os.WriteFile(filepath.Join(state, "env"), nil, 0o600))
	}
	// Documents show the default addresses; the node here has free ports.
	var here, shown []string
	for _, a := range []struct{ env, port string }{{"NODE_HTTP", "8420"}, {"NODE_NATS", "4222"}} {
		if u, err := url.Parse(ts.Getenv(a.env)); err == nil && u.Host != "" {
			here = append(here, "127.0.0.1:"+a.port, u.Host, "localhost:"+a.port, u.Host)
			shown = append(shown, u.Host, "127.0.0.1:"+a.port)
		}
	}
	text := strings.NewReplacer(here...).Replace(ts.ReadFile(base + ".sh"))
	ts.Check(os.WriteFile(base+".run", []byte(text), 0o600))
	err := ts.Exec("bash", "-c", runner, "document", filepath.Join(work, ".doc"), base+".run")
	code := 0
	if err != nil {
		code = -1
		if e, ok := err.(interface{ ExitCode() int }); ok {
			code = e.ExitCode()
		}
	}
	got := strings.NewReplacer(shown...).Replace(ts.ReadFile("stdout"))
	fault := ""
	want, err := os.ReadFile(base + ".out")
	switch {
	case strconv.Itoa(code) != args[1]:
		fault = fmt.Sprintf("exit %d, wanted %s\n$ %s\n%s", code, args[1], text, got)
	case err == nil && !document.Match(string(want), got):
		fault = fmt.Sprintf("the document shows another output\n$ %s--- shown\n%s--- is\n%s", text, want, got)
	}
	if neg == (fault == "") {
		ts.Fatalf("%s (negated: %v)", fault, neg)
	}
}
