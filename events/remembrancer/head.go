package remembrancer

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/canon"
)

// Formats of the messages on HEADS and SEALS.
const (
	HeadFormat = "vaultmesh.cloud/head/v1"
	SealFormat = "vaultmesh.cloud/seal/v1"
)

// Bounds of these messages, in characters.
const (
	maxNote      = 16 << 10
	maxLine      = 4 << 10
	maxSealToken = 128 << 10 // base64 of 96 KiB
)

// A Head is a message on HEADS: a signed checkpoint.
type Head struct {
	Format        string `json:"format"`
	Origin        string `json:"origin"`
	Size          uint64 `json:"size"`                 // leaves
	Root          string `json:"root"`                 // base64
	Substantive   uint64 `json:"substantive,omitzero"` // leaves that are not housekeeping
	Checkpoint    string `json:"checkpoint"`           // the exact bytes of the signed note
	CheckpointASC string `json:"checkpoint_asc"`       // armored OpenPGP signature over them
	Time          string `json:"time"`                 // by the signer's clock
}

// NewHead fills a head in.
func NewHead(origin string, size uint64, root string, substantive uint64, checkpoint, asc string, at time.Time) Head {
	return Head{HeadFormat, origin, size, root, substantive, checkpoint, asc, events.FormatTime(at)}
}

// Check says what is wrong with the head's form.
func (h Head) Check() error {
	var c events.Checker
	c.OneOf("format", h.Format, HeadFormat)
	c.Name("origin", h.Origin, 1, maxOrigin)
	c.Integer("size", int64(min(h.Size, 1<<62)), 1, events.MaxExact)
	checkRoot(&c, h.Root)
	c.Integer("substantive", int64(min(h.Substantive, 1<<62)), 0, events.MaxExact)
	c.Text("checkpoint", h.Checkpoint, 1, maxNote)
	c.Text("checkpoint_asc", h.CheckpointASC, 1, MaxSignature)
	c.Time("time", h.Time)
	if err := c.Err(); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	return nil
}

// Kinds of seals.
const (
	SealToken       = "rfc3161"
	SealCosignature = "cosignature"
)

// A Seal is a message on SEALS: a token or a cosignature of a checkpoint.
type Seal struct {
	Format      string `json:"format"`
	Origin      string `json:"origin"`
	Size        uint64 `json:"size"` // of the checkpoint
	Root        string `json:"root"` // base64
	Kind        string `json:"kind"`
	Token       string `json:"token,omitempty"`        // base64 of the DER TimeStampResp over the checkpoint's bytes
	TokenSHA256 string `json:"token_sha256,omitempty"` // of the DER
	TSA         string `json:"tsa,omitempty"`
	GenTime     string `json:"gen_time,omitempty"`
	Line        string `json:"line,omitempty"` // the signature line of a witness
}

// NewTokenSeal returns the seal of a head's token.
func NewTokenSeal(h Head, token, tokenSHA256, tsa string, genTime time.Time) Seal {
	return Seal{Format: SealFormat, Origin: h.Origin, Size: h.Size, Root: h.Root, Kind: SealToken, Token: token, TokenSHA256: tokenSHA256, TSA: tsa, GenTime: events.FormatTime(genTime)}
}

// Check says what is wrong with the seal's form.
func (s Seal) Check() error {
	var c events.Checker
	c.OneOf("format", s.Format, SealFormat)
	c.Name("origin", s.Origin, 1, maxOrigin)
	c.Integer("size", int64(min(s.Size, 1<<62)), 1, events.MaxExact)
	checkRoot(&c, s.Root)
	c.OneOf("kind", s.Kind, SealToken, SealCosignature)
	switch s.Kind {
	case SealToken:
		c.Name("line", s.Line, 0, 0)
		c.Base64("token", s.Token, maxSealToken)
		c.SHA256("token_sha256", s.TokenSHA256)
		c.Name("tsa", s.TSA, 1, maxTSA)
		c.Time("gen_time", s.GenTime)
	case SealCosignature:
		c.Text("token", s.Token+s.TokenSHA256+s.TSA+s.GenTime, 0, 0)
		c.Name("line", s.Line, 1, maxLine)
	}
	if err := c.Err(); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

// StampedBy returns the event that records a token, and its time.
func StampedBy(s Seal) (*LedgerStamped, time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, s.GenTime)
	if err != nil {
		return nil, at, fmt.Errorf("seal of size %d: %w", s.Size, err)
	}
	root, err := base64.StdEncoding.DecodeString(s.Root)
	if err != nil {
		return nil, at, fmt.Errorf("seal of size %d: %w", s.Size, err)
	}
	return &LedgerStamped{Origin: s.Origin, Size: int64(s.Size), Root: hex.EncodeToString(root), TokenSHA256: s.TokenSHA256, TSA: s.TSA, GenTime: s.GenTime}, at, nil
}

// ParseHead reads and checks a message of HEADS. What its signatures are worth
// is for the package proof to say.
func ParseHead(raw []byte) (Head, error) {
	var h Head
	if err := unmarshal(raw, &h); err != nil {
		return h, fmt.Errorf("head: %w", err)
	}
	return h, h.Check()
}

// ParseSeal reads and checks a message of SEALS. What its token or cosignature
// is worth is for the package proof to say.
func ParseSeal(raw []byte) (Seal, error) {
	var s Seal
	if err := unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("seal: %w", err)
	}
	return s, s.Check()
}

func unmarshal(raw []byte, v any) error {
	b, err := canon.Canonicalize(raw)
	if err != nil {
		return err
	}
	return events.Unmarshal(b, v)
}

// checkRoot checks the base64 of 32 bytes, the last of whose 43 digits holds
// only four bits.
func checkRoot(c *events.Checker, root string) {
	c.Base64("root", root, 44)
	if len(root) != 44 || root[43] != '=' || !strings.ContainsRune("AEIMQUYcgkosw048", rune(root[42])) {
		c.Fail("root", "must be the base64 of 32 bytes")
	}
}
