package nftables

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/proxy"
)

// Patch is what to change in one family's table so that it holds a Ruleset. The
// shell writes the Patches of both families in one transaction, with one before it if
// one of them has Early objects, and one after it if one has Leftovers. An empty Patch
// changes nothing.
type Patch struct {
	*Family
	Layout  *Layout // the table's, afterwards
	Create  bool    // there is no table
	Replace bool    // delete the table first
	// Swap: all rules go, and those of all chains of Layout come.
	Swap      bool
	DelSets   []string
	DelChains []string
	AddSets   []Set
	AddChains []Chain
	Del, Add  []Element // sorted by set; an element that changes is in both
	changes   []change
}

// Empty reports whether there is nothing to write.
func (p *Patch) Empty() bool { return !p.static() && len(p.Del)+len(p.Add) == 0 }

// static reports whether p changes more than elements.
func (p *Patch) static() bool {
	return p.Create || p.Replace || p.Swap || len(p.DelSets)+len(p.DelChains)+len(p.AddSets)+len(p.AddChains) > 0
}

// Early returns those sets and chains of a table that stays which come in an earlier
// transaction of their own: a packet that is in the rules of one generation and follows
// an element of the next into a new chain finds that chain empty. Of a swap these are
// those of slots, which the rules of both versions lead to.
func (p *Patch) Early() (sets []Set, chains []Chain) {
	switch {
	case p.Create || p.Replace:
		return nil, nil
	case !p.Swap:
		return p.AddSets, p.AddChains
	}
	for _, s := range p.AddSets {
		if ofSlots(s.Name) {
			sets = append(sets, s)
		}
	}
	for _, c := range p.AddChains {
		if ofSlots(c.Name) {
			i := slices.IndexFunc(p.Layout.Chains, func(o Chain) bool { return o.Name == c.Name })
			chains = append(chains, p.Layout.Chains[i])
		}
	}
	replaced := func(name string) bool { return slices.Contains(p.DelSets, name) || slices.Contains(p.DelChains, name) }
	if slices.ContainsFunc(sets, func(s Set) bool { return replaced(s.Name) }) || slices.ContainsFunc(chains, func(c Chain) bool { return replaced(c.Name) }) {
		return nil, nil // somebody else's are in the way
	}
	return sets, chains
}

// Late returns the sets and chains that are to be added and not Early.
func (p *Patch) Late() (sets []Set, chains []Chain) {
	early := map[string]bool{}
	earlySets, earlyChains := p.Early()
	for _, s := range earlySets {
		early["set "+s.Name] = true
	}
	for _, c := range earlyChains {
		early["chain "+c.Name] = true
	}
	isEarly := func(kind, name string) bool { return early[kind+" "+name] }
	sets = slices.DeleteFunc(slices.Clone(p.AddSets), func(s Set) bool { return isEarly("set", s.Name) })
	return sets, slices.DeleteFunc(slices.Clone(p.AddChains), func(c Chain) bool { return isEarly("chain", c.Name) })
}

// Leftovers returns the sets and chains which a swap deletes in a later transaction of
// its own, until when these chains keep their rules. A packet that is in the rules of
// the old layout looks up the sets of the old layout, and comes to the chains of its
// hooks. If they went with the swap, it would find no Service and be refused. All go
// with the swap if one of them has the name of something new.
func (p *Patch) Leftovers() (sets, chains []string) {
	if !p.Swap || taken(p.DelSets, p.AddSets) || taken(p.DelChains, p.AddChains) {
		return nil, nil
	}
	return p.DelSets, p.DelChains
}

// InTheWay returns the sets and chains which a swap deletes at once.
func (p *Patch) InTheWay() (sets, chains []string) {
	if sets, chains = p.Leftovers(); len(sets)+len(chains) > 0 {
		return nil, nil
	}
	return p.DelSets, p.DelChains
}

// Refilled returns the chains whose rules a swap replaces: those that are there.
func (p *Patch) Refilled() []string {
	_, chains := p.InTheWay()
	names := slices.Clone(chains)
	_, late := p.Late()
	for _, c := range p.Layout.Chains {
		if !slices.ContainsFunc(late, func(o Chain) bool { return o.Name == c.Name }) {
			names = append(names, c.Name)
		}
	}
	return names
}

// taken reports whether one of the objects has one of the names.
func taken[O interface{ name() string }](names []string, objects []O) bool {
	return slices.ContainsFunc(objects, func(o O) bool { return slices.Contains(names, o.name()) })
}

// Summary is what the Patches amount to, as Sync returns it.
func Summary(patches []*Patch) proxy.Change {
	var c proxy.Change
	for _, p := range patches {
		c.Added += len(p.Add)
		c.Deleted += len(p.Del)
		// Sets and chains that come with elements are growth.
		onlyStatic := p.static() && len(p.Del)+len(p.Add) == 0
		c.Rebuilt = c.Rebuilt || p.Create || p.Replace || p.Swap || onlyStatic
	}
	return c
}

