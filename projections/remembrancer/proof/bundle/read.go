package bundle

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"strings"
)

// Limits bound what Read takes in. A zero field means its default.
type Limits struct {
	Compressed int64 // bytes of the archive
	Total      int64 // bytes of all files together, all of them in memory
	Entries    int   // files
	Ratio      int64 // how many times larger than the archive the content may be
}

// DefaultLimits fit every bundle that Write makes. With them Read needs at most
// 64 MiB of memory, whatever it is given.
var DefaultLimits = Limits{Compressed: 16 << 20, Total: 24 << 20, Entries: 256, Ratio: 100}

func (l Limits) orDefault() Limits {
	if l.Compressed <= 0 {
		l.Compressed = DefaultLimits.Compressed
	}
	if l.Total <= 0 {
		l.Total = DefaultLimits.Total
	}
	if l.Entries <= 0 {
		l.Entries = DefaultLimits.Entries
	}
	if l.Ratio <= 0 {
		l.Ratio = DefaultLimits.Ratio
	}
	return l
}

// A Bundle is a proof bundle in memory: well-formed, not verified.
type Bundle struct {
	Manifest Manifest
	files    map[string][]byte
}

// File returns a file of the bundle, or nil. The caller must not change it.
func (b *Bundle) File(path string) []byte { return b.files[path] }

// Read reads an archive that anyone may have made. It follows no link, writes
// nothing anywhere and keeps what it reads in memory, within the limits. What is
// not exactly a bundle is refused with an *EntryError that names entry and rule,
// or with ErrVersion. Errors of r come back as they are.
func Read(r io.Reader, limits Limits) (*Bundle, error) {
	limits = limits.orDefault()
	in := &source{r: r, left: limits.Compressed}
	// gzip and tar buffer nothing behind this reader, so that bytes after the
	// gzip stream can be seen.
	buffered := bufio.NewReader(in)
	zr, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, in.explain("", "not a gzip archive", err)
	}
	zr.Multistream(false)
	if zr.Name != "" || zr.Comment != "" || len(zr.Extra) > 0 {
		return nil, refuse("", "the gzip header holds more than a bundle's")
	}
	content := &inflated{r: zr, in: in, ratio: limits.Ratio, left: limits.Total + int64(limits.Entries+4)*1024 + maxPadding}
	files, err := readEntries(tar.NewReader(content), in, limits)
	if err != nil {
		return nil, err
	}
	if err := readPadding(content, in); err != nil {
		return nil, err
	}
	if _, err := buffered.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, in.explain("", "bytes after the archive", err)
	}
	return open(files)
}

// readEntries reads the files, which must be regular and have a place in the
// layout: that alone excludes absolute paths, "..", folders, links and devices.
func readEntries(tr *tar.Reader, in *source, limits Limits) (map[string][]byte, error) {
	files, folded := make(map[string][]byte), make(map[string]bool)
	left := limits.Total
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, in.explain("", "not a tar archive", err)
		}
		if h.Typeflag != tar.TypeReg {
			return nil, refuse(h.Name, "only regular files may be inside, this is of type %q", h.Typeflag)
		}
		for key := range h.PAXRecords {
			if key != "path" {
				return nil, refuse(h.Name, "extended header %q", clip(key))
			}
		}
		most, ok := sizeCap(h.Name)
		fold := strings.ToLower(h.Name)
		switch {
		case !ok:
			return nil, refuse(h.Name, "no such file in a bundle")
		case folded[fold]:
			return nil, refuse(h.Name, "stands twice in the archive")
		case len(files) >= limits.Entries:
			return nil, refuse(h.Name, "over %d files", limits.Entries)
		case h.Size > int64(most):
			return nil, refuse(h.Name, "%d bytes, the most is %d", h.Size, most)
		case h.Size > left:
			return nil, refuse(h.Name, "the files together have over %d bytes", limits.Total)
		}
		b := make([]byte, h.Size)
		if _, err := io.ReadFull(tr, b); err != nil {
			return nil, in.explain(h.Name, "cut short", err)
		}
		files[h.Name], folded[fold] = b, true
		left -= h.Size
	}
}

// maxPadding is what may follow tar's end mark; tar rounds up to 10 KiB.
const maxPadding = 64 << 10

func readPadding(content io.Reader, in *source) error {
	b, err := io.ReadAll(io.LimitReader(content, maxPadding+1))
	if err != nil {
		return in.explain("", "the end of the archive", err)
	}
	if len(b) > maxPadding || strings.Trim(string(b), "\x00") != "" {
		return refuse("", "bytes after the end of the tar archive")
	}
	return nil
}

// open compares the files with the manifest.
func open(files map[string][]byte) (*Bundle, error) {
	raw, ok := files[manifestPath]
	if !ok {
		return nil, refuse(manifestPath, "it is not there")
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	for _, f := range m.Files {
		b, ok := files[f.Path]
		switch {
		case !ok:
			return nil, refuse(f.Path, "the manifest lists it, the archive does not hold it")
		case len(b) != f.Size || digest(b) != f.SHA256:
			return nil, refuse(f.Path, "size or SHA-256 differs from the manifest")
		}
	}
	if len(files) != len(m.Files)+1 {
		for path := range files {
			if path != manifestPath && !m.lists(path) {
				return nil, refuse(path, "the manifest does not list it")
			}
		}
	}
	b := &Bundle{Manifest: m, files: files}
	if err := b.checkPieces(); err != nil {
		return nil, err
	}
	return b, nil
}

func (m Manifest) lists(path string) bool {
	for _, f := range m.Files {
		if f.Path == path {
			return true
		}
	}
	return false
}

// source counts the compressed bytes and keeps the reader's own error, which
// must not look like a fault of the archive.
type source struct {
	r    io.Reader
	read int64
	left int64
	err  error // of r, other than io.EOF
	full bool  // over the limit
}

func (s *source) Read(p []byte) (int, error) {
	if s.left <= 0 {
		// One byte more tells an archive of exactly the limit from a longer one.
		if n, _ := io.ReadFull(s.r, make([]byte, 1)); n == 0 {
			return 0, io.EOF
		}
		s.full = true
		return 0, errTooLong
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	s.read += int64(n)
	s.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

var (
	errTooLong = errors.New("archive over its size limit")
	errRatio   = errors.New("content is out of proportion to the archive")
	errContent = errors.New("content over its size limit")
)

// explain turns a failure while reading into the reader's own error, a broken
// limit, or the given rule.
func (s *source) explain(entry, rule string, err error) error {
	switch {
	case s.err != nil:
		return s.err
	case s.full:
		return refuse(entry, "%v", errTooLong)
	case errors.Is(err, errRatio), errors.Is(err, errContent):
		return refuse(entry, "%v", err)
	}
	return refuse(entry, "%s", rule)
}

// inflated bounds what comes out of the decompressor.
type inflated struct {
	r     io.Reader
	in    *source
	ratio int64
	left  int64
	out   int64
}

// ratioFree is how much content any archive may have, since tar pads files.
const ratioFree = 1 << 20

func (i *inflated) Read(p []byte) (int, error) {
	if i.left <= 0 {
		return 0, errContent
	}
	n, err := i.r.Read(p[:min(int64(len(p)), i.left)])
	i.out += int64(n)
	i.left -= int64(n)
	if i.out > ratioFree && i.out/i.ratio > i.in.read {
		return n, errRatio
	}
	return n, err
}
