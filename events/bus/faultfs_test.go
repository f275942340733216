package bus_test

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"vaultmesh.cloud/vaultmesh/events/bus"
)

// faultFS is a file system in memory that can crash: what was not synced may be lost
// in part, and in any order of pages. Its faults have names.
type faultFS struct {
	mu    sync.Mutex
	files map[string]*faultFile // as a running process sees them
	names map[string]*faultFile // as a crash leaves them: synced by SyncDir
	locks map[string]bool

	failSync  int // the n-th Sync from now fails with EIO; 0 is none
	failWrite int // the n-th WriteAt from now writes half and fails with ENOSPC
}

type faultFile struct {
	fs     *faultFS
	data   []byte
	synced []byte
}

var errEIO = errors.New("input/output error")

func newFaultFS() *faultFS {
	return &faultFS{files: map[string]*faultFile{}, names: map[string]*faultFile{}, locks: map[string]bool{}}
}

const page = 64 // small, so that small tests tear records

// crash returns the file system after a power cut: of unsynced bytes each page
// survives with the given probability.
func (f *faultFS) crash(r *rand.Rand, keep float64) *faultFS {
	f.mu.Lock()
	defer f.mu.Unlock()
	after := newFaultFS()
	for name, file := range f.names {
		data := slices.Clone(file.synced)
		if r.Float64() < keep && len(file.data) > len(data) {
			data = append(data, make([]byte, r.IntN(len(file.data)-len(data)+1))...)
		}
		for i := 0; i < len(data); i += page {
			end := min(i+page, len(data), len(file.data))
			if i < end && r.Float64() < keep {
				from := max(i, min(len(file.synced), end))
				copy(data[from:end], file.data[from:end])
			}
		}
		n := &faultFile{fs: after, data: data, synced: slices.Clone(data)}
		after.files[name], after.names[name] = n, n
	}
	return after
}

func (f *faultFS) MkdirAll(string) error { return nil }

func (f *faultFS) Open(path string, flag int) (bus.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, ok := f.files[path]
	switch {
	case ok && flag&os.O_EXCL != 0:
		return nil, fs.ErrExist
	case !ok && flag&os.O_CREATE == 0:
		return nil, fs.ErrNotExist
	case !ok:
		file = &faultFile{fs: f}
		f.files[path] = file
	}
	if flag&os.O_TRUNC != 0 {
		file.data = nil
	}
	return file, nil
}

func (f *faultFS) ReadDir(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for path := range f.files {
		if filepath.Dir(path) == dir {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (f *faultFS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, ok := f.files[from]
	if !ok {
		return fs.ErrNotExist
	}
	delete(f.files, from)
	f.files[to] = file
	return nil
}

func (f *faultFS) Remove(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.files, path)
	return nil
}

func (f *faultFS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.names, func(path string, _ *faultFile) bool { return filepath.Dir(path) == dir })
	for path, file := range f.files {
		if filepath.Dir(path) == dir {
			f.names[path] = file
		}
	}
	return nil
}

type unlock func()

func (u unlock) Close() error { u(); return nil }

func (f *faultFS) Lock(path string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locks[path] {
		return nil, bus.ErrLocked
	}
	f.locks[path] = true
	return unlock(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.locks, path)
	}), nil
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	var err error
	if f.fs.failWrite > 0 {
		if f.fs.failWrite--; f.fs.failWrite == 0 {
			p, err = p[:len(p)/2], errFull
		}
	}
	if need := int(off) + len(p); need > len(f.data) {
		f.data = append(f.data, make([]byte, need-len(f.data))...)
	}
	return copy(f.data[off:], p), err
}

func (f *faultFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.failSync > 0 {
		if f.fs.failSync--; f.fs.failSync == 0 {
			return errEIO
		}
	}
	f.synced = slices.Clone(f.data)
	return nil
}

func (f *faultFile) Truncate(n int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.data = f.data[:n]
	return nil
}

func (f *faultFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.data)), nil
}

func (f *faultFile) Close() error { return nil }

// segments returns the paths that end in a suffix.
func (f *faultFS) paths(suffix string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for path := range f.files {
		if strings.HasSuffix(path, suffix) {
			out = append(out, path)
		}
	}
	slices.Sort(out)
	return out
}
