package netlink

import (
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// early appends the Early sets and chains of a Patch.
func (b *batch) early(p *nftables.Patch) {
	sets, chains := p.Early()
	b.addObjects(p.Family, sets, chains)
}

// late appends the deletion of the Leftovers of a Patch.
func (b *batch) late(p *nftables.Patch) {
	sets, chains := p.Leftovers()
	b.deleteRules(p.Family, chains)
	for _, name := range sets {
		b.deleteSet(p.Family, name)
	}
	b.deleteChains(p.Family, chains)
}

// patch appends a Patch, without what early and late append: sets and chains before what
// refers to them. Elements are deleted before they are added, because a changed one
// is both.
func (b *batch) patch(p *nftables.Patch) {
	sets, chains := p.Late()
	if p.Swap {
		b.swap(p, sets, chains)
		return
	}
	if p.Replace {
		b.deleteTable(p.Family)
	}
	if p.Replace || p.Create {
		b.addTable(p.Family, nftables.TableComment)
	}
	b.addObjects(p.Family, sets, chains)
	b.patchElements(p, unix.NFT_MSG_DELSETELEM, p.Del)
	b.patchElements(p, unix.NFT_MSG_NEWSETELEM, p.Add)
}

// swap appends a Patch with Swap, in which sets and chains are new. It takes out the
// rules first, so that nothing refers to what is in the way.
func (b *batch) swap(p *nftables.Patch, sets []nftables.Set, chains []nftables.Chain) {
	b.deleteRules(p.Family, p.Refilled())
	b.patchElements(p, unix.NFT_MSG_DELSETELEM, p.Del)
	delSets, delChains := p.InTheWay()
	for _, name := range delSets {
		b.deleteSet(p.Family, name)
	}
	b.deleteChains(p.Family, delChains)
	b.addObjects(p.Family, sets, chains)
	b.addRules(p.Family, p.Layout.Chains)
	b.patchElements(p, unix.NFT_MSG_NEWSETELEM, p.Add)
}

func (b *batch) addObjects(f *nftables.Family, sets []nftables.Set, chains []nftables.Chain) {
	for _, s := range sets {
		b.addSet(f, s)
	}
	for _, c := range chains {
		b.addChain(f, c)
	}
	b.addRules(f, chains)
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
