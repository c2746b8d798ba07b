package cli_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/cli/doctor"
)

var anyCode = regexp.MustCompile(`FL\d{4}`)

// Every code has an entry in docs/troubleshooting.md with its title, in order,
// and no entry is about another code; and every code is found in some test.
func TestEveryCodeIsExplainedAndFound(t *testing.T) {
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	must(t, err)
	var have, want []string
	for _, m := range regexp.MustCompile(`(?m)^### (FL\d{4}: .*)$`).FindAllStringSubmatch(string(page), -1) {
		have = append(have, m[1])
	}
	for _, e := range doctor.Catalog {
		want = append(want, string(e.Code)+": "+e.Title)
	}
	if !slices.Equal(have, want) {
		t.Errorf("docs/troubleshooting.md has the entries\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
	stories, err := filepath.Glob("testdata/*.txtar")
	must(t, err)
	found := map[string]bool{}
	for _, f := range append(stories, "doctor/node_test.go") {
		data, err := os.ReadFile(f)
		must(t, err)
		for _, c := range anyCode.FindAllString(string(data), -1) {
			found[c] = true
		}
	}
	for _, e := range doctor.Catalog {
		if !found[string(e.Code)] {
			t.Errorf("no story shows %s: %s", e.Code, e.Title)
		}
	}
}
