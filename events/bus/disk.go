package bus

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// FS is the file system as the outbox and the blob store use it: the seam where
// tests inject faults. Disk is the real one.
type FS interface {
	MkdirAll(dir string) error                // with mode 0700
	Open(path string, flag int) (File, error) // as os.OpenFile, with mode 0600
	ReadDir(dir string) ([]string, error)     // names, sorted
	Rename(from, to string) error             //
	Remove(path string) error                 //
	SyncDir(dir string) error                 // makes names in it durable
	Lock(path string) (io.Closer, error)      // exclusive until Close; ErrLocked names the holder
}

// A File is an open file of an FS.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error // an error is final: what was written may be lost
	Truncate(size int64) error
	Size() (int64, error)
}

// ErrLocked means that another process uses the directory.
var ErrLocked = errors.New("in use by another process")

// Disk is the operating system's file system.
func Disk() FS { return disk{} }

type disk struct{}

type diskFile struct{ *os.File }

func (f diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (disk) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (disk) Open(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (disk) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (disk) Rename(from, to string) error { return os.Rename(from, to) }
func (disk) Remove(path string) error     { return os.Remove(path) }

func (disk) SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (disk) Lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid := make([]byte, 20)
		n, _ := f.ReadAt(pid, 0)
		_ = f.Close()
		holder := strings.TrimSpace(string(pid[:n]))
		return nil, fmt.Errorf("%s is %w %s", filepath.Dir(path), ErrLocked, holder)
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

// WriteFile makes a file that is whole and durable, or as it was before, whatever
// happens in between.
func WriteFile(fsys FS, path string, b []byte) error {
	return writeFile(fsys, path+".tmp", path, b)
}

func writeFile(fsys FS, temporary, path string, b []byte) error {
	f, err := fsys.Open(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = fsys.Remove(temporary)
		return err
	}
	if err := fsys.Rename(temporary, path); err != nil {
		_ = fsys.Remove(temporary)
		return err
	}
	return fsys.SyncDir(filepath.Dir(path))
}
