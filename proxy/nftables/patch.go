package nftables

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/proxy"
)

// Patch is what to change in one family's table so that it holds a Ruleset. It is a
// difference, of elements and of sets and chains that come; or a swap, which replaces
// all rules as well. The shell writes the Steps of both families in as many transactions.
// An empty Patch changes nothing.
type Patch struct {
	*Family
	Layout  *Layout // the table's, afterwards
	Swap    bool
	Steps   [3]Step
	changes []change
}

// The Steps of a Patch.
//   - Early are sets and chains of a table that stays. A packet that is in the rules of
//     one generation and follows an element of the next into a new chain would find that
//     chain empty.
//   - Main is what the table's packets notice.
//   - Late is what a swap leaves: the sets and chains of the old layout. A packet that is
//     in the old rules would find no Service without them, and be refused.
const (
	Early = iota
	Main
	Late
)

// Step is what one transaction of a Patch does, in this order.
type Step struct {
	DelTable, AddTable bool
	Flush              []string  // chains whose rules go
	Del                []Element // sorted by set; an element that changes is in Add too
	DelSets, DelChains []string
	AddSets            []Set
	AddChains          []Chain // without rules
	AddRules           []Chain // whose rules come
	Add                []Element
}

// Empty reports whether there is nothing to write.
func (p *Patch) Empty() bool { return !p.static() && len(p.Main().Del)+len(p.Main().Add) == 0 }

// Main returns the Step that changes what packets notice.
func (p *Patch) Main() *Step { return &p.Steps[Main] }

// static reports whether p changes more than elements.
func (p *Patch) static() bool {
	return p.Swap || len(p.Steps[Early].AddSets)+len(p.Steps[Early].AddChains) > 0
}

// Summary is what the Patches amount to, as Sync returns it.
func Summary(patches []*Patch) proxy.Change {
	var c proxy.Change
	for _, p := range patches {
		elements := len(p.Main().Add) + len(p.Main().Del)
		c.Added += len(p.Main().Add)
		c.Deleted += len(p.Main().Del)
		// Sets and chains that come with elements are growth.
		c.Rebuilt = c.Rebuilt || p.Swap || p.static() && elements == 0
	}
	return c
}

// patch plans one family of next from r, given the Frontends that differ.
func (r *Ruleset) patch(next *Ruleset, f *Family, changes []change) *Patch {
	have := r.Layouts[f]
	p := &Patch{Family: f, Layout: have}
	if have.outdated(changes) {
		// The new layout has all that have has: nothing has to be swapped.
		p, _ = have.kernel().grow(layoutFor(f, have.mark, next.slots, have))
	}
	p.changes = changes
	p.Main().Del, p.Main().Add = f.elementsDiff(r.Table, next.Table, changes)
	return p
}

// outdated reports whether l lacks what the Frontends need once they have changed.
func (l *Layout) outdated(changes []change) bool {
	for _, c := range changes {
		if c.new != nil && slices.ContainsFunc(c.new.balances(), func(b balance) bool { return !l.covers(b) }) {
			return true
		}
	}
	return false
}

// kernel is a table without elements that has l's sets and chains.
func (l *Layout) kernel() *Kernel {
	k := &Kernel{Family: l.Family, Exists: true, Sets: map[string]SetType{}, Chains: map[string]ChainType{}}
	for _, s := range l.Sets {
		k.Sets[s.Name] = s.Type()
	}
	for _, c := range l.Chains {
		k.Chains[c.Name] = c.Type()
	}
	return k
}

// patch plans one family of next from the table in the kernel. With replace, a table
// that has to be swapped is made again instead.
func (k *Kernel) patch(next *Ruleset, mark uint32, replace bool) *Patch {
	from := k
	p, grows := k.grow(layoutFor(k.Family, mark, next.slots, k.layout(mark)))
	switch {
	// Two attempts were refused: something of others may be in the way, and only a new table is not.
	case !k.ours() || !grows && replace:
		from = &Kernel{Family: k.Family}
		p = from.swap(layoutFor(k.Family, mark, next.slots, nil))
		p.Main().DelTable, p.Main().AddTable = k.Exists, true
	case !grows:
		p = k.swap(p.Layout)
	}
	p.Main().Del, p.Main().Add = lostAndNew(p.kept(from), next.Elements(k.Family), Element.Compare)
	return p
}

