package arch

import "strings"

// Package is one folder with Go files.
type Package struct {
	Path  string // below the module, with slashes: "events/bus"
	Files []File
}

// File is what the rules need to know of one Go file.
type File struct {
	Name    string
	Package string // of the package clause, "x_test" included
	Test    bool   // the name ends in _test.go
	Doc     bool   // stands under a package comment
	Imports []Import
	Uses    []Use // of functions and variables of the standard library, "os.Exit"
	Inits   []int // lines of init functions
}

// Import is one import line. Name is "_", ".", an alias or empty.
type Import struct {
	Name, Path string
	Line       int
}

// Use is a mention of an identifier of another package.
type Use struct {
	What string
	Line int
}

// Layer orders what may know of what.
type Layer int

// The layers, low to high. Shared packages know of none.
const (
	Shared Layer = iota
	Spawn
	Remembrancer
	Aurora
)

var layerNames = []string{"shared", "spawn", "remembrancer", "aurora"}

func (l Layer) String() string { return layerNames[l] }

// layerOf is Shared for a word that names no layer.
func layerOf(word string) Layer {
	for i, name := range layerNames[1:] {
		if name == word {
			return Layer(i + 1)
		}
	}
	return Shared
}

// rows has every top folder that may hold Go code. Those without a row stand
// outside of the grid: they may import whatever their layer allows, and nothing
// may import them.
var rows = map[string]int{
	"internal": 0, "schemas": 0,
	"events":      1,
	"projections": 2,
	"consumers":   3, "producers": 3,
	"cmd":    4,
	"e2e":    outside,
	"deploy": outside,
}

const outside = 9

// place is where a package stands.
type place struct {
	path   string
	top    string // first folder
	row    int
	known  bool // the first folder has a row
	layer  Layer
	folder string // the package folder, whose subpackages may import each other
}

func placeOf(path string) place {
	parts := strings.Split(path, "/")
	p := place{path: path, top: parts[0]}
	p.row, p.known = rows[p.top]
	word := 1
	if p.top == "cmd" && len(parts) > 1 && parts[1] == "internal" {
		word = 2
	}
	if len(parts) > word {
		p.layer = layerOf(parts[word])
	}
	// Shared: events/bus, with embedded and bustest below it. In a layer:
	// projections/remembrancer/proof. A provider is a folder of its own.
	depth := 2
	if p.layer != Shared {
		depth = word + 2
		if len(parts) > depth && parts[depth-1] == "providers" {
			depth++
		}
	}
	p.folder = strings.Join(parts[:min(depth, len(parts))], "/")
	return p
}
