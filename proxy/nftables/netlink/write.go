package netlink

import (
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// step appends one Step of a Patch. The rules go first and come last, so that nothing
// refers to what is in the way. Elements are deleted before they are added, because a
// changed one is both.
func (b *batch) step(p *nftables.Patch, number int) {
	f, s := p.Family, &p.Steps[number]
	if s.DelTable {
		b.deleteTable(f)
	}
	if s.AddTable {
		b.addTable(f, nftables.TableComment)
	}
	b.deleteRules(f, s.Flush)
	b.patchElements(p, unix.NFT_MSG_DELSETELEM, s.Del)
	for _, name := range s.DelSets {
		b.deleteSet(f, name)
	}
	b.deleteChains(f, s.DelChains)
	for _, set := range s.AddSets {
		b.addSet(f, set)
	}
	for _, c := range s.AddChains {
		b.addChain(f, c)
	}
	b.addRules(f, s.AddRules)
	b.patchElements(p, unix.NFT_MSG_NEWSETELEM, s.Add)
}

func (b *batch) addRules(f *nftables.Family, chains []nftables.Chain) {
	for _, c := range chains {
		for _, r := range c.Rules {
			b.addRule(f, c.Name, r)
		}
	}
}

// patchElements appends elements of a Patch, which are sorted by set.
func (b *batch) patchElements(p *nftables.Patch, msg uint16, elems []nftables.Element) {
	for len(elems) > 0 {
		n := 1
		for n < len(elems) && elems[n].Set == elems[0].Set {
			n++
		}
		set, ok := p.Layout.Set(elems[0].Set)
		if !ok {
			set = nftables.Set{Name: elems[0].Set} // a foreign set, which is about to go
		}
		b.elements(p.Family, msg, set, elems[:n])
		elems = elems[n:]
	}
}
