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
	replace   bool // delete the table first, if it exists
	create    bool // the table
	comment   string
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
	return p.replace || p.create || len(p.delSets)+len(p.delChains)+len(p.addSets)+len(p.addChains) > 0
}

// planFull compares what the kernel holds with what it shall hold, element by
// element and rule by rule.
func (l layout) planFull(h *held, t *proxy.Table, fronts []*placed) *plan {
	p := &plan{family: l.family, comment: l.comment(), shape: l.needs(fronts)}
	p.shape.merge(h.shape())
	want := l.objects(p.shape)
	p.specs = specs(want)
	elems := l.render(t, fronts)
	p.create = !h.exists
	p.replace = h.exists && (h.comment != p.comment || !p.adopt(h, want))
	if p.replace || p.create {
		p.shape = l.needs(fronts)
		want = l.objects(p.shape)
		p.delSets, p.delChains = nil, nil
		p.addSets, p.addChains, p.specs = want.sets, want.chains, specs(want)
		p.delta = delta{add: elems}
		return p
	}
	p.delta = diffElements(h.elements, elems)
	return p
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
