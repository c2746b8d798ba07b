package storytest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// words cuts a line at spaces outside of double quotes, and removes the quotes.
func words(line string) []string {
	var out []string
	var word strings.Builder
	quoted, begun := false, false
	for _, r := range strings.TrimSpace(line) {
		switch {
		case r == '"':
			quoted, begun = !quoted, true
		case r == ' ' && !quoted:
			if begun {
				out = append(out, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		out = append(out, word.String())
	}
	return out
}

// attrs is the NAME=VALUE words of a line; a word alone has the value "true".
// It remembers what was read, so that a misspelt name is not passed over, and
// the errors.
type attrs struct {
	values map[string]string
	read   map[string]bool
	errs   []error
}

func (a *attrs) text(name string) string {
	a.read[name] = true
	return a.values[name]
}

// flag tells whether name is given and not "false".
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
	if _, given := a.values[name]; !given {
		return nil
	}
	return &snapshot.Selector{MatchLabels: a.labels(name)}
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
