package arch

import (
	"slices"
	"strings"
	"testing"
)

// tree makes packages from lines: "path/file.go: import import ...". An
// import without a dot in its first element that names a row is the house's own.
func tree(lines ...string) []Package {
	var pkgs []Package
	for _, line := range lines {
		name, imports, _ := strings.Cut(line, ":")
		cut := strings.LastIndex(name, "/")
		dir, base := name[:cut], name[cut+1:]
		f := File{Name: base, Package: dir[strings.LastIndex(dir, "/")+1:], Test: strings.HasSuffix(base, "_test.go")}
		for i, imp := range strings.Fields(imports) {
			top, _, _ := strings.Cut(imp, "/")
			if _, ok := rows[top]; ok || top == "docs" {
				imp = Module + "/" + imp
			}
			f.Imports = append(f.Imports, Import{Path: imp, Line: i + 1})
		}
		i := slices.IndexFunc(pkgs, func(p Package) bool { return p.Path == dir })
		if i < 0 {
			pkgs = append(pkgs, Package{Path: dir})
			i = len(pkgs) - 1
			f.Doc = true
		}
		pkgs[i].Files = append(pkgs[i].Files, f)
	}
	return pkgs
}

// house is the tree of the design with the imports of its two journeys.
var house = []string{
	"internal/clock/clock.go: time",
	"internal/redact/redact.go:",
	"internal/dial/dial.go: internal/redact net",
	"internal/keys/kms.go: github.com/aws/aws-sdk-go-v2/service/kms internal/redact",
	"schemas/schemas.go: embed",
	"schemas/remembrancer/embed.go: embed",
	"schemas/aurora/embed.go: embed schemas/remembrancer",
	"events/event.go: events/canon schemas",
	"events/canon/canon.go:",
	"events/bus/bus.go: events events/canon github.com/nats-io/nats.go internal/clock",
	"events/bus/embedded/server.go: events/bus events github.com/nats-io/nats-server/v2/server",
	"events/bus/bustest/bustest.go: events/bus events/bus/embedded testing",
	"events/bus/bus_test.go: github.com/nats-io/nats-server/v2/server events/bus/bustest",
	"events/spawn/spawn.go: events",
	"events/remembrancer/remembrancer.go: events schemas events/spawn",
	"events/aurora/aurora.go: events events/remembrancer schemas/aurora",
	"projections/run.go: events events/bus github.com/cockroachdb/pebble/v2",
	"projections/projectiontest/replay.go: projections testing github.com/cockroachdb/pebble/v2/vfs",
	"projections/dashboard/page.go: embed projections",
	"projections/spawn/catalog/catalog.go: projections events/spawn github.com/cockroachdb/pebble/v2",
	"projections/remembrancer/proof/proof.go: events/canon",
	"projections/remembrancer/proof/bundle/bundle.go: projections/remembrancer/proof/openpgp projections/remembrancer/proof",
	"projections/remembrancer/proof/openpgp/openpgp.go: internal/keys",
	"projections/remembrancer/ledger/ledger.go: projections projections/remembrancer/proof events/remembrancer github.com/cockroachdb/pebble/v2",
	"projections/remembrancer/ledger/ledger_test.go: projections/projectiontest events/bus/bustest events/bus/embedded pgregory.net/rapid flag",
	"projections/remembrancer/reads/http.go: projections/remembrancer/ledger projections/dashboard",
	"projections/aurora/jobs/jobs.go: projections events/aurora projections/remembrancer/ledger",
	"projections/aurora/reads/http.go: projections/aurora/jobs",
	"consumers/run.go: events events/bus projections",
	"consumers/consumertest/given.go: consumers events testing",
	"consumers/run_test.go: consumers/consumertest",
	"events/eventstest/shape.go: events schemas testing",
	"events/spawn/spawn_test.go: events/eventstest",
	"consumers/remembrancer/seal/seal.go: consumers projections/remembrancer/ledger projections/remembrancer/proof events/remembrancer",
	"consumers/remembrancer/seal/seal_test.go: github.com/cockroachdb/pebble/v2/vfs",
	"consumers/remembrancer/snapshot/s3.go: github.com/aws/aws-sdk-go-v2/service/s3",
	"consumers/aurora/policy/policy.go: events/aurora github.com/tetratelabs/wazero",
	"consumers/aurora/router/router.go: consumers consumers/aurora/policy projections/aurora/jobs projections/remembrancer/proof",
	"consumers/aurora/router/router_test.go: consumers/consumertest testing",
	"consumers/aurora/dispatch/dispatch.go: consumers events/aurora",
	"consumers/aurora/providers/providertest/suite.go: consumers/aurora/dispatch testing",
	"consumers/aurora/providers/host/host.go: consumers/aurora/dispatch",
	"consumers/aurora/providers/host/host_test.go: consumers/aurora/providers/providertest",
	"consumers/aurora/providers/kubernetes/kubernetes.go: consumers/aurora/dispatch k8s.io/client-go/kubernetes",
	"consumers/aurora/providers/modal/modal.go: consumers/aurora/dispatch github.com/modal-labs/modal-client/go",
	"consumers/aurora/attest/attest.go: consumers events/remembrancer events/aurora",
	"producers/spawn/announce/announce.go: events/spawn events/bus",
	"producers/remembrancer/record/record.go: events/remembrancer events/bus",
	"producers/aurora/submit/submit.go: events/aurora events/bus projections/aurora/jobs",
	"cmd/internal/term/term.go: charm.land/lipgloss/v2",
	"cmd/internal/daemon/daemon.go: events/bus/embedded projections consumers os/signal cmd/internal/term",
	"cmd/internal/spawn/commands.go: producers/spawn/announce cmd/internal/term github.com/spf13/cobra",
	"cmd/internal/remembrancer/commands.go: producers/remembrancer/record consumers/remembrancer/seal cmd/internal/daemon cmd/internal/spawn",
	"cmd/internal/remembrancer/node/node.go: cmd/internal/remembrancer events/bus/embedded",
	"cmd/internal/aurora/commands.go: consumers/aurora/router consumers/remembrancer/seal flag",
	"cmd/vaultmesh/main.go: cmd/internal/term cmd/internal/daemon",
	"cmd/vaultmesh/layer_spawn.go: cmd/internal/spawn",
	"cmd/vaultmesh/layer_remembrancer.go: cmd/internal/remembrancer cmd/internal/remembrancer/node cmd/internal/spawn",
	"cmd/vaultmesh/layer_aurora.go: cmd/internal/aurora consumers/aurora/providers/kubernetes projections/remembrancer/ledger",
	"cmd/remembrancer/main.go: cmd/internal/remembrancer cmd/internal/spawn",
	"cmd/aurora/main.go: cmd/internal/aurora cmd/internal/remembrancer",
	"e2e/script_test.go: e2e/internal/harness events",
	"e2e/internal/harness/harness.go: testing github.com/rogpeppe/go-internal/testscript flag os/signal",
	"e2e/aurora/faults_test.go: consumers/aurora/dispatch projections/remembrancer/ledger e2e/internal/harness",
	"deploy/eks/render_test.go: k8s.io/api/core/v1",
}

