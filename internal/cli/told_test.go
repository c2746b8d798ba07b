package cli_test

import (
	"os"
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
	if n < 20 {
		t.Errorf("%d outputs: is the page's form another one?", n)
	}
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
