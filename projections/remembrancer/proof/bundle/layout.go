package bundle

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/openpgp"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/proof/rfc3161"
)

// Paths inside a bundle. The artifact's own files are named by its Artifact.
const (
	manifestPath       = "manifest.json"
	guidePath          = "VERIFY.md"
	operatorKeyPath    = "keys/operator.asc"
	nodeKeyPath        = "keys/node.asc"
	signerKeyPath      = "keys/signer.asc"
	logKeyPath         = "keys/log.vkey"
	chainPath          = "tsa/chain.pem"
	checkpointPath     = "checkpoint"
	checkpointSigPath  = "checkpoint.asc"
	checkpointTSRPath  = "checkpoint.tsr"
	cosignedPath       = "checkpoint.cosigned"
	eventsDir          = "events/"
	proofsDir          = "proofs/"
	eventSuffix        = ".json"
	proofSuffix        = ".tlog-proof"
	signatureSuffix    = ".asc"
	tokenSuffix        = ".tsr"
	maxArtifactName    = 200 // bytes
	maxManifest        = 256 << 10
	maxGuide           = 1 << 20
	maxChain           = 256 << 10
	maxLogKey          = 1 << 10
	maxSafeInteger     = 1<<53 - 1 // what every JSON reader keeps exactly
	maxEvents          = 100
	reservedNamePrefix = "artifact-"
)

// The kinds of refusal. Match them with errors.Is.
var (
	// ErrRefused: the archive breaks a rule of the format. Nothing of it is used.
	ErrRefused = errors.New("proof bundle refused")
	// ErrVersion: the bundle is of a later format than this release reads. Take a
	// newer release.
	ErrVersion = errors.New("proof bundle of an unknown format")
)

// An EntryError names the entry of the archive and the rule that it breaks. It
// is an ErrRefused.
type EntryError struct {
	Entry string // path inside the archive; empty for the archive as a whole
	Rule  string
}

func (e *EntryError) Error() string {
	if e.Entry == "" {
		return "proof bundle refused: " + e.Rule
	}
	return fmt.Sprintf("proof bundle refused: entry %q: %s", clip(e.Entry), e.Rule)
}

// Is makes errors.Is(err, ErrRefused) true.
func (e *EntryError) Is(target error) bool { return target == ErrRefused }

func refuse(entry, format string, args ...any) error {
	return &EntryError{entry, fmt.Sprintf(format, args...)}
}

// sizeCap returns the most bytes of the file at path, or false if the layout has
// no such file. The names of the artifact's own files are compared later, when
// the manifest is known.
func sizeCap(path string) (int, bool) {
	switch path {
	case manifestPath:
		return maxManifest, true
	case guidePath:
		return maxGuide, true
	case operatorKeyPath, nodeKeyPath, signerKeyPath:
		return openpgp.MaxKeyRingBytes, true
	case logKeyPath:
		return maxLogKey, true
	case chainPath:
		return maxChain, true
	case checkpointPath, cosignedPath:
		return proof.MaxCheckpoint, true
	}
	if _, ok := leafIndex(path, eventsDir, eventSuffix); ok {
		return events.MaxSize, true
	}
	if _, ok := leafIndex(path, proofsDir, proofSuffix); ok {
		return proof.MaxTLogProof, true
	}
	if stem, ok := strings.CutSuffix(path, signatureSuffix); ok && checkName(stem) == nil {
		return openpgp.MaxSignatureBytes, true
	}
	if stem, ok := strings.CutSuffix(path, tokenSuffix); ok && checkName(stem) == nil {
		return rfc3161.MaxTokenBytes, true
	}
	return 0, false
}

// leafIndex reads the number in events/N.json or proofs/N.tlog-proof.
func leafIndex(path, dir, suffix string) (uint64, bool) {
	rest, ok := strings.CutPrefix(path, dir)
	if !ok {
		return 0, false
	}
	digits, ok := strings.CutSuffix(rest, suffix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n <= maxSafeInteger && strconv.FormatUint(n, 10) == digits
}

func eventPath(index uint64) string { return eventsDir + strconv.FormatUint(index, 10) + eventSuffix }
func proofPath(index uint64) string { return proofsDir + strconv.FormatUint(index, 10) + proofSuffix }

// checkName reports whether name can be a file in one folder of any system and
// stand in a page of commands: one path element of printable characters.
func checkName(name string) error {
	why := ""
	switch {
	case name == "" || name == "." || name == "..":
		why = "it names no file"
	case len(name) > maxArtifactName:
		why = fmt.Sprintf("it is over %d bytes", maxArtifactName)
	case !utf8.ValidString(name):
		why = "it is not UTF-8"
	case strings.ContainsAny(name, `/\`):
		why = "it is a path"
	case strings.IndexFunc(name, func(r rune) bool { return r != ' ' && !unicode.IsGraphic(r) || r == utf8.RuneError }) >= 0:
		why = "it holds a character that does not print"
	}
	if why != "" {
		return fmt.Errorf("artifact name %q: %s: %w", clip(name), why, proof.ErrMalformed)
	}
	return nil
}

// stem keeps an artifact that is itself called checkpoint apart from the log's,
// on file systems that ignore case, too.
func stem(name string) string {
	if strings.EqualFold(name, checkpointPath) {
		return reservedNamePrefix + name
	}
	return name
}

func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
