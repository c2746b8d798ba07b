package proxy

import (
	"net/netip"
	"slices"
)

// A Service of more than wholeFrontends comes in steps of stepFrontends. The kernel takes
// milliseconds for a step, and half a second for 4096. The changes of other Services
// come in between.
const (
	wholeFrontends = 256
	stepFrontends  = 32
)

// after returns what is programmed next where old is programmed and to is wanted: to,
// or part of the way if that is long. The rest follows in the next Tables: see More.
// Only endpoints come gradually. A Service that gains or loses addresses or ports is
// taken as it is, since others may have them next.
func (to compiled) after(old compiled) compiled {
	if len(to.frontends) <= wholeFrontends || !slices.EqualFunc(old.frontends, to.frontends, func(a, b *Frontend) bool { return a.Key == b.Key }) {
		return to
	}
	step := to
	step.frontends, step.from = slices.Clone(old.frontends), 0
	if old.next != nil && old.next.in.equal(to.in) {
		step.from, step.hairpin = old.from, old.hairpin // the first ones are as they are wanted already
	} else {
		// Until the last step both the old endpoints and the new ones are in use.
		step.hairpin = slices.Concat(old.hairpin, to.hairpin)
		slices.SortFunc(step.hairpin, Target.Compare)
		step.hairpin = slices.Compact(step.hairpin)
	}
	for taken := 0; step.from < len(to.frontends); step.from++ {
		f := to.frontends[step.from]
		if step.frontends[step.from].equal(f) {
			continue
		}
		if taken == stepFrontends {
			step.next = &to
			return step
		}
		step.frontends[step.from] = f
		taken++
	}
	step.hairpin = to.hairpin
	return step
}

// differing returns what of two lists of Frontends is not the same in both. Lists of
// one Service on its way have most in common.
func differing(old, now []*Frontend) (gone, come []*Frontend) {
	if len(old) != len(now) {
		return old, now
	}
	for i := range old {
		// By pointer: a step leaves most Frontends what they were.
		if old[i] != now[i] {
			gone, come = append(gone, old[i]), append(come, now[i])
		}
	}
	return gone, come
}

// equal reports whether the engine does the same for both, whose Keys are equal.
func (f *Frontend) equal(o *Frontend) bool {
	return f.Service == o.Service && f.PortName == o.PortName && f.created == o.created && f.LocalOnly == o.LocalOnly && f.Directed == o.Directed &&
		slices.Equal(f.Ranges, o.Ranges) && slices.EqualFunc(f.Nodes, o.Nodes, NodeEndpoints.equal) && f.Empty == o.Empty && f.Affinity == o.Affinity && f.AllPorts == o.AllPorts &&
		f.Helper == o.Helper && (f.Sources == nil) == (o.Sources == nil) && slices.Equal(f.Sources, o.Sources) &&
		sameTargets(f.Cluster, o.Cluster) && sameTargets(f.Local, o.Local) && sameTargets(f.Serving, o.Serving) && sameTargets(f.Lost, o.Lost) && sameTargets(f.Members, o.Members)
}

// sameTargets reports whether a and b are equal. nil differs from an empty list.
func sameTargets(a, b []netip.AddrPort) bool { return (a == nil) == (b == nil) && slices.Equal(a, b) }

// More reports whether the Table that Compile returned last is on its way: the next one
// differs, even of the same Snapshot.
func (c *Compiler) More() bool { return c.last != nil && len(c.last.moving) > 0 }