func TestWholeHousePasses(t *testing.T) {
	pkgs := tree(house...)
	for i := range pkgs {
		if strings.HasPrefix(pkgs[i].Path, "cmd/") && len(strings.Split(pkgs[i].Path, "/")) == 2 {
			for j := range pkgs[i].Files {
				pkgs[i].Files[j].Package = "main"
			}
		}
	}
	for _, f := range Check(pkgs) {
		t.Error(f)
	}
}

// TestEveryEdgeRuleFires adds one bad file to the house.
func TestEveryEdgeRuleFires(t *testing.T) {
	for _, c := range []struct{ rule, file string }{
		{"up", "events/bad.go: projections"},
		{"up", "events/bad_test.go: projections"},
		{"up", "projections/remembrancer/ledger/bad.go: consumers/remembrancer/seal"},
		{"up", "projections/aurora/jobs/bad.go: producers/aurora/submit"},
		{"up", "consumers/bad.go: cmd/internal/daemon"},
		{"up", "schemas/bad.go: events"},
		{"up", "schemas/bad.go: internal/clock"},
		{"up", "internal/clock/bad.go: schemas"},
		{"up", "cmd/internal/daemon/bad.go: e2e/internal/harness"},
		{"up", "events/bad.go: deploy/eks"},
		{"grid", "events/bad.go: docs/reference"},
		{"grid", "pkg/bad/bad.go:"},
		{"strangers", "consumers/aurora/router/bad.go: producers/aurora/submit"},
		{"strangers", "producers/aurora/submit/bad.go: consumers/aurora/router"},
		{"strangers", "producers/remembrancer/record/bad_test.go: consumers/consumertest"},
		{"shared", "events/bad.go: events/remembrancer"},
		{"shared", "events/bus/bad.go: events/spawn"},
		{"shared", "projections/bad.go: projections/remembrancer/ledger"},
		{"shared", "consumers/bad.go: events/aurora"},
		{"shared", "internal/keys/bad_test.go: projections/remembrancer/proof"}, // a row up, too
		{"shared", "schemas/bad.go: schemas/aurora"},
		{"shared", "cmd/internal/daemon/bad.go: projections/remembrancer/ledger"},
		{"shared", "cmd/vaultmesh/main.go: cmd/internal/aurora"},
		{"shared", "e2e/bad_test.go: events/aurora"},
		{"layer", "cmd/vaultmesh/layer_remembrancer.go: cmd/internal/aurora"},
		{"layer", "cmd/remembrancer/main.go: cmd/internal/aurora"},
		{"layer", "cmd/internal/spawn/bad.go: events/remembrancer"},
		{"layer", "events/spawn/bad.go: events/remembrancer"},
		{"layer", "consumers/remembrancer/seal/bad.go: events/aurora"},
		{"layer", "consumers/remembrancer/seal/bad_test.go: projections/aurora/jobs"},
		{"layer", "e2e/remembrancer/bad_test.go: events/aurora"},
		{"meet", "consumers/aurora/router/bad.go: consumers/remembrancer/seal"},
		{"meet", "producers/aurora/submit/bad.go: producers/remembrancer/record"},
		{"sideways", "consumers/aurora/policy/bad.go: consumers/aurora/router"},
		{"sideways", "consumers/aurora/router/bad.go: consumers/aurora/dispatch"},
		{"sideways", "consumers/aurora/dispatch/bad.go: consumers/aurora/providers/host"},
		{"sideways", "consumers/aurora/providers/host/bad.go: consumers/aurora/providers/kubernetes"},
		{"sideways", "projections/remembrancer/proof/bad.go: projections/remembrancer/ledger"},
		{"sideways", "projections/aurora/jobs/bad.go: projections/aurora/treaties"},
		{"sideways", "events/canon/bad.go: events/bus"},
		{"sideways", "events/bad.go: events/bus"},
		{"sideways", "internal/redact/bad.go: internal/keys"},
		{"foreign", "events/bus/bad.go: github.com/nats-io/nats-server/v2/server"},
		{"foreign", "events/bus/bustest/bad.go: github.com/nats-io/nats-server/v2/server"},
		{"foreign", "consumers/bad_test.go: github.com/nats-io/nats-server/v2/server"},
		{"foreign", "cmd/internal/daemon/bad.go: github.com/nats-io/nats-server/v2/server"},
		{"foreign", "consumers/bad.go: events/bus/embedded"},
		{"foreign", "consumers/remembrancer/seal/bad.go: github.com/cockroachdb/pebble/v2"},
		{"foreign", "consumers/remembrancer/seal/bad.go: github.com/cockroachdb/pebble/v2/vfs"},
		{"foreign", "consumers/remembrancer/seal/bad_test.go: github.com/cockroachdb/pebble/v2"},
		{"foreign", "cmd/internal/daemon/bad.go: github.com/cockroachdb/pebble/v2"},
		{"foreign", "consumers/aurora/dispatch/bad.go: k8s.io/client-go/kubernetes"},
		{"foreign", "consumers/aurora/providers/host/bad.go: k8s.io/client-go/kubernetes"},
		{"foreign", "consumers/aurora/providers/host/bad.go: github.com/modal-labs/modal-client/go"},
		{"foreign", "projections/remembrancer/ledger/bad.go: github.com/aws/aws-sdk-go-v2/service/s3"},
		{"foreign", "events/bus/bad.go: flag"},
		{"foreign", "consumers/bad.go: os/signal"},
		{"foreign", "producers/spawn/announce/bad.go: github.com/spf13/cobra"},
		{"foreign", "producers/spawn/announce/bad.go: charm.land/lipgloss/v2"},
		{"testcode", "consumers/remembrancer/seal/bad.go: consumers/consumertest"},
		{"testcode", "events/bad.go: testing"},
		{"testcode", "cmd/internal/daemon/bad.go: events/bus/bustest"},
		{"name", "internal/util/util.go:"},
		{"name", "events/bus/v2/bus.go:"},
		{"name", "consumers/remembrancer/aurora/x.go:"},
		{"name", "projections/aurora/aurora.go:"},
		{"name", "events/bus/spawn/x.go:"},
	} {
		var got []string
		for _, f := range Check(tree(append(slices.Clone(house), c.file)...)) {
			if strings.HasPrefix(f.Where, c.file[:strings.LastIndex(c.file[:strings.Index(c.file, ":")], "/")]) {
				got = append(got, f.Rule)
			}
		}
		if c.rule == "shared" && slices.Contains(got, "up") {
			continue // told by its row first
		}
		if !slices.Contains(got, c.rule) {
			t.Errorf("%s: rules %v fired, want %s", c.file, got, c.rule)
		}
	}
}

