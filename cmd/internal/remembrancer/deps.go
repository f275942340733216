package remembrancer

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/internal/keys"
)

// Live returns the dependencies of a real program: the node that root's global
// flags name when a verb runs, with these layers if the verb has to start one.
func Live(t *term.Term, root *cobra.Command, layers []daemon.Layer) Deps {
	config := func() (daemon.Config, error) {
		c, _, err := daemon.Load(root.PersistentFlags(), t.Getenv)
		return c, err
	}
	return Deps{
		Term: t,
		Dial: func(ctx context.Context) (*Conn, error) {
			c, err := config()
			if err != nil {
				return nil, err
			}
			client, err := daemon.Dial(ctx, daemon.ClientOptions{Config: c, Layers: layers, Version: root.Version})
			if err != nil {
				return nil, err
			}
			return &Conn{HTTP: client.HTTP, Base: client.Base, Close: client.Close}, nil
		},
		Dir: func() (string, error) {
			c, err := config()
			if err != nil {
				return "", err
			}
			return filepath.Abs(c.Data)
		},
		GPG:   keys.GPGOptions{Home: t.Getenv("GNUPGHOME")},
		Stdin: os.Stdin,
		Clock: time.Now,
		Rand:  rand.Reader,
	}
}
