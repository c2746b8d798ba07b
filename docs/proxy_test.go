package docs

import (
	"os"
	"strings"
	"testing"
)

// TestFindingsShownBy: the tests and stories that proxy.md names for what was found
// exist.
func TestFindingsShownBy(t *testing.T) {
	data, err := os.ReadFile("proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(data), "\n## What was found wrong")
	links := shown.FindAllStringSubmatch(table, -1)
	if !found || len(links) == 0 {
		t.Fatal("proxy.md has no table of findings")
	}
	for _, m := range links {
		if _, err := os.Stat(m[2]); err != nil {
			t.Error(err)
		}
		if m[1] != "" && !hasTest(t, m[2], m[1]) {
			t.Errorf("there is no %s in %s", m[1], m[2])
		}
	}
}
