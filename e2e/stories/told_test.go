package stories

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the commands print into docs/first-service.md")

// page is one of the docs that shows what commands print in the lab. A block that
// follows a comment "lab: NAME" is what was told under NAME.
type page struct {
	path, text string
	shown      map[string]bool
}

func openPage(t *testing.T, name string) *page {
	t.Helper()
	path := filepath.Join(cluster(t).Root(), "docs", name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return &page{path: path, text: string(data), shown: map[string]bool{}}
}

// shows compares what was told with the page, but for times, counts of the moment
// and names that Kubernetes makes up. With -update it writes it there instead.
func (p *page) shows(name, told string) error {
	p.shown[name] = true
	mark := "<!-- lab: " + name + " -->\n```\n"
	before, rest, found := strings.Cut(p.text, mark)
	block, after, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		return fmt.Errorf("%s has no place for %q", p.path, name)
	}
	if *update {
		p.text = before + mark + told + "```\n" + after
		return os.WriteFile(p.path, []byte(p.text), 0o644)
	}
	got, want := constant(told), constant(block)
	if got == want {
		return nil
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Errorf("%s shows of %q\n%s\nand now it is\n%s", p.path, name, w[i], g[i])
		}
	}
	return fmt.Errorf("%s shows other lines of %q than\n%s", p.path, name, told)
}

// complete reports whether every block of the page was told.
func (p *page) complete() error {
	var errs []error
	for _, m := range regexp.MustCompile(`<!-- lab: (.*) -->`).FindAllStringSubmatch(p.text, -1) {
		if !p.shown[m[1]] {
			errs = append(errs, fmt.Errorf("%s: nobody tells %q", p.path, m[1]))
		}
	}
	return errors.Join(errs...)
}

var variable = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`-[0-9a-z]{8,10}-[a-z0-9]{5}\b`), "-HASH"},
	{regexp.MustCompile(`(-HASH\s+ready\s+)\d+\s+node\d`), "${1}N NODE"},
	{regexp.MustCompile(`\b198\.19\.\d+\.\d+`), "CLUSTER-IP"},
	{regexp.MustCompile(`:3\d{4}/TCP`), ":NODEPORT/TCP"},
	{regexp.MustCompile(`\b(fairlead-agent)-[a-z0-9]{5}\b`), "$1-HASH"},
	// Stories before leave addresses that cool down, so the next one is another.
	{regexp.MustCompile(`\b198\.18\.0\.20[1-9]( by node\d on \w+ \([0-9a-f:]+\))?`), "NEXT-VIP"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ms|s|m|h|d)\b`), "TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ][\d:.]+Z?`), "TIME"},
	{regexp.MustCompile(`\b198\.18\.1[23]\d\.\d+\b|\bfd98:18:80:\d:[0-9a-f:]+`), "POD"},
	{regexp.MustCompile(`\b\d+ (Services|endpoints)\b`), "N $1"},
	{regexp.MustCompile(`(?m)(in sync\s+TIME\s+)\d+(\s+)\d+$`), "${1}N N"},
	{regexp.MustCompile(`\b\d+\.\d+\s+\d+(\.\d)? ?[kMG]?\s+\d+\s+(\d+/\d+)`), "N N N $2"},
	{regexp.MustCompile(`version [^\s,]+|\b(dev|devel|v?\d+\.\d+\.\d+(-[0-9a-z-]+)?|[0-9a-f]{7}(-dirty)?)(\s+nftables)`), "VERSION$4"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// constant is text without what differs from run to run.
func constant(text string) string {
	for _, v := range variable {
		text = v.what.ReplaceAllString(text, v.as)
	}
	return text
}
