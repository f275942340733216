package remembrancer

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/internal/keys"
)

// Deps is what the verbs need from the binary that carries them.
type Deps struct {
	Term *term.Term
	// Dial connects to the node that the global flags name, starting one within
	// this process if need be. A verb that works without a node never calls it.
	Dial func(context.Context) (*Conn, error)
	// Dir returns the data directory, which may not exist. It creates nothing.
	Dir   func() (string, error)
	GPG   keys.GPGOptions
	Stdin io.Reader
	Clock func() time.Time
	Rand  io.Reader
}

// A Conn is a way to one node.
type Conn struct {
	HTTP  *http.Client
	Base  string       // such as "http://127.0.0.1:7280", without final slash
	Close func() error // stops a node that Dial started; may be nil
}

// Commands returns the verbs.
func Commands(d Deps) []*cobra.Command {
	return []*cobra.Command{
		recordCommand(d), signCommand(d), timestampCommand(d),
		verifyFullCommand(d), exportProofCommand(d), verifyProofCommand(d), verifyAuditCommand(d),
		receiptCommand(d), publishRootCommand(d), checkpointCommand(d),
		listCommand(d), timelineCommand(d), adrCommand(d),
	}
}

// withNode runs fn with a client and closes the connection after it.
func (d Deps) withNode(ctx context.Context, fn func(*client) error) (err error) {
	conn, err := d.Dial(ctx)
	if err != nil {
		if term.KindOf(err) == term.Failure && ctx.Err() == nil {
			err = term.As(term.Unavailable, "start a node with vaultmesh up, or name one with --node URL", err)
		}
		return err
	}
	if conn.Close != nil {
		defer func() {
			if cerr := conn.Close(); err == nil && cerr != nil {
				err = cerr
			}
		}()
	}
	return fn(&client{http: conn.HTTP, base: conn.Base})
}
