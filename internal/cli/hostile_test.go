package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/explain"
)

// TestAttackByText: an object whose text clears the screen, fills the clipboard, turns
// text around or looks like a line of ours is printed, and nothing else happens.
func TestAttackByText(t *testing.T) {
	const hostile = "web\x1b]52;c;cm0gLXJm\x07\x1b[2J\u009b2J\u202e\r\nall is well"
	const shown = `web\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b2J\u202e\r\nall is well`
	for _, colour := range []bool{false, true} {
		var b bytes.Buffer
		s := screen{&b, colour}
		s.line("%s", hostile)
		s.line("%s", s.paint(red, hostile))
		s.table([]string{"NAME"}, []row{{s.good(true), []string{hostile}}})
		s.steps(&explain.Trace{Title: hostile, Steps: []explain.Step{{Name: "one", Mark: explain.OK, Text: hostile, Details: []explain.Step{{Name: hostile, Text: hostile}}}}, Verdict: hostile, Next: hostile})
		s.findings([]doctor.Finding{{Message: hostile, Next: hostile}})
		got := b.String()
		for _, how := range []string{red, green, yellow, bold, faint, "0"} {
			got = strings.ReplaceAll(got, "\x1b["+how+"m", "")
		}
		if strings.ContainsAny(got, "\x1b\x07\u009b\u202e\r") || strings.Contains(got, "\nall is well") {
			t.Errorf("colours %t: %q", colour, got)
		}
		if n := strings.Count(got, shown); n != 11 {
			t.Errorf("colours %t: the text is shown %d times: %q", colour, n, got)
		}
	}
}
