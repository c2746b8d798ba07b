// Package plain makes text of others safe to print. Objects, routers and other agents
// say what they like: a terminal would obey its control characters, and a new line would
// look like one of ours.
package plain

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns s in one line, and what is not printed or turns text around as an escape
// of Go: \n, \x1b, \u202e. Text of its result is the same.
func Text(s string) string { return escape(s, "") }

// Cut is Text, cut to most bytes. It cuts no character in two.
func Cut(s string, most int) string {
	s = Text(s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}

// Writer returns a Writer to w that does the same, but keeps new lines and tabs. It is
// for formats that have them, of texts that may come from anywhere.
func Writer(w io.Writer) io.Writer { return writer{w} }

type writer struct{ to io.Writer }

// Write implements io.Writer. A character must not be split between two calls.
func (w writer) Write(b []byte) (int, error) {
	if _, err := io.WriteString(w.to, escape(string(b), "\n\t")); err != nil {
		return 0, fmt.Errorf("print: %w", err)
	}
	return len(b), nil
}

func escape(s, keep string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return unsafe(r) || r == utf8.RuneError }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strings.ContainsRune(keep, r) || !unsafe(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += n
	}
	return b.String()
}

// unsafe reports whether a terminal would do something else than print r: control
// characters (Cc), formats such as turning text around (Cf), and line separators (Zl, Zp).
func unsafe(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}
