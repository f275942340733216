package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/canon"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/reads"
)

// PrivateDir keeps private texts that can be forgotten, one file for each
// commitment, named by its digest. Delete unlinks the file and syncs the
// directory; it does not overwrite blocks, which no file system promises to do
// in place. Whoever needs more encrypts the disk and destroys its key. A text
// whose event was never published stays until someone deletes it.
type PrivateDir struct {
	dir string
	fs  bus.FS
}

// maxPrivate bounds a file in bytes: an event's text, escaped, with its salt.
const maxPrivate = 512 << 10

// OpenPrivateDir makes the directory if needed and clears away what a crash left
// half-written.
func OpenPrivateDir(fsys bus.FS, dir string) (*PrivateDir, error) {
	d := &PrivateDir{dir, fsys}
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make the store of private texts: %w", err)
	}
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the store of private texts: %w", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".tmp") {
			if err := fsys.Remove(filepath.Join(dir, name)); err != nil {
				return nil, fmt.Errorf("clear the store of private texts: %w", err)
			}
		}
	}
	return d, nil
}

func (d *PrivateDir) path(commitment string) (string, error) {
	digest, ok := strings.CutPrefix(commitment, "sha256:")
	if !ok || !events.IsSHA256(digest) {
		return "", fmt.Errorf("%w: a commitment is sha256: and 64 lower-case hex digits", reads.ErrBadRequest)
	}
	return filepath.Join(d.dir, digest+".json"), nil
}

// Put implements PrivateStore.
func (d *PrivateDir) Put(commitment string, p events.Private) error {
	path, err := d.path(commitment)
	if err != nil {
		return err
	}
	if err := p.Open(commitment); err != nil {
		return err
	}
	b, err := canon.Marshal(p)
	if err != nil {
		return fmt.Errorf("keep private text: %w", err)
	}
	if len(b) > maxPrivate {
		return fmt.Errorf("%w: private text of %d bytes, the most is %d", ErrTooLarge, len(b), maxPrivate)
	}
	if err := bus.WriteFile(d.fs, path, b); err != nil {
		return fmt.Errorf("keep private text: %w", err)
	}
	return nil
}

// Get implements PrivateStore.
func (d *PrivateDir) Get(commitment string) (p events.Private, err error) {
	path, err := d.path(commitment)
	if err != nil {
		return p, err
	}
	f, err := d.fs.Open(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return p, redacted(commitment)
	}
	if err != nil {
		return p, fmt.Errorf("read private text: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil || size > maxPrivate {
		return p, errors.Join(fmt.Errorf("read private text %s: %d bytes", commitment, size), err)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return p, fmt.Errorf("read private text: %w", err)
	}
	if err := canon.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("read private text %s: %w", commitment, err)
	}
	return p, p.Open(commitment)
}

// Delete implements PrivateStore.
func (d *PrivateDir) Delete(commitment string) error {
	path, err := d.path(commitment)
	if err != nil {
		return err
	}
	err = d.fs.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return redacted(commitment)
	}
	if err == nil {
		err = d.fs.SyncDir(d.dir)
	}
	if err != nil {
		return fmt.Errorf("delete private text: %w", err)
	}
	return nil
}

func redacted(commitment string) error {
	return fmt.Errorf("%w: private text %s is not on this node, or was redacted", reads.ErrNotFound, commitment)
}
