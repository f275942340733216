package bus

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// A Digest is the SHA-256 of a blob in lower-case hexadecimal.
type Digest string

// DigestOf returns the digest of bytes.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(hex.EncodeToString(sum[:]))
}

func (d Digest) valid() bool {
	for _, c := range []byte(d) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return len(d) == 2*sha256.Size
}

// ErrNoBlob means that the store has no blob of the digest.
var ErrNoBlob = errors.New("no such blob")

// DefaultMaxBlob is the largest blob in bytes, unless the store is opened with
// another limit.
const DefaultMaxBlob = 64 << 20

// Blobs is a content-addressed store: what events name by digest. Nothing expires.
// A blob stands in <dir>/<first two digits>/<digest>. It has no goroutines; all
// methods may be called from many at once, and from many processes.
type Blobs struct {
	dir string
	fs  FS
	max int64
	n   atomic.Uint64 // distinguishes temporary files
}

// OpenBlobs opens the store in dir, or makes it. A nil fsys is the disk, a max of 0
// is DefaultMaxBlob.
func OpenBlobs(dir string, fsys FS, max int64) (*Blobs, error) {
	if fsys == nil {
		fsys = Disk()
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("open the blob store: %w", err)
	}
	return &Blobs{dir: dir, fs: fsys, max: cmp.Or(max, DefaultMaxBlob)}, nil
}

func (s *Blobs) path(d Digest) string { return filepath.Join(s.dir, string(d[:2]), string(d)) }

// Put stores bytes and returns their digest. When it returns nil, they are on disk.
// Storing the same again does nothing, unless what is stored is damaged.
func (s *Blobs) Put(ctx context.Context, b []byte) (Digest, error) {
	if int64(len(b)) > s.max {
		return "", fmt.Errorf("%w: a blob of %d bytes, the most is %d", ErrTooLarge, len(b), s.max)
	}
	d := DigestOf(b)
	if err := s.put(ctx, d, b); err != nil {
		if isFull(err) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
		return "", fmt.Errorf("store blob %s: %w", d, err)
	}
	return d, nil
}

func (s *Blobs) put(ctx context.Context, d Digest, b []byte) error {
	switch _, err := s.Get(ctx, d); {
	case err == nil:
		// Another's Put may have renamed it and not yet made the name durable.
		return errors.Join(s.fs.SyncDir(filepath.Dir(s.path(d))), s.fs.SyncDir(s.dir))
	case !errors.Is(err, ErrNoBlob) && !errors.Is(err, ErrCorrupt):
		return err
	}
	shard := filepath.Dir(s.path(d))
	if err := s.fs.MkdirAll(shard); err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	temporary := filepath.Join(shard, fmt.Sprintf(".%s.%d.%d", d, os.Getpid(), s.n.Add(1)))
	return writeFile(s.fs, temporary, s.path(d), b)
}

// Get returns the bytes of a digest: ErrNoBlob if there are none, ErrCorrupt if
// they are not what was stored.
func (s *Blobs) Get(ctx context.Context, d Digest) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := s.open(d)
	if err != nil {
		return nil, fmt.Errorf("read blob %q: %w", d, err)
	}
	size, err := f.Size()
	if err == nil && size > s.max {
		err = fmt.Errorf("%w: %d bytes, the most is %d", ErrCorrupt, size, s.max)
	}
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d, errors.Join(err, f.Close()))
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) && int64(n) == size {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	if got := DigestOf(b); got != d {
		return nil, fmt.Errorf("read blob %s: %w: its bytes have the digest %s", d, ErrCorrupt, got)
	}
	return b, nil
}

// Has reports whether there is a file for the digest; only Get checks its bytes.
func (s *Blobs) Has(ctx context.Context, d Digest) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	f, err := s.open(d)
	if errors.Is(err, ErrNoBlob) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for blob %s: %w", d, err)
	}
	return true, f.Close()
}

func (s *Blobs) open(d Digest) (File, error) {
	if !d.valid() {
		return nil, fmt.Errorf("%w: not a SHA-256 in lower-case hexadecimal", ErrNoBlob)
	}
	f, err := s.fs.Open(s.path(d), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoBlob
	}
	return f, err
}
