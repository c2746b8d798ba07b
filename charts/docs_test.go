package charts_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocs: the values that docs/chart.md shows, as YAML and behind --set, are
// values of the chart.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../docs/chart.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(data), -1)
	if len(blocks) == 0 {
		t.Fatal("docs/chart.md shows no values")
	}
	for _, block := range blocks {
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte(block[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := helm(t, "template", "fairlead", chart, "--values", file); err != nil {
			t.Errorf("%v with:\n%s", err, block[1])
		}
	}
	var sets []string
	for _, set := range regexp.MustCompile(`--set [^ \n]+`).FindAllString(string(data), -1) {
		sets = append(sets, strings.Fields(set)...)
	}
	mustHelm(t, append([]string{"template", "fairlead", chart}, sets...)...)
}
