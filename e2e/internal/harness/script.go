package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Options of a run of scripts.
type Options struct {
	Files  []string // scripts
	Update bool     // write what cmp found into the scripts
	// Node is the program that startnode starts with "up ..."; nil is the
	// vaultmesh of the tree.
	Node []string
	// Bare scripts need none of the binaries.
	Bare bool
}

// Run runs scripts, each as a parallel subtest.
func Run(t *testing.T, o Options) {
	t.Helper()
	path := os.Getenv("PATH")
	if !o.Bare {
		path = Binaries(t) + string(filepath.ListSeparator) + path
	}
	if o.Node == nil {
		o.Node = []string{"vaultmesh"}
	}
	testscript.Run(t, testscript.Params{
		Files:              o.Files,
		UpdateScripts:      o.Update,
		RequireUniqueNames: true,
		Cmds:               commands,
		Setup: func(env *testscript.Env) error {
			return setup(env, o, path)
		},
	})
}

var commands = map[string]func(*testscript.TestScript, bool, []string){
	"startnode":  startNode,
	"stopnode":   stopNode,
	"killnode":   killNode,
	"jsonfield":  jsonField,
	"jsonenv":    jsonEnv,
	"httpget":    httpGet,
	"httpsend":   httpSend,
	"eventually": eventually,
	"document":   documentCommand,
}

// session is what one script has beyond its variables.
type session struct {
	tb      testing.TB
	program []string // of a node
	work    string
	env     []string // at the start
	nodes   map[string]*node
}

type sessionKey struct{}

func of(ts *testscript.TestScript) *session {
	return ts.Value(sessionKey{}).(*session)
}

func setup(env *testscript.Env, o Options, path string) error {
	home := filepath.Join(env.WorkDir, ".home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	// Not below the work directory: the path of the agent's socket must stay
	// under 108 bytes.
	gnupg, err := os.MkdirTemp("", "vmg")
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		"PATH": path, "HOME": home, "GNUPGHOME": gnupg, "LC_ALL": "C.UTF-8", "TZ": "UTC",
		"XDG_DATA_HOME": filepath.Join(home, "data"), "XDG_CONFIG_HOME": filepath.Join(home, "config"),
		"XDG_CACHE_HOME": filepath.Join(home, "cache"), "XDG_STATE_HOME": filepath.Join(home, "state"),
		"XDG_RUNTIME_DIR": filepath.Join(home, "run"),
	} {
		env.Setenv(name, value)
	}
	s := &session{tb: env.T().(testing.TB), program: o.Node, work: env.WorkDir, env: env.Vars, nodes: map[string]*node{}}
	env.Values[sessionKey{}] = s
	env.Defer(func() {
		for name, n := range s.nodes {
			if err := n.stop(); err != nil {
				s.tb.Errorf("node %s: %v", name, err)
			}
		}
		if _, err := exec.LookPath("gpgconf"); err == nil {
			kill := exec.Command("gpgconf", "--kill", "all")
			kill.Env = append(os.Environ(), "GNUPGHOME="+gnupg)
			_ = kill.Run()
		}
		_ = os.RemoveAll(gnupg)
	})
	return nil
}

// environ is the start's environment with the variables that the script may
// have changed since and a node or program would want.
func (s *session) environ(ts *testscript.TestScript) []string {
	env := append([]string(nil), s.env...)
	for i, pair := range env {
		name, _, _ := strings.Cut(pair, "=")
		env[i] = name + "=" + ts.Getenv(name)
	}
	return env
}
