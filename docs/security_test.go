package docs

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9]+)\(`)
)

// TestAttacksShownBy: each row of the table of attacks names tests, and they exist. Those
// that worked once are in the list that "make e2e WHAT=attacks" runs.
func TestAttacksShownBy(t *testing.T) {
	page, err := os.ReadFile("security.md")
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile("../internal/tools/attacks.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "\n## Attacks that are tried\n")
	text, _, _ = strings.Cut(text, "\n### How reports are signed\n")
	exist, rows, table := tests(t), 0, ""
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| who ") || strings.HasPrefix(line, "| what they do ") {
			table = line
			continue
		}
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		rows++
		cells := strings.Split(line, "|")
		names := testName.FindAllStringSubmatch(cells[len(cells)-2], -1)
		// What one node that is taken may do, nothing holds in some rows.
		if len(names) == 0 && strings.HasPrefix(table, "| who ") {
			t.Errorf("no test shows this: %s", line)
		}
		for _, m := range names {
			if !exist[m[1]] {
				t.Errorf("there is no %s", m[1])
			}
			if strings.HasPrefix(m[1], "TestAttack") && !strings.Contains(string(list), " "+m[1]+"|") {
				t.Errorf("make e2e WHAT=attacks does not run %s", m[1])
			}
		}
	}
	if rows < 10 {
		t.Errorf("%d rows", rows)
	}
}

// tests returns the names of all tests and fuzz targets.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, text := range readAll(t, "_test.go") {
		for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
			out[m[1]] = true
		}
	}
	return out
}
