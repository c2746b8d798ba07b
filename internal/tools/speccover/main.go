// Command speccover counts which of the numbered behaviours of a Service proxy
// are named by a test. A test names them in a comment or a story's text, as
// "spec 42, 45:" or "spec 41-43:". It prints "spec: N/98", and the missing
// numbers if there are any.
//
//	speccover [-where] ROOT
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// behaviours is how many there are, numbered from 1.
const behaviours = 98

// folders whose tests are about forwarding. Those of the announcer and the
// allocator have numbers of their own.
var folders = []string{"proxy", "nodeport", "internal", "e2e"}

var naming = regexp.MustCompile(`\bspec (\d+(?:(?:-|, ?|,? and )\d+)*)\b`)

func main() {
	where := flag.Bool("where", false, "print for each number the files that name it")
	flag.Parse()
	root := "."
	if flag.NArg() > 0 {
		root = flag.Arg(0)
	}
	found, err := search(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "speccover:", err)
		os.Exit(1)
	}
	if *where {
		for n := 1; n <= behaviours; n++ {
			fmt.Printf("%2d %s\n", n, strings.Join(found[n], " "))
		}
	}
	fmt.Println(summary(found))
}

// search returns the files that name each number.
func search(root string) (map[int][]string, error) {
	found := map[int][]string{}
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == "speccover" {
				return fs.SkipDir // its own test names numbers for its sake
			}
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") && !strings.HasSuffix(path, ".txtar") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			for _, n := range numbers(string(text)) {
				found[n] = append(found[n], name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// numbers returns those that text names, sorted, each once.
func numbers(text string) []int {
	var out []int
	for _, m := range naming.FindAllStringSubmatch(text, -1) {
		for _, part := range regexp.MustCompile(`\d+(-\d+)?`).FindAllString(m[1], -1) {
			first, last, isRange := strings.Cut(part, "-")
			if !isRange {
				last = first
			}
			from, _ := strconv.Atoi(first) // digits by the expression
			to, _ := strconv.Atoi(last)
			for n := max(from, 1); n <= min(to, behaviours); n++ {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// summary is the line that is printed.
func summary(found map[int][]string) string {
	var missing []string
	for n := 1; n <= behaviours; n++ {
		if len(found[n]) == 0 {
			missing = append(missing, strconv.Itoa(n))
		}
	}
	line := fmt.Sprintf("spec: %d/%d", behaviours-len(missing), behaviours)
	if len(missing) > 0 {
		line += " missing " + strings.Join(missing, ", ")
	}
	return line
}
