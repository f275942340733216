package remembrancer

import (
	"os"
	"testing"

	"vaultmesh.cloud/vaultmesh/e2e/internal/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
