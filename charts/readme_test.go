package charts_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	valuesBegin = "<!-- values: made from values.yaml by `go test ./charts -update` -->\n"
	valuesEnd   = "<!-- end of values -->\n"
)

// TestReadme: the README lists every value with the default and the comment
// that values.yaml gives it.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	table := "| Value | Default | What it is |\n|---|---|---|\n" + strings.Join(rows(t, "", doc.Content[0]), "")

	path := filepath.Join(chart, "README.md")
	readme, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(readme), valuesBegin)
	old, after, foundEnd := strings.Cut(rest, valuesEnd)
	if !found || !foundEnd {
		t.Fatalf("%s has no place for the values", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+valuesBegin+table+valuesEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != table {
		t.Errorf("the values in %s are not those of values.yaml (accept it with -update): %s", path, firstDifference(old, table))
	}
}

// rows returns one row for each value below node that has a comment "# -- ".
func rows(t *testing.T, prefix string, node *yaml.Node) (rows []string) {
	t.Helper()
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := prefix + key.Value
		_, comment, found := strings.Cut(key.HeadComment, "# -- ")
		switch {
		case found:
			rows = append(rows, "| `"+name+"` | `"+defaultOf(t, value)+"` | "+strings.ReplaceAll(comment, "|", `\|`)+" |\n")
		case value.Kind == yaml.MappingNode:
			rows = append(rows, rowsOf(t, name, value)...)
		default:
			t.Errorf("%s has no comment", name)
		}
	}
	return rows
}

func rowsOf(t *testing.T, name string, node *yaml.Node) []string {
	t.Helper()
	if len(node.Content) == 0 {
		t.Errorf("%s has no comment", name)
	}
	return rows(t, name+".", node)
}

func defaultOf(t *testing.T, node *yaml.Node) string {
	t.Helper()
	var v any
	if err := node.Decode(&v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
