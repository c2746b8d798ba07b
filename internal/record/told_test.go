package record

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestEveryReasonSaysWhatToDo: whatever the allocator refuses or warns of, its owner is
// told the one thing to do.
func TestEveryReasonSaysWhatToDo(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../allocator/reasons.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	reasons := 0
	for _, d := range file.Decls {
		block, ok := d.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		for _, s := range block.Specs {
			r := snapshot.Reason(strings.Trim(s.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value, `"`))
			reasons++
			if next[r] == "" && warnings[r] == "" {
				t.Errorf("%s has nothing to do", r)
			}
		}
		break // the other blocks are of pools, which have an administrator
	}
	if reasons < 15 {
		t.Errorf("%d reasons", reasons)
	}
}
