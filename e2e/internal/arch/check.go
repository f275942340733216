package arch

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Module is the path before every import within the house.
const Module = "vaultmesh.cloud/vaultmesh"

// Finding is one broken rule. Rule is a short stable name.
type Finding struct {
	Rule  string
	Where string // file and line
	What  string
	Why   string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s [%s]\n\t%s", f.Where, f.What, f.Rule, f.Why)
}

// Check judges packages by the rules of the house and returns what breaks
// them, in the order of the files.
func Check(pkgs []Package) []Finding {
	var c checker
	for _, p := range pkgs {
		c.pkg(p)
	}
	slices.SortStableFunc(c.found, func(a, b Finding) int { return cmp.Compare(a.Where, b.Where) })
	return c.found
}

type checker struct{ found []Finding }

func (c *checker) report(rule, where, why, what string, args ...any) {
	c.found = append(c.found, Finding{rule, where, fmt.Sprintf(what, args...), why})
}

func (c *checker) pkg(p Package) {
	at := placeOf(p.Path)
	if !at.known {
		c.report("grid", p.Path, "a package belongs to a row: schemas, internal, events, projections, consumers, producers, cmd (or deploy, e2e)",
			"%q stands outside of the grid", p.Path)
		return
	}
	c.comment(p)
	c.names(p, at)
	helper := forTests(Module + "/" + p.Path)
	for _, f := range p.Files {
		file := p.Path + "/" + f.Name
		for _, imp := range f.Imports {
			where := fmt.Sprintf("%s:%d", file, imp.Line)
			if to, ok := strings.CutPrefix(imp.Path, Module+"/"); ok {
				c.inner(where, at, f, placeOf(to))
			}
			c.outer(where, at, f, imp, helper)
		}
		if f.Test || helper || at.row == outside {
			continue
		}
		for _, line := range f.Inits {
			if at.top != "cmd" {
				c.report("init", fmt.Sprintf("%s:%d", file, line), "registries are values that cmd builds; importing a package changes nothing",
					"init function outside cmd")
			}
		}
		for _, u := range f.Uses {
			where := fmt.Sprintf("%s:%d", file, u.Line)
			if instead := terminal[u.What]; instead != "" && at.top != "cmd" {
				c.report("terminal", where, "only cmd writes to the terminal or reads flags and environment: "+instead, "%s outside cmd", u.What)
			}
			if u.What == "os.Exit" && at.top == "cmd" && f.Package != "main" {
				c.report("terminal", where, "main is os.Exit(run(...)), so that a test can call run", "os.Exit below main")
			}
			if u.What == "time.Sleep" {
				c.report("sleep", where, "wait for what you wait for, or for a timer of internal/clock together with the context", "time.Sleep in product code")
			}
		}
	}
}

// comment wants one package comment in each package. Only test files count in
// a folder that has nothing else.
func (c *checker) comment(p Package) {
	onlyTests := !slices.ContainsFunc(p.Files, func(f File) bool { return !f.Test })
	var with []string
	for _, f := range p.Files {
		if f.Doc && f.Test == onlyTests {
			with = append(with, f.Name)
		}
	}
	if len(with) != 1 {
		c.report("comment", p.Path, "a package says once what it is for", "%d package comments %v, want one", len(with), with)
	}
}

var version = regexp.MustCompile(`^v[0-9]+$`)

func (c *checker) names(p Package, at place) {
	for word := range strings.SplitSeq(p.Path, "/") {
		if emptyNames[word] || version.MatchString(word) {
			c.report("name", p.Path, "packages are named by deed", "%q says nothing about what the package does", word)
		}
	}
	// A layer's own facts and command trees carry its name (events/aurora);
	// what it does, does not.
	carries := at.top == "events" || at.top == "schemas" || at.top == "cmd" || at.row == outside
	for _, f := range p.Files {
		name := strings.TrimSuffix(f.Package, "_test")
		if layerOf(name) == Shared {
			continue
		}
		if !carries || path.Base(at.folder) != name || at.folder != p.Path || layerOf(name) != at.layer {
			c.report("name", p.Path, "packages are named by deed (router, seal, dispatch); a layer is a folder", "package %s carries a layer's name", name)
			return
		}
	}
}

// inner judges an import of the house's own.
func (c *checker) inner(where string, from place, f File, to place) {
	bad := func(rule, why string) {
		c.report(rule, where, why, "%s imports %s", from.path, to.path)
	}
	// Removing a layer removes this one file too, so it may know the layer.
	if word, ok := strings.CutPrefix(f.Name, "layer_"); ok && from.path == "cmd/vaultmesh" {
		from.layer = layerOf(strings.TrimSuffix(word, ".go"))
	}
	switch {
	case from.path == to.path: // its external test
	case !to.known:
		bad("grid", "that folder has no row")
	case to.row == outside && from.top != to.top:
		bad("up", "nothing depends on tests or on what is deployed")
	case to.row > from.row:
		bad("up", "imports run down: "+from.top+" does not know who uses it")
	case to.row == from.row && to.top != from.top && from.row == rows["consumers"]:
		bad("strangers", "consumers and producers are strangers: they meet on the bus")
	case to.row == from.row && to.top != from.top:
		bad("up", from.top+" and "+to.top+" stand in one row and know nothing of each other")
	case from.layer == Shared && to.layer != Shared:
		bad("shared", "shared packages know no layer, or removing "+to.layer.String()+" would break them")
	case to.layer > from.layer:
		bad("layer", from.layer.String()+" never learns that "+to.layer.String()+" exists: removing it must leave the rest building")
	case from.top == "cmd" || from.row == outside: // wires everything that its layer may know
	case to.layer != Shared && to.layer != from.layer && to.row == rows["consumers"]:
		bad("meet", "layers meet only in events and projections")
	case to.row == from.row && to.layer == from.layer && to.folder != from.folder && !listed(from, to):
		bad("sideways", "within a row and a layer only listed imports are allowed (sideways in e2e/internal/arch/edges.go)")
	}
}

// outer judges an import by what it brings in.
func (c *checker) outer(where string, from place, f File, imp Import, helper bool) {
	if from.row == outside {
		return
	}
	for _, rule := range foreign {
		if imp.Path != rule.what && !strings.HasPrefix(imp.Path, rule.what+"/") || matchAny(rule.in, from.path) {
			continue
		}
		if f.Test && (matchAny(rule.tests, from.path) || imp.Path == diskSeam) {
			continue
		}
		c.report("foreign", where, rule.why, "%s imports %s", from.path, imp.Path)
	}
	if f.Test || helper {
		return
	}
	if forTests(imp.Path) {
		c.report("testcode", where, "what is shipped holds no test code", "%s imports %s", from.path, imp.Path)
	}
	switch {
	case imp.Name == ".":
		c.report("import", where, "a reader must see where a name comes from", "dot import of %s", imp.Path)
	// crypto.Hash finds its functions only if they are linked.
	case imp.Name == "_" && imp.Path != "embed" && !strings.HasPrefix(imp.Path, "crypto/") && from.top != "cmd":
		c.report("import", where, "importing a package changes nothing; what must be registered is handed in by cmd", "blank import of %s", imp.Path)
	}
}
