package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
)

// Contents is what a bundle is made of. Fields that are nil leave their file
// out, and Verify will report the link as missing; the required ones say so.
type Contents struct {
	Artifact Artifact  // required
	Created  time.Time // required: now, of the caller's clock

	Signature []byte // over the artifact, armored
	Token     []byte // RFC 3161 response over the artifact, DER

	OperatorKey []byte // armored public key
	NodeKey     []byte // armored, with the operator's certification
	SignerKey   []byte // armored, if it is not the operator's

	LogVKey  string // required
	TSAChain []byte // PEM of both tokens' certificates, roots included

	Checkpoint          []byte // required: the note with the log's line alone
	CheckpointSignature []byte // by the node's key, armored
	CheckpointToken     []byte // RFC 3161 response, DER
	Cosigned            []byte // the same checkpoint with witnesses' lines

	Events []Event // required, ascending by index: those about the artifact
}

// An Event is one leaf of the log and its proof.
type Event struct {
	Index uint64
	Body  []byte // canonical bytes
	Proof []byte // C2SP tlog-proof that holds exactly the bytes of Contents.Checkpoint
}

// Write writes the bundle. The same contents give the same bytes with the same
// release of Go. It refuses contents that Read would refuse or whose pieces do
// not fit together; it does not verify signatures, that is Verify's.
func Write(w io.Writer, c Contents) error {
	files, err := c.files()
	if err != nil {
		return fmt.Errorf("write proof bundle: %w", err)
	}
	zw, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("write proof bundle: %w", err)
	}
	tw := tar.NewWriter(zw)
	for _, path := range sortedPaths(files) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: path, Size: int64(len(files[path])), Mode: 0o644, ModTime: time.Unix(0, 0)}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write proof bundle: %s: %w", path, err)
		}
		if _, err := tw.Write(files[path]); err != nil {
			return fmt.Errorf("write proof bundle: %s: %w", path, err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("write proof bundle: %w", err)
	}
	if err := zw.Close(); err != nil {
		return fmt.Errorf("write proof bundle: %w", err)
	}
	return nil
}

func sortedPaths(files map[string][]byte) []string {
	paths := make([]string, 0, len(files))
	for p := range files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// files returns every file of the bundle by path, manifest and guide included.
func (c Contents) files() (map[string][]byte, error) {
	files := make(map[string][]byte)
	put := func(path string, b []byte) {
		if b != nil {
			files[path] = b
		}
	}
	put(c.Artifact.SignaturePath(), c.Signature)
	put(c.Artifact.TokenPath(), c.Token)
	put(operatorKeyPath, c.OperatorKey)
	put(nodeKeyPath, c.NodeKey)
	put(signerKeyPath, c.SignerKey)
	put(logKeyPath, []byte(c.LogVKey+"\n"))
	put(chainPath, c.TSAChain)
	put(checkpointPath, c.Checkpoint)
	put(checkpointSigPath, c.CheckpointSignature)
	put(checkpointTSRPath, c.CheckpointToken)
	put(cosignedPath, c.Cosigned)

	m := Manifest{Format: Format, Created: c.Created.UTC().Truncate(time.Second), Artifact: c.Artifact}
	head, err := proof.OpenCheckpoint(c.Checkpoint, c.LogVKey)
	if err != nil {
		return nil, err
	}
	m.Log = Log{Origin: head.Origin, VKey: c.LogVKey, Size: head.Size, Root: head.Root}
	for _, e := range c.Events {
		m.Events = append(m.Events, LogEvent{e.Index, eventPath(e.Index), proofPath(e.Index)})
		put(eventPath(e.Index), e.Body)
		put(proofPath(e.Index), e.Proof)
	}
	b := &Bundle{Manifest: m, files: files}
	if err := b.checkPieces(); err != nil {
		return nil, err
	}
	guide, err := b.guide()
	if err != nil {
		return nil, err
	}
	put(guidePath, guide)
	for _, path := range sortedPaths(files) {
		m.Files = append(m.Files, File{path, len(files[path]), digest(files[path])})
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	manifest, err := m.marshal()
	if err != nil {
		return nil, err
	}
	if len(manifest) > maxManifest {
		return nil, refuse(manifestPath, "%d bytes, the most is %d", len(manifest), maxManifest)
	}
	put(manifestPath, manifest)
	if len(files) > DefaultLimits.Entries {
		return nil, refuse("", "%d files, the most is %d", len(files), DefaultLimits.Entries)
	}
	return files, nil
}

// checkPieces refuses a bundle whose files contradict the manifest or each other
// in form. It checks no signature.
func (b *Bundle) checkPieces() error {
	m := b.Manifest
	if string(b.File(logKeyPath)) != m.Log.VKey+"\n" {
		return refuse(logKeyPath, "differs from the manifest's log key")
	}
	note := string(b.File(checkpointPath))
	text, block, ok := strings.Cut(note, "\n\n")
	if !ok || strings.Count(block, "\n") != 1 || !strings.HasSuffix(block, "\n") {
		return refuse(checkpointPath, "not a note with the log's signature line alone")
	}
	if want := fmt.Sprintf("%s\n%d\n%v", m.Log.Origin, m.Log.Size, m.Log.Root); text != want {
		return refuse(checkpointPath, "differs from the manifest's origin, size and root")
	}
	for _, e := range m.Events {
		if b.File(e.Event) == nil || b.File(e.Proof) == nil {
			return refuse(e.Event, "the event or its proof is not there")
		}
		p, err := proof.ParseTLogProof(b.File(e.Proof))
		switch {
		case err != nil:
			return refuse(e.Proof, "%v", err)
		case p.Index != e.Index:
			return refuse(e.Proof, "proves leaf %d", p.Index)
		case p.Extra != nil:
			return refuse(e.Proof, "holds extra data")
		case !bytes.Equal(p.Checkpoint, b.File(checkpointPath)):
			return refuse(e.Proof, "its checkpoint is another than the file checkpoint")
		}
	}
	return nil
}
