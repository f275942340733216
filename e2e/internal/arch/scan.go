package arch

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Scan reads every Go file of the module in root, whatever its build tags, so
// that a rule holds for each build. Modules of their own, testdata and folders
// that the go command ignores are left out.
func Scan(root string) ([]Package, error) {
	var pkgs []Package
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name != root {
			if base := d.Name(); base == "testdata" || base == "vendor" || base == "node_modules" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
				return filepath.SkipDir
			}
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		p, err := scanDir(name, filepath.ToSlash(rel))
		if err != nil {
			return err
		}
		if len(p.Files) > 0 {
			pkgs = append(pkgs, p)
		}
		return nil
	})
	return pkgs, err
}

func scanDir(dir, rel string) (Package, error) {
	p := Package{Path: rel}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return p, err
	}
	for _, e := range entries {
		if e.IsDir() || path.Ext(e.Name()) != ".go" || strings.HasPrefix(e.Name(), "_") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		src, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // an editor's file that is gone again
		}
		if err != nil {
			return p, err
		}
		f, err := scanFile(e.Name(), src)
		if err != nil {
			return p, fmt.Errorf("%s: %w", rel, err)
		}
		p.Files = append(p.Files, f)
	}
	return p, nil
}

func scanFile(name string, src []byte) (File, error) {
	set := token.NewFileSet()
	// Object resolution tells a local variable "os" from the package.
	tree, err := parser.ParseFile(set, name, src, parser.ParseComments)
	if err != nil {
		return File{}, err
	}
	line := func(p token.Pos) int { return set.Position(p).Line }
	f := File{Name: name, Package: tree.Name.Name, Test: strings.HasSuffix(name, "_test.go"), Doc: tree.Doc != nil}
	local := map[string]string{} // name in this file → last element of the import path
	for _, spec := range tree.Imports {
		imp := Import{Line: line(spec.Pos())}
		if imp.Path, err = strconv.Unquote(spec.Path.Value); err != nil {
			return File{}, err
		}
		key := path.Base(imp.Path)
		if spec.Name != nil {
			imp.Name = spec.Name.Name
			key = imp.Name
		}
		if !strings.Contains(imp.Path, ".") { // the standard library: base and package name agree where rules look
			local[key] = path.Base(imp.Path)
		}
		f.Imports = append(f.Imports, imp)
	}
	for _, d := range tree.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			f.Inits = append(f.Inits, line(fn.Pos()))
		}
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && id.Obj == nil && local[id.Name] != "" {
			f.Uses = append(f.Uses, Use{local[id.Name] + "." + sel.Sel.Name, line(sel.Pos())})
		}
		return true
	})
	return f, nil
}
