package layertest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// timeOfDay are calls whose result knows the time of day alone. A comparison with it is
// wrong by an hour when the machine's clock jumps by an hour: the monotonic clock is lost.
var timeOfDay = []string{"Unix", "UnixNano", "UnixMilli", "UnixMicro", "UTC", "Local", "Truncate", "time.Parse", "time.Date"}

// Monotonic fails t if a function of the package in whose directory the test runs makes a
// time that has lost the monotonic clock. Excepted are the functions that decide nothing by
// it, with the reason for each: "Store.Heard". An exception that is not needed fails t too.
func Monotonic(t *testing.T, excepted map[string]string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files here: %v", err)
	}
	found := map[string][]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if err := losesClock(name, nil, found); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if excepted[name] == "" {
			t.Errorf("%s goes by the time of day: %s", name, strings.Join(found[name], ", "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(excepted)) {
		if found[name] == nil {
			t.Errorf("%s does not go by the time of day, and is excepted", name)
		}
	}
}

// losesClock adds to found, by the function's name, the calls in a file that lose the
// monotonic clock. The source is read from the file if it is nil.
func losesClock(file string, source any, found map[string][]string) error {
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, source, parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parse %s: %w", file, err)
	}
	for _, d := range parsed.Decls {
		where := declared(d)
		ast.Inspect(d, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if name := called(call); name != "" {
					found[where] = append(found[where], fmt.Sprintf("%s at %s", name, fset.Position(call.Pos())))
				}
			}
			return true
		})
	}
	return nil
}

// declared returns the name of a function, with its receiver's type, or "var" for what is
// outside of functions.
func declared(d ast.Decl) string {
	f, ok := d.(*ast.FuncDecl)
	if !ok {
		return "var"
	}
	if f.Recv == nil {
		return f.Name.Name
	}
	receiver := f.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	if generic, ok := receiver.(*ast.IndexExpr); ok {
		receiver = generic.X
	}
	return fmt.Sprint(receiver) + "." + f.Name.Name
}

// called returns the name of a call that is in timeOfDay; "" for another.
func called(call *ast.CallExpr) string {
	s, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if pkg, ok := s.X.(*ast.Ident); ok && slices.Contains(timeOfDay, pkg.Name+"."+s.Sel.Name) {
		return pkg.Name + "." + s.Sel.Name
	}
	if slices.Contains(timeOfDay, s.Sel.Name) {
		return s.Sel.Name
	}
	return ""
}