// patch plans one family of next from r, given the Frontends that differ.
func (r *Ruleset) patch(next *Ruleset, f *Family, changes []change) *Patch {
	have := r.Layouts[f]
	p := &Patch{Family: f, Layout: have}
	if have.outdated(changes) {
		// have is what the kernel holds, so it can always be adopted.
		p, _ = have.kernel().adopt(layoutFor(f, have.mark, next.slots, have))
	}
	p.changes = changes
	p.Del, p.Add = f.elementsDiff(r.Table, next.Table, changes)
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

// patch plans one family of next from the table in the kernel.
func (k *Kernel) patch(next *Ruleset, mark uint32, replace bool) *Patch {
	want := next.Elements(k.Family)
	if k.Exists && k.ours() {
		layout := layoutFor(k.Family, mark, next.slots, k.layout(mark))
		p, planned := k.adopt(layout)
		if !planned && !replace {
			p, planned = k.swap(layout), true
		}
		if planned {
			p.Del, p.Add = lostAndNew(p.kept(k), want, Element.compare)
			return p
		}
	}
	fresh := layoutFor(k.Family, mark, next.slots, nil)
	return &Patch{Family: k.Family, Layout: fresh, Create: !k.Exists, Replace: k.Exists,
		AddSets: fresh.Sets, AddChains: fresh.Chains, Add: want}
}

// adopt plans what makes the table's sets and chains those of want. It returns false
// if one of them is not as we write it, or is not ours: that one may lead to ours.
func (k *Kernel) adopt(want *Layout) (*Patch, bool) {
	p := k.objects(want, func(got, c ChainType) bool { return got == c })
	return p, len(p.DelSets)+len(p.DelChains) == 0
}

// swap plans want in place of the table's sets, chains and rules. Sets and maps of
// the same type stay, with what they hold: clients keep their affinity, and no
// connection finds a map empty.
func (k *Kernel) swap(want *Layout) *Patch {
	// All rules are replaced, so a chain with other rules can stay. The hook of a
	// chain cannot be changed.
	p := k.objects(want, func(got, c ChainType) bool { return got.Hook == c.Hook })
	p.Swap = true
	for i := range p.AddChains {
		p.AddChains[i].Rules = nil // they come with those of all chains
	}
	return p
}

// objects plans the sets and chains of want that the table lacks, and those that it
// has beyond want. One that is in both but not alike goes and comes.
func (k *Kernel) objects(want *Layout, alike func(got, want ChainType) bool) *Patch {
	p := &Patch{Family: k.Family, Layout: want}
	p.AddSets, p.DelSets = difference(k.Sets, want.Sets, func(got, s SetType) bool { return got == s })
	p.AddChains, p.DelChains = difference(k.Chains, want.Chains, alike)
	return p
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
	if !p.Swap {
		return k.Elements
	}
	return slices.DeleteFunc(slices.Clone(k.Elements), func(e Element) bool { return slices.Contains(p.DelSets, e.Set) })
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
		!sameList(old.LocalPods, t.LocalPods) || !sameList(old.LocalLinks, t.LocalLinks) {
		have, want = f.nodeElements(have, old), f.nodeElements(want, t)
	}
	if !sameList(old.LocalPods, t.LocalPods) {
		lost, found := lostAndNew(old.LocalPods, t.LocalPods, netip.Prefix.Compare)
		have, want = f.podElements(have, lost), f.podElements(want, found)
	}
	if !sameList(old.Hairpin, t.Hairpin) {
		lost, found := lostAndNew(old.Hairpin, t.Hairpin, proxy.Target.Compare)
		have, want = f.hairpinElements(have, lost), f.hairpinElements(want, found)
	}
	slices.SortFunc(have, Element.compare)
	slices.SortFunc(want, Element.compare)
	lost, found := lostAndNew(slices.Compact(have), slices.Compact(want), Element.compare)
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
	if !c.sameFacts() {
		have, want := c.old.facts(nil, key), c.new.facts(nil, key)
		slices.SortFunc(have, Element.compare)
		slices.SortFunc(want, Element.compare)
		lost, found = lostAndNew(have, want, Element.compare)
	}
	for _, local := range []bool{false, true} {
		v := variant{c.new.Kind == proxy.NodePort, local}
		was, now := c.old.slots(local).at, c.new.slots(local).at
		for i := range max(len(was), len(now)) {
			if i < len(was) && i < len(now) && was[i] == now[i] {
				continue
			}
			set := v.ep(i)
			if i < len(was) {
				lost = append(lost, slotElement(set, key, was[i]))
			}
			if i < len(now) {
				found = append(found, slotElement(set, key, now[i]))
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

// sameList is slices.Equal, at once if it is the same list.
func sameList[T comparable](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}
