package allocator_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/test/storytest"
)

// TestDocs: the tables of reasons in the docs are those of the code. With
// -update they are written.
func TestDocs(t *testing.T) {
	const file = "../docs/allocator.md"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	tables := reasonTables(t)
	for i, mark := range []string{"<!-- reasons -->\n", "<!-- pool reasons -->\n"} {
		before, rest, ok := strings.Cut(text, mark)
		got, after, ok2 := strings.Cut(rest, "<!-- end -->")
		if !ok || !ok2 {
			t.Fatalf("%s has no %s", file, mark)
		}
		if got != tables[i] && !*storytest.Update {
			t.Errorf("%s: the table after %s is not that of reasons.go; run with -update", file, mark)
		}
		text = before + mark + tables[i] + "<!-- end -->" + after
	}
	if *storytest.Update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// reasonTables makes a table of each block of constants.
func reasonTables(t *testing.T) []string {
	f, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	for _, d := range f.Decls {
		block, ok := d.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		table := "| reason | meaning |\n|---|---|\n"
		for _, s := range block.Specs {
			v := s.(*ast.ValueSpec)
			name := v.Names[0].Name
			says, ok := strings.CutPrefix(strings.Join(strings.Fields(v.Doc.Text()), " "), name+": ")
			if value := v.Values[0].(*ast.BasicLit).Value; !ok || value != `"`+name+`"` {
				t.Errorf("%s = %s: wants its own name as value and %q before its meaning", name, value, name+": ")
			}
			table += fmt.Sprintf("| `%s` | %s |\n", name, says)
		}
		tables = append(tables, table)
	}
	if len(tables) != 2 {
		t.Fatalf("reasons.go has %d blocks of constants, want 2", len(tables))
	}
	return tables
}
