package remembrancer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
)

// barFrom is the size in bytes from which hashing shows its progress.
const barFrom = 64 << 20

// openRegular opens a file for reading; a directory, pipe or device is no
// artifact.
func openRegular(name string) (*os.File, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, fileError(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = term.Errorf(term.Usage, "name a file", "%s is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func fileError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return term.As(term.NotFound, "check the file's name", err)
	case errors.Is(err, fs.ErrPermission):
		return term.As(term.NotAllowed, "", err)
	}
	return err
}

// through opens a file and hands its content to fn, with a bar if it is big.
func (d Deps) through(name, doing string, fn func(r io.Reader) error) (size int64, err error) {
	f, size, err := openRegular(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var bar *term.Bar
	if size >= barFrom {
		bar = d.Term.Bytes(doing+" "+filepath.Base(name), size)
	}
	defer bar.Done()
	if err := fn(bar.Reader(f)); err != nil {
		return 0, err
	}
	return size, nil
}

// digest is a file's SHA-256.
type digest [sha256.Size]byte

// String is lower-case hex.
func (d digest) String() string { return hex.EncodeToString(d[:]) }

// hashFile reads a file once, in constant memory.
func (d Deps) hashFile(name string) (digest, int64, error) {
	h := sha256.New()
	var n int64
	_, err := d.through(name, "hashing", func(r io.Reader) (err error) {
		n, err = io.Copy(h, r)
		return err
	})
	if err != nil {
		return digest{}, 0, fmt.Errorf("hash %s: %w", name, err)
	}
	return digest(h.Sum(nil)), n, nil
}

// readFile reads a small regular file, at most most bytes.
func readFile(name string, most int64) ([]byte, error) {
	f, _, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readAtMost(f, most)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// readText reads a file, or standard input for "-".
func (d Deps) readText(name string, most int64) (string, error) {
	var b []byte
	var err error
	if name == "-" {
		b, err = readAtMost(d.Stdin, most)
	} else {
		b, err = readFile(name, most)
	}
	return string(b), err
}

// writeFile replaces a file atomically: a reader sees the old bytes or the new
// ones. A file of other content is kept unless force; equal content is not
// touched. Nothing but a regular file is ever replaced.
func writeFile(name string, content []byte, perm fs.FileMode, force bool) (err error) {
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fileError(err)
	case !info.Mode().IsRegular():
		return term.Errorf(term.Conflict, "remove it or choose another name", "%s is there and not a regular file", name)
	case info.Size() == int64(len(content)):
		if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, content) {
			return nil
		}
		fallthrough
	default:
		if !force {
			return term.Errorf(term.Conflict, "choose another name with --out, or replace it with --force", "%s exists with other content", name)
		}
	}
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+".*")
	if err != nil {
		return fileError(err)
	}
	defer func() {
		if err != nil {
			_ = f.Close() // err says what went wrong first
			_ = os.Remove(f.Name())
		}
	}()
	// Content before name, each synced: a crash leaves the old file or the new one.
	if _, err = f.Write(content); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err = f.Chmod(perm); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err = f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	if err = f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", name, err)
	}
	if err = os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// safeName makes a file name of text from outside: letters, digits, '.', '_'
// and '-', no leading dot, at most 100 bytes; never empty.
func safeName(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.' && b.Len() > 0:
			b.WriteByte(c)
		default:
			b.WriteByte('_')
		}
		if b.Len() == 100 {
			break
		}
	}
	if b.Len() == 0 {
		return "_"
	}
	return b.String()
}
