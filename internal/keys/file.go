package keys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// MaxSecretBytes caps a secret file: far more than any key needs.
const MaxSecretBytes = 64 << 10

// The reasons for which a secret file is refused. A missing file is
// [fs.ErrNotExist].
var (
	// ErrExists: a file is there already. Move it away, or use
	// [ReplaceSecret].
	ErrExists = errors.New("secret file exists already")
	// ErrExposed: others than the owner may read or write the file. The error
	// says which chmod mends it; the secret may have leaked before.
	ErrExposed = errors.New("secret file is open to others")
	// ErrNotPlain: the path is a symbolic link, a directory or a device.
	ErrNotPlain = errors.New("secret is not a plain file")
	// ErrSize: the secret is empty or over [MaxSecretBytes].
	ErrSize = errors.New("secret file is empty or too large")
)

// WriteSecret creates path with mode 0600 and exactly these bytes. After a
// crash the file is there whole or not at all. It refuses to overwrite with
// [ErrExists], also when two processes try at once. The directory must exist
// and support hard links.
func WriteSecret(path string, secret []byte) error {
	return write(path, secret, func(tmp string) error {
		// Link, unlike rename, fails if path exists.
		err := os.Link(tmp, path)
		if errors.Is(err, fs.ErrExist) {
			return ErrExists
		}
		return err
	})
}

// ReplaceSecret is WriteSecret that overwrites: readers see the old bytes or
// the new ones.
func ReplaceSecret(path string, secret []byte) error {
	return write(path, secret, func(tmp string) error { return os.Rename(tmp, path) })
}

// write puts secret beside path and lets place bring it there. The order keeps
// the promise: bytes are on disk before the name is (step 1 before 2), and the
// name is on disk before we return (3).
func write(path string, secret []byte, place func(tmp string) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write secret %s: %w", path, err)
		}
	}()
	if len(secret) == 0 || len(secret) > MaxSecretBytes {
		return fmt.Errorf("%d bytes, 1 to %d allowed: %w", len(secret), MaxSecretBytes, ErrSize)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".secret-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone already when all went well
	// 1. Bytes and mode reach the disk.
	_, err = f.Write(secret)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	// 2. The name appears.
	if err := place(f.Name()); err != nil {
		return err
	}
	// 3. The directory reaches the disk.
	return syncDir(dir)
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // directories cannot be synced there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadSecret returns the bytes of path. It refuses a file that the group or
// others may read or write ([ErrExposed]), symbolic links and anything but a
// plain file ([ErrNotPlain]), and sizes outside 1 to [MaxSecretBytes]
// ([ErrSize]).
func ReadSecret(path string) ([]byte, error) {
	secret, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", path, err)
	}
	return secret, nil
}

func read(path string) ([]byte, error) {
	named, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !named.Mode().IsRegular() {
		return nil, fmt.Errorf("it is a %s: %w", kind(named.Mode()), ErrNotPlain)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Judge what was opened: the name may have changed hands since.
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(named, info) {
		return nil, fmt.Errorf("it was replaced while being opened: %w", ErrNotPlain)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("mode is %04o; mend it with: chmod 600 %q: %w", perm, path, ErrExposed)
	}
	secret, err := io.ReadAll(io.LimitReader(f, MaxSecretBytes+1))
	if err != nil {
		return nil, err
	}
	if len(secret) == 0 || len(secret) > MaxSecretBytes {
		return nil, fmt.Errorf("1 to %d bytes allowed: %w", MaxSecretBytes, ErrSize)
	}
	return secret, nil
}

func kind(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m.IsDir():
		return "directory"
	}
	return "special file"
}
