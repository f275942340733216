package proof

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
)

const tlogProofHeader = "c2sp.org/tlog-proof@v1\n"

// MaxExtra is the most bytes of application data in a TLogProof.
const MaxExtra = 8 << 10

// MaxTLogProof is the largest proof file in bytes.
const MaxTLogProof = MaxCheckpoint + 2*MaxExtra + (MaxPath+4)*(hash64Size+1)

// A TLogProof is the file that proves one entry of a log to someone who has only
// the log's key (C2SP tlog-proof).
type TLogProof struct {
	Index      uint64 // of the entry, from 0
	Hashes     []Hash // inclusion path, lowest level first
	Checkpoint []byte // signed note, with or without cosignatures
	Extra      []byte // application data; nobody signed it; nil without
}

func encode64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// Marshal returns the file's bytes.
func (p TLogProof) Marshal() []byte {
	var b bytes.Buffer
	b.WriteString(tlogProofHeader)
	if p.Extra != nil {
		fmt.Fprintf(&b, "extra %s\n", encode64(p.Extra))
	}
	fmt.Fprintf(&b, "index %d\n", p.Index)
	for _, h := range p.Hashes {
		b.WriteString(h.String() + "\n")
	}
	b.WriteByte('\n')
	b.Write(p.Checkpoint)
	return b.Bytes()
}

// ParseTLogProof reads a proof file in its one spelling: what it returns
// marshals to the same bytes. Signature and path are not checked yet; the index
// is below the size that the checkpoint claims.
func ParseTLogProof(file []byte) (TLogProof, error) {
	p, err := parseTLogProof(file)
	if err != nil {
		return TLogProof{}, fmt.Errorf("parse tlog-proof: %w", err)
	}
	return p, nil
}

func parseTLogProof(file []byte) (TLogProof, error) {
	var p TLogProof
	if len(file) > MaxTLogProof {
		return p, fmt.Errorf("%d bytes, the most is %d: %w", len(file), MaxTLogProof, ErrMalformed)
	}
	s, ok := strings.CutPrefix(string(file), tlogProofHeader)
	if !ok {
		return p, fmt.Errorf("first line is not %q: %w", strings.TrimSpace(tlogProofHeader), ErrMalformed)
	}
	head, note, ok := strings.Cut(s, "\n\n")
	if !ok {
		return p, fmt.Errorf("no empty line before the checkpoint: %w", ErrMalformed)
	}
	lines := strings.Split(head, "\n")
	var err error
	if extra, ok := strings.CutPrefix(lines[0], "extra "); ok {
		if p.Extra, err = parseBase64(extra); err != nil || len(p.Extra) > MaxExtra {
			return p, fmt.Errorf("extra line: not base64 or over %d bytes: %w", MaxExtra, ErrMalformed)
		}
		lines = lines[1:]
	}
	if len(lines) == 0 {
		return p, fmt.Errorf("no index line: %w", ErrMalformed)
	}
	index, ok := strings.CutPrefix(lines[0], "index ")
	if !ok {
		return p, fmt.Errorf("want an index line, have %q: %w", clip(lines[0]), ErrMalformed)
	}
	if p.Index, err = parseDecimal(index, MaxTreeSize); err != nil {
		return p, err
	}
	if lines = lines[1:]; len(lines) > MaxPath {
		return p, fmt.Errorf("%d hashes, the most is %d: %w", len(lines), MaxPath, ErrMalformed)
	}
	for _, line := range lines {
		h, err := ParseHash(line)
		if err != nil {
			return p, err
		}
		p.Hashes = append(p.Hashes, h)
	}
	p.Checkpoint = []byte(note)
	if len(p.Checkpoint) > MaxCheckpoint {
		return p, fmt.Errorf("checkpoint of %d bytes, the most is %d: %w", len(p.Checkpoint), MaxCheckpoint, ErrMalformed)
	}
	text, err := splitNote(p.Checkpoint)
	if err != nil {
		return p, err
	}
	c, err := parseCheckpoint(text)
	if err != nil {
		return p, err
	}
	if p.Index >= c.Size {
		return p, fmt.Errorf("index %d in a log of %d entries: %w", p.Index, c.Size, ErrMalformed)
	}
	return p, nil
}

// VerifyTLogProof checks a proof file with nothing but the log's key: the
// checkpoint is signed by it, and leaf stands at the returned index below its
// root.
func VerifyTLogProof(file []byte, leaf Hash, vkey string) (Checkpoint, uint64, error) {
	p, err := ParseTLogProof(file)
	if err != nil {
		return Checkpoint{}, 0, err
	}
	c, err := OpenCheckpoint(p.Checkpoint, vkey)
	if err != nil {
		return Checkpoint{}, 0, err
	}
	if err := VerifyInclusion(leaf, p.Index, c.Size, p.Hashes, c.Root); err != nil {
		return Checkpoint{}, 0, err
	}
	return c, p.Index, nil
}
