package report

import (
	"fmt"
	"os"
	"strings"
)

// WriteSection replaces what stands in a document between the lines
// <!-- name --> and <!-- /name -->.
func WriteSection(path, name, text string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	replaced, err := section(string(document), name, text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(replaced), 0o644)
}

func section(document, name, text string) (string, error) {
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, found := strings.Cut(document, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("there are no lines <!-- %s --> and %s", name, end)
	}
	return before + begin + strings.TrimRight(text, "\n") + "\n" + end + after, nil
}
