package harness

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Root is the folder with the main go.mod, above the running test.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above the test")
		}
		dir = up
	}
}

// mains are the commands of the house. A tree without a layer lacks one.
var mains = []string{"vaultmesh", "spawn", "remembrancer", "aurora"}

var binaries = sync.OnceValues(build)

// built is the folder that Main removes, once there is one.
var built string

// Main runs a package's tests and removes the binaries that they built. Use it
// as the body of TestMain.
func Main(m *testing.M) int {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	return code
}

// Binaries builds the commands once for this process, as the tests are built
// (with the race detector or without), and returns their folder.
func Binaries(tb testing.TB) string {
	tb.Helper()
	dir, err := binaries()
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

func build() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	if err := touch(root); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "vaultmesh-bin-")
	if err != nil {
		return "", err
	}
	built = dir
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if raceEnabled {
		args = append(args, "-race")
	}
	found := false
	for _, name := range mains {
		if files, _ := filepath.Glob(filepath.Join(root, "cmd", name, "*.go")); len(files) > 0 {
			args = append(args, "./cmd/"+name)
			found = true
		}
	}
	if !found {
		return dir, nil
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return dir, nil
}

// touch opens every folder of the tree. The go command does not see what the
// compiler that we start reads; it does see this, and so never serves an old
// result of these tests for new sources.
func touch(root string) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && name != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		return err
	})
}
