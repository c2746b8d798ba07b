package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s#:]*)(?:#([^)\s]*))?\)`)
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	anchor  = regexp.MustCompile(`<a id="([^"]*)">`)
	linked  = regexp.MustCompile(`\[([^]]*)\]\([^)]*\)`)
	noPart  = regexp.MustCompile(`[^\w -]`)
)

// TestLinks: every link of a page to a file leads to one, and its part after # to a heading
// there, as GitHub names it.
func TestLinks(t *testing.T) {
	pages := readPages(t)
	n := 0
	for page, text := range pages {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			n++
			to := page
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if other, ok := pages[to]; ok && m[2] != "" && !parts(other)[m[2]] {
				t.Errorf("%s: %s has no heading %s", page, to, m[2])
			}
		}
	}
	if n < 500 {
		t.Errorf("%d links: do the pages have another form?", n)
	}
}

// readPages returns all pages of the repository without their blocks of code.
func readPages(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for path, text := range readAll(t, ".md") {
		pages[path] = fenced.ReplaceAllString(text, "")
	}
	return pages
}

// readAll returns all files of the repository whose path ends so.
func readAll(t *testing.T, end string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "bin"):
			return fs.SkipDir
		case !strings.HasSuffix(path, end):
			return nil
		}
		data, err := os.ReadFile(path)
		out[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// parts returns what a link to a page may name behind its #.
func parts(page string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		text := noPart.ReplaceAllString(strings.ToLower(linked.ReplaceAllString(m[1], "$1")), "")
		out[strings.ReplaceAll(text, " ", "-")] = true
	}
	for _, m := range anchor.FindAllStringSubmatch(page, -1) {
		out[m[1]] = true
	}
	return out
}
