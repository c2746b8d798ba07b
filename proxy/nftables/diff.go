package nftables

import (
	"slices"
	"strings"

	"github.com/fairlead/fairlead/proxy"
)

// delta is what to delete and then to add in one family; both sorted.
type delta struct {
	del, add []element
}

func (d delta) empty() bool { return len(d.del) == 0 && len(d.add) == 0 }

// diffElements compares two sorted lists. An element whose data or comment
// changes is deleted and added: the kernel has no other way.
func diffElements(have, want []element) delta {
	var d delta
	for len(have) > 0 && len(want) > 0 {
		switch c := have[0].compare(want[0]); {
		case c < 0:
			d.del, have = append(d.del, have[0]), have[1:]
		case c > 0:
			d.add, want = append(d.add, want[0]), want[1:]
		default:
			if have[0] != want[0] {
				d.del, d.add = append(d.del, have[0]), append(d.add, want[0])
			}
			have, want = have[1:], want[1:]
		}
	}
	d.del = append(d.del, have...)
	d.add = append(d.add, want...)
	return d
}

// change is one Frontend that differs; old or new is nil if it came or went.
type change struct{ old, new *placed }

// frontendsDiff walks two lists that are sorted alike. It returns the new list
// with slots, and what changed. Frontends that are the same pointer are not
// looked at, so the cost of an unchanged Table is that of comparing pointers.
func frontendsDiff(old []*placed, want []*proxy.Frontend) ([]*placed, []change) {
	first := 0
	for first < len(old) && first < len(want) && old[first].Frontend == want[first] {
		first++
	}
	if first == len(old) && first == len(want) {
		return old, nil
	}
	out := make([]*placed, 0, len(want))
	out, old, want = append(out, old[:first]...), old[first:], want[first:]
	same := 0 // at the end
	for same < len(old) && same < len(want) && old[len(old)-1-same].Frontend == want[len(want)-1-same] {
		same++
	}
	tail := old[len(old)-same:]
	old, want = old[:len(old)-same], want[:len(want)-same]
	var changes []change
	for _, f := range want {
		for len(old) > 0 && old[0].Frontend != f && old[0].Key.Compare(f.Key) < 0 {
			changes = append(changes, change{old: old[0]})
			old = old[1:]
		}
		var prev *placed
		if len(old) > 0 && (old[0].Frontend == f || old[0].Key == f.Key) {
			prev, old = old[0], old[1:]
		}
		switch {
		case prev != nil && prev.Frontend == f:
			out = append(out, prev)
			continue
		case prev != nil && sameFrontend(prev.Frontend, f):
			out = append(out, &placed{f, prev.cluster, prev.local})
			continue
		}
		now := place(prev, f)
		out = append(out, now)
		changes = append(changes, change{prev, now})
	}
	for _, p := range old {
		changes = append(changes, change{old: p})
	}
	return append(out, tail...), changes
}

// sameFrontend compares what the kernel holds.
func sameFrontend(a, b *proxy.Frontend) bool {
	return a.LocalOnly == b.LocalOnly && a.Empty == b.Empty && a.Affinity == b.Affinity &&
		slices.Equal(a.Cluster, b.Cluster) && slices.Equal(a.Local, b.Local) &&
		(a.Sources == nil) == (b.Sources == nil) && slices.Equal(a.Sources, b.Sources)
}

// elements is c as elements, added to d.
func (c change) elements(d *delta) {
	var have, want []element
	if c.old != nil {
		have = c.old.elements(nil)
	}
	if c.new != nil {
		want = c.new.elements(nil)
	}
	slices.SortFunc(have, element.compare)
	slices.SortFunc(want, element.compare)
	got := diffElements(have, want)
	d.del = append(d.del, got.del...)
	d.add = append(d.add, got.add...)
}

func (c change) any() *placed {
	if c.new != nil {
		return c.new
	}
	return c.old
}

// sort puts elements of one set next to each other, as messages want them.
func (d *delta) sort() {
	bySet := func(a, b element) int { return strings.Compare(a.set, b.set) }
	slices.SortStableFunc(d.del, bySet)
	slices.SortStableFunc(d.add, bySet)
}

// tableDiff returns the elements of one family that differ between two
// Tables, given the Frontends that differ.
func (f *family) tableDiff(old, t *proxy.Table, changes []change) delta {
	var d delta
	var have, want []element
	for _, c := range changes {
		if c.any().Family != f.id {
			continue
		}
		c.elements(&d)
		if c.old == nil || c.new == nil {
			have, want = f.addrOfFrontend(have, old, c.any().Key), f.addrOfFrontend(want, t, c.any().Key)
		}
	}
	if !sameList(old.NodePortAddrs, t.NodePortAddrs) || !sameList(old.ServiceCIDRs, t.ServiceCIDRs) ||
		!sameList(old.LocalPods, t.LocalPods) || !sameList(old.LocalLinks, t.LocalLinks) {
		have, want = f.nodeElements(have, old), f.nodeElements(want, t)
	}
	lost, new := sortedDiff(old.Hairpin, t.Hairpin, proxy.Target.Compare)
	have, want = f.hairpinElements(have, lost), f.hairpinElements(want, new)
	slices.SortFunc(have, element.compare)
	slices.SortFunc(want, element.compare)
	got := diffElements(slices.Compact(have), slices.Compact(want))
	d.del = append(d.del, got.del...)
	d.add = append(d.add, got.add...)
	d.sort()
	return d
}

// sameList is slices.Equal, at once if it is the same list.
func sameList[T comparable](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// sortedDiff returns what is in one of two sorted lists only.
func sortedDiff[T comparable](old, now []T, compare func(a, b T) int) (lost, new []T) {
	if sameList(old, now) {
		return nil, nil
	}
	for len(old) > 0 && len(now) > 0 {
		switch c := compare(old[0], now[0]); {
		case c < 0:
			lost, old = append(lost, old[0]), old[1:]
		case c > 0:
			new, now = append(new, now[0]), now[1:]
		default:
			old, now = old[1:], now[1:]
		}
	}
	return append(lost, old...), append(new, now...)
}
