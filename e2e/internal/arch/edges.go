package arch

import (
	"path"
	"strings"
)

// edge is a permitted or a restricted import; patterns are those of path.Match
// on the package folder, "..." at the end means everything below as well.
type edge struct {
	from, to string
	why      string
}

// sideways are the only imports within one row and one layer, other than those
// inside a package folder.
var sideways = []edge{
	{"internal/*", "internal/redact", "what must not be printed is a type, and every seam may hold one"},
	{"internal/*", "internal/clock", "time comes through one seam"},
	{"events", "events/canon", "an event's identity is the hash of its canonical form"},
	{"events/*", "events", "everything on the bus is an event"},
	{"events/*", "events/canon", "bytes are canonical before they are published"},
	{"projections/*", "projections", "the shared fold runner"},
	{"consumers/*", "consumers", "the shared handler runner"},
	{"events", "events/eventstest", "test support, which only tests may import"},
	{"events/*", "events/eventstest", "test support, which only tests may import"},
	{"projections", "projections/projectiontest", "test support, which only tests may import"},
	{"consumers", "consumers/consumertest", "test support, which only tests may import"},
	{"projections/remembrancer/*", "projections/remembrancer/proof", "proof is pure and importable by anyone"},
	{"projections/spawn/reads", "projections/spawn/*", "reads is the door to what its layer's folds keep"},
	{"projections/remembrancer/reads", "projections/remembrancer/*", "reads is the door to what its layer's folds keep"},
	{"projections/aurora/reads", "projections/aurora/*", "reads is the door to what its layer's folds keep"},
	{"consumers/aurora/router", "consumers/aurora/policy", "a route is decided under the policy"},
	{"consumers/aurora/providers/*", "consumers/aurora/dispatch", "dispatch owns the Provider interface"},
	{"consumers/aurora/providers/*", "consumers/aurora/providers/providertest", "every provider runs the one conformance suite"},
}

func listed(from, to place) bool {
	for _, e := range sideways {
		if match(e.from, from.folder) && match(e.to, to.folder) {
			return true
		}
	}
	return false
}

// foreign are imports from outside of the module (or of the packages that wrap
// them) which belong into a few folders. A test file may stand in the folders
// of tests as well.
var foreign = []struct {
	what  string   // an import path and everything below it
	in    []string // patterns of package paths
	tests []string // more of them for test files
	why   string
}{
	{"github.com/nats-io/nats-server", []string{"events/bus/embedded"}, []string{"events/bus/..."},
		"a server inside the process is one package's business; others get bus.Connect or bustest"},
	{"vaultmesh.cloud/vaultmesh/events/bus/embedded", []string{"events/bus/...", "cmd/..."}, []string{"..."},
		"only cmd decides that the bus runs in this process; tests use bustest"},
	{"github.com/cockroachdb/pebble", []string{"projections/..."}, nil,
		"state belongs to a fold, in one batch with its position; others ask the projection"},
	{"k8s.io", []string{"consumers/aurora/providers/kubernetes/..."}, nil,
		"a provider's SDK stays in that provider's folder"},
	{"sigs.k8s.io", []string{"consumers/aurora/providers/kubernetes/..."}, nil,
		"a provider's SDK stays in that provider's folder"},
	{"github.com/modal-labs", []string{"consumers/aurora/providers/modal/..."}, nil,
		"a provider's SDK stays in that provider's folder"},
	{"github.com/aws", []string{"internal/keys/...", "consumers/remembrancer/snapshot/...", "consumers/aurora/providers/*", "cmd/..."}, nil,
		"AWS is a key store (keys), an object store (snapshot) or a provider; nothing else depends on it"},
	{"flag", []string{"cmd/..."}, []string{"..."}, "only cmd reads flags; others take values"},
	{"os/signal", []string{"cmd/..."}, nil, "only cmd owns the life of the process; others take a context"},
	{"github.com/spf13", []string{"cmd/..."}, nil, "only cmd reads flags; others take values"},
	{"github.com/knadh/koanf", []string{"cmd/..."}, nil, "only cmd reads configuration; others take values"},
	{"github.com/adrg/xdg", []string{"cmd/..."}, nil, "only cmd reads the environment; others take values"},
	{"charm.land", []string{"cmd/..."}, nil, "only cmd writes to the terminal"},
	{"github.com/vbauerster/mpb", []string{"cmd/..."}, nil, "only cmd writes to the terminal"},
}

// diskSeam is the file system that a projection is opened on: a test of who
// uses the projection may bring its own, to crash it or to let it fail.
const diskSeam = "github.com/cockroachdb/pebble/v2/vfs"

// testSupport are packages for tests: shipped code does not import them, and
// they may do what tests may.
var testSupport = map[string]bool{
	"vaultmesh.cloud/vaultmesh/events/bus/bustest":                      true,
	"vaultmesh.cloud/vaultmesh/events/eventstest":                       true,
	"vaultmesh.cloud/vaultmesh/projections/projectiontest":              true,
	"vaultmesh.cloud/vaultmesh/consumers/consumertest":                  true,
	"vaultmesh.cloud/vaultmesh/consumers/aurora/providers/providertest": true,
	"testing":                           true,
	"pgregory.net/rapid":                true,
	"go.uber.org/goleak":                true,
	"github.com/anishathalye/porcupine": true,
	"github.com/rogpeppe/go-internal":   true,
	"github.com/Shopify/toxiproxy":      true,
}

// forTests reports whether an import path is test support or below it.
func forTests(imp string) bool {
	for ; imp != "."; imp = path.Dir(imp) {
		if testSupport[imp] {
			return true
		}
	}
	return false
}

// below cmd only, with what to do instead.
var terminal = map[string]string{
	"os.Stdout": "take an io.Writer", "os.Stderr": "take an io.Writer or a *slog.Logger", "os.Stdin": "take an io.Reader",
	"os.Args": "take values", "os.Exit": "return an error",
	"os.Getenv": "take a value", "os.LookupEnv": "take a value", "os.Environ": "take a value", "os.ExpandEnv": "take a value",
	"os.Setenv": "pass the value on", "os.Unsetenv": "pass the value on",
	"os.UserHomeDir": "take a path", "os.UserConfigDir": "take a path", "os.UserCacheDir": "take a path",
	"fmt.Print": "return it, or take an io.Writer", "fmt.Printf": "return it, or take an io.Writer", "fmt.Println": "return it, or take an io.Writer",
	"log.Print": "take a *slog.Logger", "log.Printf": "take a *slog.Logger", "log.Println": "take a *slog.Logger",
	"log.Fatal": "return an error", "log.Fatalf": "return an error", "log.Fatalln": "return an error", "log.Default": "take a *slog.Logger",
	"slog.SetDefault": "take a *slog.Logger",
}

// emptyNames say nothing about what a package does.
var emptyNames = map[string]bool{
	"common": true, "util": true, "utils": true, "helper": true, "helpers": true,
	"misc": true, "shared": true, "base": true, "lib": true,
}

// match is path.Match, and "x/..." for x and all below it.
func match(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == prefix || strings.HasPrefix(name, prefix+"/")
	}
	ok, _ := path.Match(pattern, name)
	return ok
}

func matchAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if match(p, name) {
			return true
		}
	}
	return false
}
