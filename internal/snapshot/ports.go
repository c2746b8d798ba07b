package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// AnnotationPorts is a Service's annotation that asks for ranges of ports, see
// ParsePortRanges.
const AnnotationPorts = "fairlead.io/ports"

// MostPortRanges is how many PortRanges a Service can have. How many ports they have
// makes no difference.
const MostPortRanges = 64

// PortRange is the ports of one protocol from First to Last, which are at least 1.
type PortRange struct {
	Protocol    Protocol
	First, Last uint16
}

// String prints r as the annotation has it, such as "10000-20000/udp".
func (r PortRange) String() string { return r.Ports() + "/" + r.Protocol.String() }

// Ports prints the ports of r without the protocol: "10000-20000", "5060" or "all".
func (r PortRange) Ports() string {
	switch {
	case r.First == 1 && r.Last == lastPort:
		return allPorts
	case r.First == r.Last:
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Contains reports whether r has the port.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// Compare orders by protocol, then by the first and the last port.
func (r PortRange) Compare(o PortRange) int {
	return cmp.Or(cmp.Compare(r.Protocol, o.Protocol), cmp.Compare(r.First, o.First), cmp.Compare(r.Last, o.Last))
}

const (
	allPorts = "all"
	lastPort = 65535
)

// Protocols are those that a Service port can have, in their order.
var Protocols = []Protocol{TCP, UDP, SCTP}

// ParsePortRanges reads a list with commas. Each entry is a port, a range FIRST-LAST or
// the word all, and may end with a protocol, as 10000-20000/udp does. Without one, all of
// Protocols are meant. The result is sorted, and no two of it overlap or touch; it is nil
// if text is blank. The error quotes nothing of text but numbers.
func ParsePortRanges(text string) ([]PortRange, error) {
	var out []PortRange
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for i, entry := range strings.Split(text, ",") {
		ranges, err := parsePortRange(strings.ToLower(strings.TrimSpace(entry)))
		if err != nil {
			return nil, fmt.Errorf("entry %d %w", i+1, err)
		}
		out = append(out, ranges...)
	}
	return JoinPortRanges(out), nil
}

// parsePortRange reads one entry.
func parsePortRange(text string) ([]PortRange, error) {
	ports, name, named := strings.Cut(text, "/")
	protocols := Protocols
	if named {
		i := slices.IndexFunc(Protocols, func(p Protocol) bool { return p.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("has a protocol that is none of tcp, udp and sctp")
		}
		protocols = Protocols[i : i+1]
	}
	r := PortRange{First: 1, Last: lastPort}
	if ports != allPorts {
		var err error
		if r, err = parsePorts(ports); err != nil {
			return nil, err
		}
	}
	out := make([]PortRange, len(protocols))
	for i, p := range protocols {
		out[i] = PortRange{p, r.First, r.Last}
	}
	return out, nil
}

func parsePorts(text string) (PortRange, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	var r PortRange
	for _, end := range []struct {
		text string
		port *uint16
	}{{first, &r.First}, {last, &r.Last}} {
		n, err := strconv.ParseUint(end.text, 10, 16)
		if err != nil || n == 0 {
			return r, fmt.Errorf("has a port that is not a number from 1 to %d", lastPort)
		}
		*end.port = uint16(n)
	}
	if r.Last < r.First {
		return r, fmt.Errorf("ends at port %d, before its first port %d", r.Last, r.First)
	}
	return r, nil
}

// JoinPortRanges sorts all, and returns it with those joined that overlap or touch.
func JoinPortRanges(all []PortRange) []PortRange {
	slices.SortFunc(all, PortRange.Compare)
	var out []PortRange
	for _, r := range all {
		if n := len(out); n > 0 && out[n-1].Protocol == r.Protocol && int(r.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// PortRangesText prints ranges as the annotation has them.
func PortRangesText(ranges []PortRange) string {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.String()
	}
	return strings.Join(texts, ",")
}

// Ranges returns what ranges of ports the only holder of a has. An address that Services
// share has none.
func (a *Address) Ranges(ref Ref, uid string) []PortRange {
	if len(a.Holders) != 1 || a.Node != "" || !a.Held(ref, uid) {
		return nil
	}
	return a.Holders[0].Ranges
}
