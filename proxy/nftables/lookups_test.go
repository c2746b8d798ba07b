package nftables

import (
	"testing"

	"github.com/fairlead/fairlead/internal/diff"
)

// packet is the first packet of a connection: the sets that it is in, and the verdicts
// that maps have for it.
type packet map[string]string

// lookups counts how often the rules of a base chain look into a named set or map for p,
// or write into one.
func lookups(l *Layout, base string, p packet) int {
	chains := map[string]Chain{}
	for _, c := range l.Chains {
		chains[c.Name] = c
	}
	n := 0
	var run func(name string) (ended bool)
	// one runs a rule. It returns the chain to go to, if any.
	one := func(r Rule) (to string, jumps, returns, ended bool) {
		for _, s := range r.Statements {
			value, in := p[s.Set]
			switch s.Verb {
			case In, NotIn:
				if n++; in == (s.Verb == NotIn) {
					return "", false, false, false
				}
			case Update:
				n++
			case Vmap:
				n++
				return value, false, false, false
			case DNAT, DNATAddr:
				n++
				return "", false, false, in
			case Goto, Jump:
				return s.Chains[0], s.Verb == Jump, false, false
			case Spread, Hash:
				return s.Chains[0], s.Return, false, false
			case Return:
				return "", false, true, false
			case Drop, Accept, Masquerade, Reject:
				return "", false, false, true
			case CtInvalid, OpensNothing, SourceIsOurs, EchoRequest, Marked:
				return "", false, false, false
			}
		}
		return "", false, false, false
	}
	run = func(name string) bool {
		for _, r := range chains[name].Rules {
			to, jumps, returns, ended := one(r)
			switch {
			case ended:
				return true
			case returns:
				return false
			case to != "" && !jumps:
				return run(to)
			case to != "" && run(to):
				return true
			}
		}
		return false
	}
	run(base)
	return n
}

// A packet costs no more than it has to. The numbers are those of version 4. In version
// 3 they were 6, 3, 7, 4, 7, 7, 5 and 7. The last has two more now, which bound its share.
func TestLookups(t *testing.T) {
	l := layoutFor(IP4, DefaultMark, diff.Blocks[*Slots]{}, nil)
	for _, sticky := range []int{0, 3600} {
		l.grow(balance{variant{}, 3, sticky, false})
		l.grow(balance{variant{local: true}, 3, sticky, false})
		l.grow(balance{variant{by: byNodePort}, 3, sticky, false})
		l.grow(balance{variant{by: byRange}, 3, sticky, false})
	}
	l.fill()
	for _, c := range []struct {
		what string
		p    packet
		want int
	}{
		{"pod to ClusterIP", packet{setClusterIPs: "", setKeepSource: "", setLocalPods: "", "frontends": "lb-3", "ep-0": ""}, 6},
		{"client to VIP", packet{setExternal: "", setExternalCluster: "", "frontends": "lb-3", "ep-0": ""}, 3},
		{"client to VIP, Local", packet{setExternal: "", "frontends-local": "lb-local-3", "ep-local-0": ""}, 6},
		{"pod to VIP, Local", packet{setExternal: "", setLocalPods: "", "frontends": "lb-3", "ep-0": ""}, 5},
		{"client to node port", packet{setNodePortIPs: "", setNodePorts: "", setNodePortsCluster: "", "np-frontends": "np-lb-3", "np-ep-0": ""}, 7},
		{"neither", packet{}, 5},
		{"client to a range of ports", packet{setVIPs: "", setRangePorts: "", setRangeCluster: "", "range-frontends": "range-lb-3", "range-ep-0": ""}, 9},
		{"remembered client to VIP", packet{setExternal: "", setExternalCluster: "", "frontends": "lb-3-sticky-3600", "affinity-0": "", "ep-0": ""}, 5},
		{"new client to VIP with affinity", packet{setExternal: "", setExternalCluster: "", "frontends": "lb-3-sticky-3600", "ep-0": ""}, 9},
	} {
		if got := lookups(l, "nat-prerouting", c.p); got != c.want {
			t.Errorf("%s: %d lookups, want %d", c.what, got, c.want)
		}
	}
}
