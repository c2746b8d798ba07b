package storytest

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// words cuts a line at spaces outside of double quotes and removes the quotes.
func words(line string) ([]string, error) {
	var out []string
	line = strings.TrimSpace(line)
	for line != "" {
		end, quoted := 0, false
		for end < len(line) && (quoted || line[end] != ' ') {
			if line[end] == '"' && line[max(end-1, 0)] != '\\' {
				quoted = !quoted
			}
			end++
		}
		word := line[:end]
		if at := strings.IndexByte(word, '"'); at >= 0 {
			text, err := strconv.Unquote(word[at:])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", word, err)
			}
			word = word[:at] + text
		}
		out = append(out, word)
		line = strings.TrimLeft(line[end:], " ")
	}
	return out, nil
}

// attrs are the attributes of a thing while it is built. They remember which
// names were read, so that a misspelt one is an error, and the errors.
type attrs struct {
	*item
	read map[string]bool
	errs []error
}

func (a *attrs) text(name string) string {
	a.read[name] = true
	return a.values[name]
}

// flag reports whether name is given and not "false".
func (a *attrs) flag(name string) bool {
	v := a.text(name)
	return v != "" && v != "false"
}

func (a *attrs) list(name string) []string { return list(a.text(name)) }

func (a *attrs) addrs(name string) []netip.Addr {
	return each(a, a.list(name), netip.ParseAddr)
}

func (a *attrs) prefixes(name string) []netip.Prefix {
	return each(a, a.list(name), netip.ParsePrefix)
}

func (a *attrs) labels(name string) map[string]string {
	var out map[string]string
	for _, kv := range a.list(name) {
		if out == nil {
			out = map[string]string{}
		}
		k, v, _ := strings.Cut(kv, "=")
		out[k] = v
	}
	return out
}

// selector is nil if name is not given.
func (a *attrs) selector(name string) *snapshot.Selector {
	if a.text(name) == "" {
		return nil
	}
	return &snapshot.Selector{MatchLabels: a.labels(name)}
}

func (a *attrs) number(name string) int {
	text := a.text(name)
	if text == "" {
		return 0
	}
	return each(a, []string{text}, strconv.Atoi)[0]
}

func (a *attrs) span(name string) time.Duration {
	text := a.text(name)
	if text == "" {
		return 0
	}
	return each(a, []string{text}, time.ParseDuration)[0]
}

// created returns when the thing was created: when its first line says so, or
// created=N seconds after the beginning.
func (a *attrs) created() time.Time {
	if a.text("created") == "" {
		return a.born
	}
	return beginning.Add(time.Duration(a.number("created")) * time.Second)
}

// done returns what went wrong, unknown names included.
func (a *attrs) done() error {
	for name := range a.values {
		if !a.read[name] {
			a.errs = append(a.errs, fmt.Errorf("no attribute %q", name))
		}
	}
	return errors.Join(a.errs...)
}

func each[T any](a *attrs, texts []string, parse func(string) (T, error)) []T {
	var out []T
	for _, t := range texts {
		v, err := parse(t)
		if err != nil {
			a.errs = append(a.errs, err)
		}
		out = append(out, v)
	}
	return out
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func ref(text string) (snapshot.Ref, error) {
	ns, name, ok := strings.Cut(text, "/")
	if !ok {
		return snapshot.Ref{}, fmt.Errorf("%q is not NAMESPACE/NAME", text)
	}
	return snapshot.Ref{Namespace: ns, Name: name}, nil
}

func protocol(text string) (snapshot.Protocol, error) {
	switch text {
	case "tcp", "":
		return snapshot.TCP, nil
	case "udp":
		return snapshot.UDP, nil
	case "sctp":
		return snapshot.SCTP, nil
	}
	return 0, fmt.Errorf("no protocol %q", text)
}

// ipRange reads a prefix or FROM-TO.
func ipRange(text string) (netipx.IPRange, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return netipx.RangeOfPrefix(p), nil
	}
	return netipx.ParseIPRange(text)
}
