package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const forwarding, assigning, announcing = "Forwarding", "Assigning addresses", "Announcing addresses"

var (
	row    = regexp.MustCompile(`(?m)^\| (\d+[a-z]?) \| .+ \| (.+) \|$`)
	shown  = regexp.MustCompile("(?:`(Test\\w+)` in )?\\[[^]]+\\]\\((\\.\\./[^)]+)\\)")
	number = regexp.MustCompile(`\d+[a-z]?`)
	named  = regexp.MustCompile(`(?:^|[^\w-])(spec|[Ii]tem|allocation) (\d+[a-z]?\b(?:(?:-|, ?| and )\d+[a-z]?\b)*)`)
	story  = regexp.MustCompile(`^# (\d+[a-z]?(?:, \d+[a-z]?)*)\. `)
)

// lists returns the rows of each list of spec.md: what shows a behaviour, by its
// number.
func lists(t *testing.T) map[string]map[string]string {
	t.Helper()
	data, err := os.ReadFile("spec.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for _, section := range strings.Split(string(data), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		out[title] = map[string]string{}
		for _, m := range row.FindAllStringSubmatch(text, -1) {
			if _, twice := out[title][m[1]]; twice {
				t.Errorf("%s: %s appears twice", title, m[1])
			}
			out[title][m[1]] = m[2]
		}
	}
	for title, want := range map[string]int{forwarding: 114, assigning: 53, announcing: 56} {
		if got := len(out[title]); got != want {
			t.Errorf("%s: %d behaviours, want %d", title, got, want)
		}
	}
	return out
}

// TestSpecNumbers: spec.md has every number that a comment or a story names.
func TestSpecNumbers(t *testing.T) {
	all, found := lists(t), 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != "..", d.IsDir() && d.Name() == "bin":
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go") && !strings.HasSuffix(path, ".txtar"):
			return nil
		}
		data, err := os.ReadFile(path)
		for _, r := range references(strings.TrimPrefix(filepath.ToSlash(path), "../"), string(data)) {
			found++
			if all[r.list][r.number] == "" {
				t.Errorf("%s names %s, which is not in the list %q of docs/spec.md", path, r.number, r.list)
			}
		}
		return err
	})
	if err != nil || found < 200 {
		t.Errorf("found %d numbers, %v", found, err)
	}
}

// reference is a number that a file names.
type reference struct{ list, number string }

// references returns the numbers that a file names, each with the list that the
// file's folder and the words before it say.
func references(path, text string) []reference {
	var out []reference
	if m := story.FindStringSubmatch(text); m != nil && strings.HasPrefix(path, "allocator/") {
		for _, n := range number.FindAllString(m[1], -1) {
			out = append(out, reference{assigning, n})
		}
	}
	for _, m := range named.FindAllStringSubmatch(text, -1) {
		list := forwarding
		switch {
		case m[1] != "spec" || strings.HasPrefix(path, "allocator/"):
			list = assigning
		case strings.HasPrefix(path, "announcer/"):
			list = announcing
		}
		for _, n := range number.FindAllString(m[2], -1) {
			out = append(out, reference{list, n})
		}
	}
	return out
}

// TestSpecShownBy: each behaviour of spec.md names a story or a test, and they
// exist.
func TestSpecShownBy(t *testing.T) {
	for list, rows := range lists(t) {
		for n, by := range rows {
			links := shown.FindAllStringSubmatch(by, -1)
			if len(links) == 0 {
				t.Errorf("%s %s: shown by %q", list, n, by)
			}
			for _, m := range links {
				if _, err := os.Stat(m[2]); err != nil {
					t.Errorf("%s %s: %v", list, n, err)
				}
				if m[1] != "" && !hasTest(t, m[2], m[1]) {
					t.Errorf("%s %s: there is no %s in %s", list, n, m[1], m[2])
				}
			}
		}
	}
}

// hasTest reports whether a package has the test of that name.
func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(data), "\nfunc "+name+"(t *testing.T)")
	})
}

func TestReferences(t *testing.T) {
	for _, c := range []struct{ path, text, want string }{
		{"proxy/x_test.go", "// spec 59, 60-61 and 92: under", "Forwarding 59 60 61 92"},
		{"announcer/testdata/x.txtar", "# spec 40: one", "Announcing addresses 40"},
		{"allocator/testdata/x.txtar", "# 20, 39d. What\n# 7. is not", "Assigning addresses 20 39d"},
		{"internal/x_test.go", "// Item 38: what", "Assigning addresses 38"},
		{"internal/x_test.go", "// image-spec 1.1, inspec 5, spec five", ""},
	} {
		var got []string
		for _, r := range references(c.path, c.text) {
			if len(got) == 0 {
				got = append(got, r.list)
			}
			got = append(got, r.number)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, want %s", c.text, got, c.want)
		}
	}
}
