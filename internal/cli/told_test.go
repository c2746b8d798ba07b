package cli_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/cli"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// What docs/cli.md shows is the first output of that command in a story.
func TestDocsShowWhatIsPrinted(t *testing.T) {
	const file = "../../docs/cli.md"
	page, err := os.ReadFile(file)
	must(t, err)
	block := regexp.MustCompile("(?s)<!-- story: ([^,]+), ([^>]+) -->\n```\n.*?```\n")
	n := 0
	got := block.ReplaceAllStringFunc(string(page), func(text string) string {
		n++
		m := block.FindStringSubmatch(text)
		return "<!-- story: " + m[1] + ", " + m[2] + " -->\n```\n" + shown(t, m[1], m[2]) + "```\n"
	})
	if n < 14 {
		t.Errorf("%d outputs: is the page's form another one?", n)
	}
	got = regexp.MustCompile("(?s)<!-- refusals -->\n.*?<!-- end -->").ReplaceAllLiteralString(got, "<!-- refusals -->\n"+refusals(t)+"<!-- end -->")
	if got == string(page) {
		return
	}
	if !*storytest.Update {
		t.Fatal("docs/cli.md does not show what the commands print: go test ./internal/cli -update")
	}
	must(t, os.WriteFile(file, []byte(got), 0o644))
}

// shown returns the command and its output.
func shown(t *testing.T, story, command string) string {
	t.Helper()
	for _, s := range storytest.Read(t, "testdata/"+story+".txtar").Sections {
		if s.Name == command {
			return "$ " + command + "\n" + regexp.MustCompile(`(?m)^exit \d\n`).ReplaceAllString(s.Text, "")
		}
	}
	t.Fatalf("story %s does not run %q", story, command)
	return ""
}

// refusals makes a table of what the stories "refused" tell of Services that get no
// address.
func refusals(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("testdata/refused-*.txtar")
	must(t, err)
	says, next := regexp.MustCompile(`(?m)^✖ address +none\. (\w+): (.*)$`), regexp.MustCompile(`(?m)^Next: (.*)$`)
	table := "| reason | says | Next |\n|---|---|---|\n"
	for _, file := range files {
		for _, s := range storytest.Read(t, file).Sections {
			a, b := says.FindStringSubmatch(s.Text), next.FindStringSubmatch(s.Text)
			if strings.HasPrefix(s.Name, "fairlead explain ") && a != nil && b != nil {
				table += "| `" + a[1] + "` | " + a[2] + " | " + b[1] + " |\n"
			}
		}
	}
	return table
}

// Every command has an example or a section in docs/cli.md.
func TestDocsNameEveryCommand(t *testing.T) {
	page, err := os.ReadFile("../../docs/cli.md")
	must(t, err)
	for _, c := range (&cli.Env{}).Commands() {
		if !c.Hidden && !strings.Contains(string(page), "`fairlead "+c.Name()) {
			t.Errorf("docs/cli.md does not name fairlead %s", c.Name())
		}
	}
}
