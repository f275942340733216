package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

// Names in the data directory.
const (
	NodeFile   = "node.json"
	LockFile   = "node.lock"
	SocketFile = "node.sock"
	CredsDir   = "creds"
	KeysDir    = "keys"
	BrokerDir  = "jetstream"
	BlobsDir   = "blobs"
)

// authorityDir holds the keys that sign NATS credentials.
var authorityDir = filepath.Join(KeysDir, "nats")

// ErrInUse means that another process works on the data directory.
var ErrInUse = errors.New("the data directory is in use")

// addresses is node.json: where a running node is.
type addresses struct {
	HTTP   string `json:"http"`
	NATS   string `json:"nats"`
	Origin string `json:"origin"`
	PID    int    `json:"pid"`
}

// ReadNodeFile reads node.json of a data directory. It stands there while a node
// listens, and after a crash.
func ReadNodeFile(dir string) (httpURL, natsURL, origin string, pid int, err error) {
	var a addresses
	b, err := os.ReadFile(filepath.Join(dir, NodeFile))
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	return a.HTTP, a.NATS, a.Origin, a.PID, err
}

// openDir makes the data directory and the ones that every node has, or checks the
// one that is there: what others could have read or written is not trusted.
func openDir(dir string) error {
	if dir == "" {
		return term.Errorf(term.Usage, "give --data DIR", "no data directory")
	}
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = adopt(dir)
	}
	if err != nil {
		return term.As(term.NotAllowed, "name a directory of yours with --data DIR or VAULTMESH_DATA", fmt.Errorf("data directory: %w", err))
	}
	if problems := CheckDir(dir); len(problems) > 0 {
		return term.Errorf(term.NotAllowed, problems[0].Mend, "data directory: %s", problems[0].What)
	}
	for _, sub := range []string{KeysDir, authorityDir, CredsDir, BrokerDir, BlobsDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	return nil
}

// adopt makes an empty directory ours, as one that was made by a mount or a test.
func adopt(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil || len(entries) > 0 || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	return os.Chmod(dir, 0o700) //nolint:gosec // a directory needs its x bits
}

// CheckDir returns what is wrong with the permissions of a data directory and of the
// secrets in it.
func CheckDir(dir string) []Finding {
	var out []Finding
	info, err := os.Stat(dir)
	if err != nil {
		return []Finding{{What: err.Error(), Mend: "start a node there with vaultmesh up"}}
	}
	if !info.IsDir() {
		return []Finding{{What: dir + " is not a directory", Mend: "name a directory with --data"}}
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		out = append(out, Finding{fmt.Sprintf("%s belongs to user %d, not to you (%d)", dir, owner.Uid, os.Geteuid()), "run as that user, or name another directory with --data"})
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		out = append(out, Finding{fmt.Sprintf("%s has mode %04o: others can look into it", dir, mode), "chmod 700 " + dir})
	}
	for _, sub := range []string{KeysDir, CredsDir} {
		err := filepath.WalkDir(filepath.Join(dir, sub), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() || public(path) {
				return nil //nolint:nilerr // a file that is just being renamed, or holds no secret
			}
			if mode := info.Mode().Perm(); mode&0o077 != 0 {
				out = append(out, Finding{fmt.Sprintf("%s has mode %04o: others can read a secret", path, mode), "chmod 600 " + path + ", and think about replacing it"})
			}
			return nil
		})
		if err != nil {
			out = append(out, Finding{err.Error(), "make the directory readable for you"})
		}
	}
	return out
}

// public reports whether a file in keys/ or creds/ is for everybody by its name.
func public(path string) bool {
	return strings.HasSuffix(path, ".asc") || strings.HasSuffix(path, ".vkey") || strings.HasSuffix(path, "-root.pem")
}

// lockDir takes the data directory for this process until the file is closed. The
// kernel frees the lock of a process that died.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, LockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		_ = f.Close()
		return nil, inUse(dir)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// inUse names who holds the lock, as far as the files tell.
func inUse(dir string) error {
	who := "another process"
	if b, err := os.ReadFile(filepath.Join(dir, LockFile)); err == nil && len(b) > 0 && len(b) < 20 {
		who = "process " + strings.TrimSpace(string(b))
	}
	if httpURL, _, _, pid, err := ReadNodeFile(dir); err == nil && pid > 0 {
		who = fmt.Sprintf("the node of process %d at %s", pid, httpURL)
	}
	return term.As(term.Conflict, "stop it, use it through --node, or name another directory with --data",
		fmt.Errorf("%w: %s is held by %s", ErrInUse, dir, who))
}

// WriteFile writes a file that is whole or as before after a crash.
func WriteFile(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	temporary := f.Name()
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// diskFree returns how many bytes this user may still write below dir.
func diskFree(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("ask for free space in %s: %w", dir, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert // other systems have other types
}

// diskUsed returns the bytes in the files below dir.
func diskUsed(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			sum += info.Size()
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	})
	return sum, err
}
