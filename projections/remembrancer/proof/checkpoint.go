package proof

import (
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// MaxCheckpoint is the largest checkpoint in bytes, cosignatures included.
const MaxCheckpoint = 64 << 10

// A Checkpoint is a signed tree head (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin     string   // name of the log and of its key
	Size       uint64   // leaves
	Root       Hash     // RFC 6962 root of these leaves
	Extensions []string // further lines of the text; our own logs write none
}

// Text returns the text that is signed.
func (c Checkpoint) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d\n%v\n", c.Origin, c.Size, c.Root)
	for _, line := range c.Extensions {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// SignCheckpoint returns the signed note of a head. The signer's name must be
// the origin. Whether this head may be signed at all is the caller's duty: two
// different roots for one size are equivocation.
func SignCheckpoint(origin string, size uint64, root Hash, signer note.Signer) ([]byte, error) {
	c := Checkpoint{Origin: origin, Size: size, Root: root}
	if signer.Name() != origin {
		return nil, fmt.Errorf("sign checkpoint of %q with a key named %q: %w", clip(origin), clip(signer.Name()), ErrOrigin)
	}
	if _, err := parseCheckpoint(c.Text()); err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	b, err := note.Sign(&note.Note{Text: c.Text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint of %s at %d: %w", origin, size, err)
	}
	return b, nil
}

// OpenCheckpoint checks the log's signature and returns the head. The origin
// must be the name of vkey. Other signature lines are allowed and not checked;
// for those of witnesses use VerifyCosignatures.
func OpenCheckpoint(noteBytes []byte, vkey string) (Checkpoint, error) {
	text, origin, err := openNote(noteBytes, vkey, MaxCheckpoint)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("open checkpoint: %w", err)
	}
	c, err := parseCheckpoint(text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("open checkpoint: %w", err)
	}
	if c.Origin != origin {
		return Checkpoint{}, fmt.Errorf("open checkpoint: signed by %s for %s: %w", origin, clip(c.Origin), ErrOrigin)
	}
	return c, nil
}

// parseCheckpoint reads the text of a checkpoint in its one spelling.
func parseCheckpoint(text string) (Checkpoint, error) {
	body, ok := strings.CutSuffix(text, "\n")
	lines := strings.Split(body, "\n")
	if !ok || len(lines) < 3 {
		return Checkpoint{}, fmt.Errorf("checkpoint of %d lines, want at least 3: %w", len(lines), ErrMalformed)
	}
	c := Checkpoint{Origin: lines[0]}
	err := CheckOrigin(c.Origin)
	if err == nil {
		c.Size, err = parseDecimal(lines[1], MaxTreeSize)
	}
	if err == nil {
		c.Root, err = ParseHash(lines[2])
	}
	if err == nil && c.Size == 0 && c.Root != EmptyRoot {
		err = fmt.Errorf("an empty log has another root: %w", ErrMalformed)
	}
	if err != nil {
		return Checkpoint{}, err
	}
	for _, line := range lines[3:] {
		if line == "" {
			return Checkpoint{}, fmt.Errorf("empty extension line: %w", ErrMalformed)
		}
		c.Extensions = append(c.Extensions, line)
	}
	return c, nil
}
