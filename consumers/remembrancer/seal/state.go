package seal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"vaultmesh.cloud/vaultmesh/internal/keys"
)

// FileState keeps the signer's state in a file of its own.
type FileState struct{ Path string }

// Load implements State. A missing file means that nothing was signed; a
// damaged one is an error, since signing without memory could fork the log.
func (f FileState) Load() (Signed, error) {
	var s Signed
	b, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%s is damaged: %w", f.Path, err)
	}
	return s, nil
}

// Store implements State.
func (f FileState) Store(s Signed) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return keys.ReplaceSecret(f.Path, b)
}
