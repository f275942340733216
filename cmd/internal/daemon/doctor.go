package daemon

import "context"

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
	Running bool    // a node answers on the socket
	Client  *Client // to that node; nil without
}