// TestFileRules judges source text, through the scanner's eyes.
func TestFileRules(t *testing.T) {
	const doc = "// Package x is.\npackage x\n"
	for _, c := range []struct {
		name, path, file, src string
		want                  []string
	}{
		{"clean", "events/x", "x.go", doc + `import "os"; var _ = os.ReadFile`, nil},
		{"stdout", "events/x", "x.go", doc + `import "os"; var _ = os.Stdout`, []string{"terminal"}},
		{"alias", "events/x", "x.go", doc + `import sys "os"; var _ = sys.Getenv("A")`, []string{"terminal"}},
		{"shadowed", "events/x", "x.go", doc + `import "os"; type t struct{ Stdout int }; func f(p string) int { _, _ = os.ReadFile(p); os := t{}; return os.Stdout }`, nil},
		{"print", "projections/x", "x.go", doc + `import "fmt"; func f() { fmt.Println() }`, []string{"terminal"}},
		{"fatal", "projections/x", "x.go", doc + `import "log"; func f() { log.Fatal() }`, []string{"terminal"}},
		{"in cmd", "cmd/x", "x.go", doc + `import ("os"; "fmt"); func init() { fmt.Println(os.Args) }`, nil},
		{"exit in main", "cmd/x", "x.go", "// Command x is.\npackage main\nimport \"os\"\nfunc main() { os.Exit(1) }", nil},
		{"exit below main", "cmd/internal/x", "x.go", doc + `import "os"; func f() { os.Exit(1) }`, []string{"terminal"}},
		{"init", "events/x", "x.go", doc + `func init() {}`, []string{"init"}},
		{"method named init", "events/x", "x.go", doc + `type t struct{}; func (t) init() {}`, nil},
		{"sleep", "events/x", "x.go", doc + `import "time"; func f() { time.Sleep(1) }`, []string{"sleep"}},
		{"sleep in cmd", "cmd/x", "x.go", doc + `import "time"; func f() { time.Sleep(1) }`, []string{"sleep"}},
		{"sleep in a test", "events/x", "x_test.go", doc + `import "time"; func f() { time.Sleep(1) }`, nil},
		{"environment in a test", "events/x", "x_test.go", doc + `import "os"; var _ = os.Getenv("A")`, nil},
		{"dot import", "events/x", "x.go", doc + `import . "strings"`, []string{"import"}},
		{"blank import", "events/x", "x.go", doc + `import _ "net/http/pprof"`, []string{"import"}},
		{"embedding", "events/x", "x.go", doc + `import _ "embed"`, nil},
		{"no comment", "events/x", "x.go", "package x", []string{"comment"}},
		{"build tag is no comment", "events/x", "x.go", "//go:build linux\n\npackage x", []string{"comment"}},
	} {
		f, err := scanFile(c.file, []byte(c.src))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, found := range Check([]Package{{Path: c.path, Files: []File{f}}}) {
			got = append(got, found.Rule)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: rules %v fired, want %v", c.name, got, c.want)
		}
	}
	two := File{Name: "a.go", Package: "x", Doc: true}
	if got := Check([]Package{{Path: "events/x", Files: []File{two, {Name: "b.go", Package: "x", Doc: true}}}}); len(got) != 1 || got[0].Rule != "comment" {
		t.Errorf("two package comments: %v", got)
	}
	// A test file's comment does not stand for the package's.
	if got := Check([]Package{{Path: "events/x", Files: []File{{Name: "a.go", Package: "x"}, {Name: "a_test.go", Package: "x", Test: true, Doc: true}}}}); len(got) != 1 || got[0].Rule != "comment" {
		t.Errorf("comment in a test file: %v", got)
	}
}

// A rule without a reason teaches nobody.
func TestListsHaveReasons(t *testing.T) {
	for _, e := range sideways {
		if e.why == "" {
			t.Errorf("%s → %s has no reason", e.from, e.to)
		}
	}
	for _, e := range foreign {
		if e.why == "" || len(e.in) == 0 {
			t.Errorf("%s has no reason or no place", e.what)
		}
	}
}
