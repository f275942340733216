package main

import (
	"cmp"
	"slices"

	"github.com/spf13/cobra"

	"vaultmesh.cloud/vaultmesh/cmd/internal/daemon"
)

// A layer is what one layer adds to this program. Each stands in a file of its own,
// layer_<name>.go, which ends with
//
//	var _ = register(layer{...})
//
// so that a layer is removed by removing its file and packages: nothing else names
// it. Registration at initialisation is forbidden everywhere else, because it hides
// who uses what; here the list is the program itself, and it only collects values.
type layer struct {
	rank     int                               // 1 is the lowest: layers start in this order
	node     func() daemon.Layer               // its part of a node; nil has none
	commands func(p *program) []*cobra.Command // its verbs; nil has none
	checks   func(p *program) []daemon.Check   // its lines of doctor; nil has none
}

var registered []layer

func register(l layer) struct{} {
	registered = append(registered, l)
	slices.SortStableFunc(registered, func(a, b layer) int { return cmp.Compare(a.rank, b.rank) })
	return struct{}{}
}
