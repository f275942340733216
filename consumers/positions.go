package consumers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
)

// FilePositions keeps one file per consumer, <dir>/<name>.position.
type FilePositions struct {
	dir string
	fs  bus.FS
}

type position struct {
	Consumer string `json:"consumer"`
	Next     uint64 `json:"next"`
}

// OpenFilePositions opens the store in dir, or makes it. A nil fsys is the disk.
func OpenFilePositions(dir string, fsys bus.FS) (*FilePositions, error) {
	s := &FilePositions{dir, cmp.Or(fsys, bus.Disk())}
	if err := s.fs.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("open the consumers' positions: %w", err)
	}
	return s, nil
}

func (s *FilePositions) path(consumer string) string {
	return filepath.Join(s.dir, events.Token(consumer)+".position")
}

// Load implements PositionStore.
func (s *FilePositions) Load(_ context.Context, consumer string) (uint64, error) {
	p, err := s.load(consumer)
	if err != nil {
		return 0, fmt.Errorf("load the position of %s: %w", consumer, err)
	}
	return p.Next, nil
}

func (s *FilePositions) load(consumer string) (p position, err error) {
	f, err := s.fs.Open(s.path(consumer), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 4<<10))
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(b, &p); err != nil || p.Consumer != consumer {
		return p, fmt.Errorf("%s is %w: remove it to begin at the first event again", s.path(consumer), bus.ErrCorrupt)
	}
	return p, nil
}

// Store implements PositionStore.
func (s *FilePositions) Store(_ context.Context, consumer string, next uint64) error {
	b, err := json.Marshal(position{consumer, next})
	if err == nil {
		err = bus.WriteFile(s.fs, s.path(consumer), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("store the position of %s: %w", consumer, err)
	}
	return nil
}
