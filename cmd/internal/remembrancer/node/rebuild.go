package node

import (
	"context"
	"fmt"
	"path/filepath"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
)

// RebuildLayer returns a layer that, instead of running the ledger, makes it anew
// from the stream when it starts, and tells done what came of it.
func RebuildLayer(progress func(done, total uint64), done func(ledger.Head)) daemon.Layer {
	return daemon.Layer{
		Name:        "remembrancer",
		Definitions: remembrancer.Definitions(),
		Problems:    problems,
		Start: func(ctx context.Context, n *daemon.Node) (func(context.Context) error, error) {
			info, err := n.Conn.StreamInfo(ctx, events.EventsStream(epoch))
			if err != nil {
				return nil, fmt.Errorf("look at the events stream: %w", err)
			}
			store, err := bus.OpenBlobs(filepath.Join(n.Dir, daemon.BlobsDir), nil, 0)
			if err != nil {
				return nil, err
			}
			dir := filepath.Join(n.Dir, "ledger")
			if err := ledger.Recover(dir); err != nil {
				return nil, err
			}
			o := ledger.Options{Registry: n.Registry, Blobs: blobs{store}, Logger: n.Logger}
			head, err := ledger.Rebuild(ctx, dir, o, epoch, info.Created, stream{n.Conn, info.Created}, info.Last, func(at uint64) { progress(min(at, info.Last), info.Last) })
			if err != nil {
				return nil, err
			}
			done(head)
			return nil, nil //nolint:nilnil // nothing to stop
		},
	}
}
