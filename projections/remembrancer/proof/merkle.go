package proof

import (
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// MaxPath is the most hashes that a proof in a tree of 64-bit size can have; an
// inclusion path has at most 63, a consistency proof one more.
const MaxPath = 64

// An InclusionProof is the path from the leaf at Index to the root of the tree
// with Size leaves, lowest level first (RFC 6962 section 2.1.1).
type InclusionProof struct {
	Index  uint64 // 0 is the first leaf
	Size   uint64 // leaves in the tree, more than Index
	Hashes []Hash
}

// Verify checks that the path leads from leaf to root.
func (p InclusionProof) Verify(leaf, root Hash) error {
	return VerifyInclusion(leaf, p.Index, p.Size, p.Hashes, root)
}

// VerifyInclusion checks that leaf stands at index in the tree of size leaves
// whose root is root. The error is ErrProof.
func VerifyInclusion(leaf Hash, index, size uint64, path []Hash, root Hash) error {
	if len(path) > MaxPath || size > MaxTreeSize {
		return fmt.Errorf("inclusion of leaf %d in %d: %d hashes: %w", index, size, len(path), ErrProof)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leaf[:], byteSlices(path), root[:]); err != nil {
		return fmt.Errorf("inclusion of leaf %d in %d: %s: %w", index, size, reason(err), ErrProof)
	}
	return nil
}

// VerifyConsistency checks that the tree of oldSize leaves is a prefix of the
// tree of newSize leaves (RFC 6962 section 2.1.2). The error is ErrProof: then
// the two heads are evidence that the log shows different histories.
func VerifyConsistency(oldSize, newSize uint64, path []Hash, oldRoot, newRoot Hash) error {
	err := func() error {
		switch {
		case len(path) > MaxPath || newSize > MaxTreeSize:
			return fmt.Errorf("%d hashes", len(path))
		case oldSize == 0 && oldRoot != EmptyRoot:
			return fmt.Errorf("an empty log has one root, %v", EmptyRoot)
		case newSize == 0 && newRoot != EmptyRoot:
			return fmt.Errorf("an empty log has one root, %v", EmptyRoot)
		}
		return proof.VerifyConsistency(rfc6962.DefaultHasher, oldSize, newSize, byteSlices(path), oldRoot[:], newRoot[:])
	}()
	if err != nil {
		return fmt.Errorf("consistency of %d with %d: %s: %w", oldSize, newSize, reason(err), ErrProof)
	}
	return nil
}

// reason replaces the verifier's dump of byte slices by one line.
func reason(err error) string {
	var mismatch proof.RootMismatchError
	if errors.As(err, &mismatch) {
		return "the hashes give another root"
	}
	return err.Error()
}

func byteSlices(path []Hash) [][]byte {
	out := make([][]byte, len(path))
	for i := range path {
		out[i] = path[i][:]
	}
	return out
}
