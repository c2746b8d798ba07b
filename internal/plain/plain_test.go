package plain

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"web is reached":              "web is reached",
		"✔ grüße":                     "✔ grüße",
		"a\nfairlead: all is well":    `a\nfairlead: all is well`,
		"\x1b]52;c;cm0gLXJm\x07":      `\x1b]52;c;cm0gLXJm\x07`,
		"\x1b[2J\x1b[H":               `\x1b[2J\x1b[H`,
		"\u009b2J":                    `\x9b2J`,
		"\x9b2J":                      `\x9b2J`,
		"abc\u202edcb":                `abc\u202edcb`,
		"a\rb\tc\x7f":                 `a\rb\tc\x7f`,
		"\U000e0041":                  `\U000e0041`,
		"a\u2028b":                    `a\u2028b`,
		"C:\\x1b":                     `C:\x1b`,
		"the replacement character �": "the replacement character �",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in   string
		most int
		want string
	}{{"abc", 3, "abc"}, {"abc", 2, "ab"}, {"grüße", 3, "gr"}, {"a\nb", 3, `a\n`}} {
		if got := Cut(c.in, c.most); got != c.want {
			t.Errorf("Cut(%q, %d) = %q", c.in, c.most, got)
		}
	}
}

func TestWriter(t *testing.T) {
	var b strings.Builder
	if n, err := Writer(&b).Write([]byte("a:\tb\n\x1b[2J")); n != 9 || err != nil || b.String() != "a:\tb\n\\x1b[2J" {
		t.Errorf("%d %v %q", n, err, b.String())
	}
}

// Whatever comes in, what goes out is printed as it is, and once more is the same.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "web", "\x1b]52;c;AA\x07", "\xff\xfe", "a\u202eb\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Text(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unsafe) {
			t.Errorf("Text(%q) = %q", s, got)
		}
		if Text(got) != got {
			t.Errorf("Text(%q) changes what it returned", s)
		}
	})
}
