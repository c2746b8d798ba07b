package docs

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestEveryPackageIsOnTheMap: design.md names every package of the product, and
// none that is gone.
func TestEveryPackageIsOnTheMap(t *testing.T) {
	page, err := os.ReadFile("design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "\n## The map\n")
	text, _, _ = strings.Cut(text, "\n## ")
	listed := map[string]bool{}
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 2 {
			continue
		}
		for i, word := range strings.Split(cells[1], "`") {
			if i%2 == 1 {
				listed[word] = true
			}
		}
	}
	const module = "github.com/fairlead/fairlead/"
	out, err := exec.CommandContext(t.Context(), "go", "list", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		name = strings.TrimPrefix(name, module)
		if strings.HasPrefix(name, "e2e") || strings.HasPrefix(name, "internal/tools") {
			continue
		}
		if !listed[name] {
			t.Errorf("design.md does not name %s", name)
		}
		delete(listed, name)
	}
	for name := range listed {
		t.Errorf("design.md names %s, which is not a package", name)
	}
}
