package nftables

import (
	"slices"

	"github.com/fairlead/fairlead/proxy"
)

// state is what the engine wants or knows the kernel to hold.
type state struct {
	table      *proxy.Table
	fronts     []*placed // as table.Frontends
	shapes     map[*family]shape
	specs      map[*family]map[string]setSpec
	generation uint32
}

// needs is the shape that a family's Frontends need.
func (f *family) needs(fronts []*placed) shape {
	s := newShape()
	for _, p := range fronts {
		if p.Family != f.id {
			continue
		}
		for _, b := range p.balances() {
			if !s.covers(b) {
				s.grow(b)
			}
		}
	}
	return s
}

// shape is the shape that a table in the kernel has. A chain that needs slots
// which are not there is none of ours.
func (h *held) shape() shape {
	s := newShape()
	for _, v := range variants {
		for {
			if _, ok := h.sets[v.ep(s.slots[v.index()])]; !ok {
				break
			}
			s.slots[v.index()]++
		}
	}
	for name := range h.chains {
		if b, ok := parseBalance(name); ok && b.n <= s.slots[b.index()] {
			s.balances[b] = true
		}
	}
	return s
}

// plan is what to write to one family's table.
type plan struct {
	*family
	replace   bool    // delete the table first, if it exists
	create    bool    // the table
	swap      bool    // all rules, and of sets and chains those that differ
	rules     []chain // those that get their rules anew when swapped
	delSets   []string
	delChains []string
	addSets   []setSpec
	addChains []chain
	specs     map[string]setSpec // of the sets in delta
	grown     bool               // addSets and addChains were written already
	delta     delta
	shape     shape // afterwards
}

func (p *plan) empty() bool {
	return !p.rebuilt() && p.delta.empty()
}

func (p *plan) rebuilt() bool {
	return p.replace || p.create || p.swap || len(p.delSets)+len(p.delChains)+len(p.addSets)+len(p.addChains) > 0
}

// planFull compares what the kernel holds with what it shall hold, element by
// element and rule by rule. A table of ours with other rules, of another version
// for example, gets ours in place of them and keeps what its maps hold; with
// replace, and if it is not ours at all, it is made anew.
func (l layout) planFull(h *held, t *proxy.Table, fronts []*placed, replace bool) *plan {
	p := &plan{family: l.family, shape: l.needs(fronts)}
	p.create = !h.exists
	elems := l.render(t, fronts)
	if !p.create {
		p.shape.merge(h.shape())
	}
	want := l.objects(p.shape)
	p.specs = specs(want)
	adopted := !p.create && h.ours() && p.adopt(h, want)
	p.replace = h.exists && !adopted && (replace || !h.ours())
	switch {
	case p.create || p.replace:
		p.shape = l.needs(fronts)
		want = l.objects(p.shape)
		p.delSets, p.delChains = nil, nil
		p.addSets, p.addChains, p.specs = want.sets, want.chains, specs(want)
		p.delta = delta{add: elems}
		return p
	case !adopted:
		p.swapFor(h, want)
	}
	p.delta = diffElements(p.kept(h), elems)
	return p
}

// swapFor plans want in place of the objects that the kernel holds. Sets and
// maps of the same type stay, with what they hold.
func (p *plan) swapFor(h *held, want objects) {
	p.swap, p.rules = true, want.chains
	p.addSets, p.addChains, p.delSets, p.delChains = nil, nil, nil, nil
	for _, s := range want.sets {
		if got, ok := h.sets[s.name]; !ok || got != s.held() {
			p.addSets = append(p.addSets, s)
		}
	}
	for name, got := range h.sets {
		if s, ok := p.specs[name]; !ok || got != s.held() {
			p.delSets = append(p.delSets, name)
		}
	}
	hooks := map[string]hook{}
	for _, c := range want.chains {
		hooks[c.name] = c.held().hook
		if got, ok := h.chains[c.name]; !ok || got.hook != c.held().hook {
			p.addChains = append(p.addChains, chain{name: c.name, hook: c.hook})
		}
	}
	for name, got := range h.chains {
		if hk, ok := hooks[name]; !ok || got.hook != hk {
			p.delChains = append(p.delChains, name)
		}
	}
	slices.Sort(p.delSets)
	slices.Sort(p.delChains)
}

