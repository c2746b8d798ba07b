package nftables

import "github.com/fairlead/fairlead/proxy"

// Leftovers are the clients that an affinity set remembers for an endpoint that
// moved. The shell removes them after the Sync, in a transaction of its own, and keeps
// those here that it could not remove. By family and affinity set, Leftovers hold the
// keys of Frontends, which the set's own keys end with. The zero value is empty.
type Leftovers map[*Family]map[string][]string

// Add adds what patches leave.
func (l *Leftovers) Add(patches []*Patch) {
	if *l == nil {
		*l = Leftovers{}
	}
	for _, p := range patches {
		for _, c := range p.changes {
			l.addClients(p.Family, c)
		}
	}
}

// addClients adds the clients of each slot of a changed Frontend that no longer
// means the same endpoint.
func (l Leftovers) addClients(f *Family, c change) {
	if c.old == nil || c.old.Affinity == 0 {
		return
	}
	now := &Slots{}
	if c.new != nil && c.new.Affinity > 0 {
		now = c.new
	}
	np := c.old.Kind == proxy.NodePort
	l.addMoved(f, c.old, variant{np, false}, c.old.cluster, now.cluster)
	l.addMoved(f, c.old, variant{np, true}, c.old.local, now.local)
}

func (l Leftovers) addMoved(f *Family, p *Slots, v variant, old, now []slot) {
	for i, s := range old {
		if i < len(now) && now[i].ep == s.ep {
			continue
		}
		if l[f] == nil {
			l[f] = map[string][]string{}
		}
		l[f][v.affinity(i)] = append(l[f][v.affinity(i)], p.key())
	}
}
