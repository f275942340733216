package daemon

import (
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"time"

	"vaultmesh.cloud/vaultmesh/cmd/internal/term"
	"vaultmesh.cloud/vaultmesh/events/bus/embedded"
)

// A Finding is something wrong, and the way out.
type Finding struct {
	What string `json:"what"`
	Mend string `json:"mend"`
}

// A Check is one line of `vaultmesh doctor`. Layers bring theirs.
type Check struct {
	Name string
	// Run returns one line about what is well, or what it found. It changes
	// nothing, works on a data directory with and without a running node, and
	// stops with the context.
	Run func(ctx context.Context, x Examined) (well string, findings []Finding)
}

// Examined is what a check looks at.
type Examined struct {
	Config  Config
	Running bool    // a node answers
	Client  *Client // to that node; nil without
}

// Examine finds out whether a node answers, runs the checks in order, each for at
// most a while, and hands each result to report.
func Examine(ctx context.Context, c Config, checks []Check, report func(name, well string, findings []Finding)) error {
	x := Examined{Config: c}
	client, err := Dial(ctx, ClientOptions{Config: c, NoNode: true})
	if err == nil && client.probe(ctx) == nil {
		x.Running, x.Client = true, client
	}
	for _, check := range checks {
		if err := ctx.Err(); err != nil {
			break
		}
		limited, cancel := context.WithTimeout(ctx, 30*time.Second)
		well, found := check.Run(limited, x)
		cancel()
		report(check.Name, well, found)
	}
	if client != nil {
		_ = client.Close() // only reads went over it
	}
	return ctx.Err()
}

// Issue makes credentials in a data directory, whether a node runs on it or not; see
// [IssueGrant].
func Issue(dir string, g Grant, ttl time.Duration, clock func() time.Time, random io.Reader) (creds, token string, err error) {
	if err := openDir(dir); err != nil {
		return "", "", err
	}
	authority, err := embedded.OpenAuthority(filepath.Join(dir, authorityDir), embedded.AuthorityOptions{Now: clock})
	if err != nil {
		return "", "", err
	}
	return IssueGrant(filepath.Join(dir, CredsDir), authority, g, ttl, clock(), random)
}

func mendOf(err error, otherwise ...string) string {
	if mend := term.MendOf(err); mend != "" || len(otherwise) == 0 {
		return mend
	}
	return otherwise[0]
}

// readyIn reads the answer of /readyz.
func readyIn(r io.Reader) (map[string]string, error) {
	var answer struct {
		Checks map[string]string `json:"checks"`
	}
	err := json.NewDecoder(io.LimitReader(r, 1<<20)).Decode(&answer)
	return answer.Checks, err
}