// kept are the elements that h holds in sets that stay.
func (p *plan) kept(h *held) []element {
	if !p.swap {
		return h.elements
	}
	return slices.DeleteFunc(slices.Clone(h.elements), func(e element) bool {
		s, ok := p.specs[e.set]
		return !ok || h.sets[e.set] != s.held()
	})
}

func specs(o objects) map[string]setSpec {
	out := make(map[string]setSpec, len(o.sets))
	for _, s := range o.sets {
		out[s.name] = s
	}
	return out
}

// adopt plans what turns the objects that the kernel holds into those wanted.
// It returns false if one of them is not as we write it.
func (p *plan) adopt(h *held, want objects) bool {
	chains := map[string]bool{}
	for _, s := range want.sets {
		switch got, ok := h.sets[s.name]; {
		case !ok:
			p.addSets = append(p.addSets, s)
		case got != s.held():
			return false
		}
	}
	for _, c := range want.chains {
		chains[c.name] = true
		switch got, ok := h.chains[c.name]; {
		case !ok:
			p.addChains = append(p.addChains, c)
		case got != c.held():
			return false
		}
	}
	for name := range h.sets {
		if _, ok := p.specs[name]; !ok {
			p.delSets = append(p.delSets, name)
		}
	}
	for name := range h.chains {
		if !chains[name] {
			p.delChains = append(p.delChains, name)
		}
	}
	slices.Sort(p.delSets)
	slices.Sort(p.delChains)
	return len(p.delSets)+len(p.delChains) == 0 || p.prunable()
}

// prunable tells whether all objects to delete are those of a timeout that no
// Frontend has any more; anything else is foreign, and may refer to ours.
func (p *plan) prunable() bool {
	for _, name := range p.delChains {
		if b, ok := parseBalance(name); (!ok || b.sticky == 0) && !isStick(name) {
			return false
		}
	}
	for _, name := range p.delSets {
		if !isAffinity(name) {
			return false
		}
	}
	return true
}

// planChanges is what two successive Tables differ in.
func (l layout) planChanges(old, now *state, changes []change) *plan {
	have := old.shapes[l.family]
	p := &plan{family: l.family, shape: have, specs: old.specs[l.family]}
	grown, pruned := false, false
	for _, c := range changes {
		if c.any().Family != l.id {
			continue
		}
		if c.new != nil {
			for _, b := range c.new.balances() {
				grown = grown || !have.covers(b)
			}
		}
		pruned = pruned || c.old != nil && c.old.Affinity > 0
	}
	if grown || pruned {
		p.shape = l.needs(now.fronts)
		p.shape.merge(have)
		want := l.objects(p.shape)
		p.objectsDiff(l.objects(have), want)
		p.specs = specs(want)
	}
	p.delta = l.tableDiff(old.table, now.table, changes)
	return p
}

// objectsDiff plans the objects that differ by name.
func (p *plan) objectsDiff(have, want objects) {
	haveSets, wantSets := specs(have), specs(want)
	haveChains, wantChains := map[string]bool{}, map[string]bool{}
	for _, c := range have.chains {
		haveChains[c.name] = true
	}
	for _, s := range want.sets {
		if _, ok := haveSets[s.name]; !ok {
			p.addSets = append(p.addSets, s)
		}
	}
	for _, c := range want.chains {
		wantChains[c.name] = true
		if !haveChains[c.name] {
			p.addChains = append(p.addChains, c)
		}
	}
	for _, s := range have.sets {
		if _, ok := wantSets[s.name]; !ok {
			p.delSets = append(p.delSets, s.name)
		}
	}
	for _, c := range have.chains {
		if !wantChains[c.name] {
			p.delChains = append(p.delChains, c.name)
		}
	}
}