// grow plans a difference that adds what of want the table lacks. It returns false if a
// set or chain is not as we write it, or is not ours: that one may lead to ours.
func (k *Kernel) grow(want *Layout) (*Patch, bool) {
	o := k.objects(want, func(got, c ChainType) bool { return got == c })
	p := &Patch{Family: k.Family, Layout: want}
	p.Steps[Early] = Step{AddSets: o.AddSets, AddChains: o.AddChains, AddRules: o.AddChains}
	return p, len(o.DelSets)+len(o.DelChains) == 0
}

// swap plans want in place of the table's sets, chains and rules; a table that is not
// there has none. Sets and maps of the same type stay, with what they hold: clients keep
// their affinity, and no connection finds a map empty.
func (k *Kernel) swap(want *Layout) *Patch {
	p := &Patch{Family: k.Family, Layout: want, Swap: true}
	early, main, late := &p.Steps[Early], &p.Steps[Main], &p.Steps[Late]
	// All rules are replaced, so a chain with other rules can stay. The hook of a
	// chain cannot be changed.
	*main = k.objects(want, func(got, c ChainType) bool { return got.Hook == c.Hook })
	// What is in the way of something new goes at once, and with it all that may refer to it.
	if k.Exists && !taken(main.DelSets, main.AddSets) && !taken(main.DelChains, main.AddChains) {
		// Deleted with the new rules, they were missed by packets between two hooks: one connection of
		// 66,000 was refused in 100 swaps from v0.1.0's layout under full load, and none since.
		*late = Step{Flush: main.DelChains, DelSets: main.DelSets, DelChains: main.DelChains}
		main.DelSets, main.DelChains = nil, nil
		// The rules of both layouts lead to the chains of slots.
		early.AddSets, main.AddSets = split(main.AddSets)
		early.AddChains, main.AddChains = split(main.AddChains)
		early.AddRules = early.AddChains
	}
	comes := map[string]bool{}
	for _, c := range main.AddChains {
		comes[c.Name] = true
	}
	main.Flush, main.AddRules = slices.Clone(main.DelChains), want.Chains
	for _, c := range want.Chains {
		if !comes[c.Name] {
			main.Flush = append(main.Flush, c.Name)
		}
	}
	return p
}

// split divides sets or chains into those of slots and the others.
func split[O interface{ name() string }](all []O) (slots, others []O) {
	for _, o := range all {
		if ofSlots(o.name()) {
			slots = append(slots, o)
		} else {
			others = append(others, o)
		}
	}
	return slots, others
}

// taken reports whether one of the objects has one of the names.
func taken[O interface{ name() string }](names []string, objects []O) bool {
	return slices.ContainsFunc(objects, func(o O) bool { return slices.Contains(names, o.name()) })
}

// objects plans the sets and chains of want that the table lacks, and those that it
// has beyond want. One that is in both but not alike goes and comes.
func (k *Kernel) objects(want *Layout, alike func(got, want ChainType) bool) (s Step) {
	s.AddSets, s.DelSets = difference(k.Sets, want.Sets, func(got, s SetType) bool { return got == s })
	s.AddChains, s.DelChains = difference(k.Chains, want.Chains, alike)
	return s
}

// difference returns the sets or chains to add, and the names of those to delete.
func difference[O interface {
	name() string
	Type() T
}, T any](have map[string]T, want []O, alike func(got, want T) bool) (add []O, del []string) {
	stays := make(map[string]bool, len(want))
	for _, o := range want {
		if got, ok := have[o.name()]; ok && alike(got, o.Type()) {
			stays[o.name()] = true
		} else {
			add = append(add, o)
		}
	}
	for name := range have {
		if !stays[name] {
			del = append(del, name)
		}
	}
	slices.Sort(del)
	return add, del
}

// kept are the table's elements, without those that a swap deletes with their sets.
func (p *Patch) kept(k *Kernel) []Element {
	gone := map[string]bool{}
	for _, s := range p.Steps {
		for _, name := range s.DelSets {
			gone[name] = true
		}
	}
	if len(gone) == 0 {
		return k.Elements
	}
	return slices.DeleteFunc(slices.Clone(k.Elements), func(e Element) bool { return gone[e.Set] })
}

