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

// TestGone: every value that docs/upgrade.md calls gone is refused by its name, and
// the chart takes the values that replace it.
func TestGone(t *testing.T) {
	data, err := os.ReadFile("../docs/upgrade.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, found := strings.Cut(string(data), "\n## Values that are gone\n")
	if !found {
		t.Fatal("docs/upgrade.md has no table of values that are gone")
	}
	name, value := regexp.MustCompile("`([a-zA-Z.]+)`"), regexp.MustCompile("`([a-zA-Z.]+): ([^`]+)`")
	gone := 0
	for _, row := range regexp.MustCompile(`(?m)^\| (.+) \| (.+) \|$`).FindAllStringSubmatch(page, -1) {
		for _, old := range name.FindAllStringSubmatch(row[1], -1) {
			gone++
			_, err := helm(t, "template", "fairlead", chart, "--set", old[1]+"=1")
			if err == nil || !refuses(err, old[1]) {
				t.Errorf("%s is refused with: %v", old[1], err)
			}
		}
		for _, instead := range value.FindAllStringSubmatch(row[2], -1) {
			mustHelm(t, "template", "fairlead", chart, "--set", "metrics.agent.address=0.0.0.0", "--set-json", instead[1]+"="+instead[2])
		}
	}
	if gone != 24 {
		t.Errorf("docs/upgrade.md names %d values, want 24", gone)
	}
}

// refuses reports whether the schema's error err names the value, or the group of
// values that is gone with it.
func refuses(err error, value string) bool {
	for word := range strings.SplitSeq(value, ".") {
		if strings.Contains(err.Error(), "additional properties '"+word+"' not allowed") {
			return true
		}
	}
	return false
}
