package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"vaultmesh.cloud/vaultmesh/events/canon"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// Format is the version that this package writes. Later releases read it, too.
const Format = "vaultmesh.cloud/proof-bundle/v1"

const formatPrefix = "vaultmesh.cloud/proof-bundle/"

// A Manifest is manifest.json, in canonical JSON (RFC 8785). It is signed by
// nobody: it says what to check, and what it says is checked.
type Manifest struct {
	Format   string     `json:"format"`   // Format
	Created  time.Time  `json:"created"`  // when the bundle was made, UTC, whole seconds
	Artifact Artifact   `json:"artifact"` // the file that this is about
	Log      Log        `json:"log"`      // where its events stand
	Events   []LogEvent `json:"events"`   // ascending by index
	Files    []File     `json:"files"`    // all but manifest.json, ascending by path
}

// An Artifact is the file that is proven.
type Artifact struct {
	Name   string `json:"name"`   // without folders
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // lower-case hex
}

// SignaturePath is where the bundle holds the signature over the artifact:
// FILE.asc.
func (a Artifact) SignaturePath() string { return stem(a.Name) + signatureSuffix }

// TokenPath is where the bundle holds the token over the artifact: FILE.tsr.
func (a Artifact) TokenPath() string { return stem(a.Name) + tokenSuffix }

// A Log names the log and its head.
type Log struct {
	Origin string     `json:"origin"`
	VKey   string     `json:"vkey"` // as in keys/log.vkey
	Size   uint64     `json:"size"` // leaves of the checkpoint
	Root   proof.Hash `json:"root"` // its root, base64
}

// A LogEvent ties an event's file to its proof.
type LogEvent struct {
	Index uint64 `json:"index"` // of the leaf, below Log.Size
	Event string `json:"event"` // events/<index>.json
	Proof string `json:"proof"` // proofs/<index>.tlog-proof
}

// A File is one file of the bundle.
type File struct {
	Path   string `json:"path"`
	Size   int    `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // lower-case hex
}

func (m Manifest) marshal() ([]byte, error) {
	b, err := canon.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return b, nil
}

// parseManifest reads canonical bytes of a format that this release knows.
func parseManifest(b []byte) (Manifest, error) {
	var version struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return Manifest{}, refuse(manifestPath, "not JSON with a format: %v", err)
	}
	if version.Format != Format {
		if strings.HasPrefix(version.Format, formatPrefix) {
			return Manifest{}, fmt.Errorf("%q, this release reads %q; a newer release may read it: %w", clip(version.Format), Format, ErrVersion)
		}
		return Manifest{}, refuse(manifestPath, "format %q is no proof bundle", clip(version.Format))
	}
	if c, err := canon.Canonicalize(b); err != nil || !bytes.Equal(c, b) {
		return Manifest{}, refuse(manifestPath, "not canonical JSON (RFC 8785)")
	}
	var m Manifest
	if err := canon.Unmarshal(b, &m); err != nil {
		return Manifest{}, refuse(manifestPath, "%v", err)
	}
	// Optional or nulled members would be a second spelling.
	if again, err := m.marshal(); err != nil || !bytes.Equal(again, b) {
		return Manifest{}, refuse(manifestPath, "members are missing or in another form")
	}
	if err := m.check(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// check applies the rules of the manifest by itself, without the files.
func (m Manifest) check() error {
	if err := checkName(m.Artifact.Name); err != nil {
		return refuse(manifestPath, "%v", err)
	}
	if m.Artifact.Size < 0 || m.Artifact.Size > maxSafeInteger || !isDigest(m.Artifact.SHA256) {
		return refuse(manifestPath, "artifact size or SHA-256")
	}
	if m.Created.Location() != time.UTC || m.Created.Nanosecond() != 0 {
		return refuse(manifestPath, "created is not UTC in whole seconds")
	}
	if origin, _, err := proof.ParseVKey(m.Log.VKey); err != nil || origin != m.Log.Origin {
		return refuse(manifestPath, "log key and origin do not belong together")
	}
	if len(m.Events) < 1 || len(m.Events) > maxEvents || m.Log.Size > maxSafeInteger {
		return refuse(manifestPath, "%d events in a log of %d, want 1 to %d", len(m.Events), m.Log.Size, maxEvents)
	}
	for i, e := range m.Events {
		if e.Index >= m.Log.Size || i > 0 && e.Index <= m.Events[i-1].Index || e.Event != eventPath(e.Index) || e.Proof != proofPath(e.Index) {
			return refuse(manifestPath, "event %d: index, order or file names", i)
		}
	}
	for i, f := range m.Files {
		most, ok := sizeCap(f.Path)
		switch {
		case !ok || f.Path == manifestPath || !m.expects(f.Path):
			return refuse(manifestPath, "lists %q, which is no part of a bundle", clip(f.Path))
		case i > 0 && f.Path <= m.Files[i-1].Path:
			return refuse(manifestPath, "files are not in ascending order")
		case f.Size < 0 || f.Size > most || !isDigest(f.SHA256):
			return refuse(manifestPath, "size or SHA-256 of %q", clip(f.Path))
		}
	}
	return nil
}

// expects reports whether path has a place beside this artifact and these events.
func (m Manifest) expects(path string) bool {
	if n, ok := leafIndex(path, eventsDir, eventSuffix); ok {
		return m.hasEvent(n)
	}
	if n, ok := leafIndex(path, proofsDir, proofSuffix); ok {
		return m.hasEvent(n)
	}
	if strings.HasSuffix(path, signatureSuffix) || strings.HasSuffix(path, tokenSuffix) {
		switch path {
		case m.Artifact.SignaturePath(), m.Artifact.TokenPath(), checkpointSigPath, checkpointTSRPath, operatorKeyPath, nodeKeyPath, signerKeyPath:
			return true
		}
		return false
	}
	return true
}

func (m Manifest) hasEvent(index uint64) bool {
	for _, e := range m.Events {
		if e.Index == index {
			return true
		}
	}
	return false
}

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && strings.ToLower(s) == s
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