// elementsDiff returns the elements of one family that differ between two Tables,
// given its Frontends that differ.
func (f *Family) elementsDiff(old, t *proxy.Table, changes []change) (del, add []Element) {
	var have, want []Element
	for _, c := range changes {
		lost, found := c.elements()
		del, add = append(del, lost...), append(add, found...)
		if c.old == nil || c.new == nil {
			// Other Frontends may have the same address, before or after.
			have, want = f.addrOfFrontend(have, old, c.newOrOld().Key), f.addrOfFrontend(want, t, c.newOrOld().Key)
		}
	}
	if !sameList(old.NodePortAddrs, t.NodePortAddrs) || !sameList(old.ServiceCIDRs, t.ServiceCIDRs) ||
		!sameList(old.LocalPods, t.LocalPods) || !sameList(old.LocalLinks, t.LocalLinks) ||
		!sameList(old.Uplinks, t.Uplinks) || !sameList(old.Ways, t.Ways) {
		have, want = f.nodeElements(have, old), f.nodeElements(want, t)
	}
	// One pod that came or went had the elements of all made and sorted again: 14 ms with 10,000 pods.
	if !sameList(old.LocalPods, t.LocalPods) {
		lost, found := lostAndNew(old.LocalPods, t.LocalPods, netip.Prefix.Compare)
		have, want = f.podElements(have, lost), f.podElements(want, found)
	}
	if !sameList(old.Hairpin, t.Hairpin) {
		lost, found := lostAndNew(old.Hairpin, t.Hairpin, proxy.Target.Compare)
		have, want = f.hairpinElements(have, lost), f.hairpinElements(want, found)
	}
	if !sameList(old.KeepPorts, t.KeepPorts) {
		lost, found := lostAndNew(old.KeepPorts, t.KeepPorts, proxy.Target.Compare)
		have, want = f.keepElements(have, lost), f.keepElements(want, found)
	}
	slices.SortFunc(have, Element.Compare)
	slices.SortFunc(want, Element.Compare)
	lost, found := lostAndNew(slices.Compact(have), slices.Compact(want), Element.Compare)
	del, add = append(del, lost...), append(add, found...)
	bySet := func(a, b Element) int { return strings.Compare(a.Set, b.Set) }
	slices.SortStableFunc(del, bySet)
	slices.SortStableFunc(add, bySet)
	return del, add
}

// elements are the elements that differ by c.
func (c change) elements() (lost, found []Element) {
	if c.old == nil {
		return nil, c.new.elements(nil)
	}
	if c.new == nil {
		return c.old.elements(nil), nil
	}
	key := c.new.key()
	// A change of endpoints alone writes slots: the verdicts stay as they are.
	if !c.sameFacts() {
		have, want := c.old.facts(nil, key), c.new.facts(nil, key)
		slices.SortFunc(have, Element.Compare)
		slices.SortFunc(want, Element.Compare)
		lost, found = lostAndNew(have, want, Element.Compare)
	}
	for _, local := range []bool{false, true} {
		v := variant{c.new.by(), local}
		was, now := c.old.slots(local).at, c.new.slots(local).at
		for i := range max(len(was), len(now)) {
			if i < len(was) && i < len(now) && was[i] == now[i] {
				continue
			}
			if i < len(was) {
				lost = append(lost, slotElement(v, i, key, was[i]))
			}
			if i < len(now) {
				found = append(found, slotElement(v, i, key, now[i]))
			}
		}
	}
	return lost, found
}

// sameFacts reports whether the elements differ only by those of slots, as they do when
// an endpoint comes or goes.
func (c change) sameFacts() bool {
	return sameButEndpoints(c.old.Frontend, c.new.Frontend) &&
		c.old.cluster.over == c.new.cluster.over && c.old.local.over == c.new.local.over
}

// lostAndNew returns what is in one of two sorted lists only. An element whose data
// or comment differs is in both results: the kernel cannot change an element, so it
// is deleted and added.
func lostAndNew[T comparable](have, want []T, compare func(a, b T) int) (lost, found []T) {
	for was, now := range diff.Changed(have, want, compare) {
		if was != nil {
			lost = append(lost, *was)
		}
		if now != nil {
			found = append(found, *now)
		}
	}
	return lost, found
}

// sameList reports whether a and b are equal, at once if they are one list.
func sameList[T comparable](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}
