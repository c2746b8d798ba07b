package nftables

import (
	"golang.org/x/sys/unix"
)

// write appends a plan to a batch: objects before what refers to them, and
// elements are deleted before they are added, because a changed one is both.
// It tells whether there was anything.
func (p *plan) write(b *batch) bool {
	before := len(b.requests)
	if p.swap {
		p.writeSwap(b)
		return true
	}
	if p.replace {
		b.deleteTable(p.family)
	}
	if p.replace || p.create {
		b.addTable(p.family, tableComment)
	}
	if !p.grown {
		b.addObjects(p.family, objects{p.addSets, p.addChains})
	}
	p.writeElements(b, unix.NFT_MSG_DELSETELEM, p.delta.del)
	p.writeElements(b, unix.NFT_MSG_NEWSETELEM, p.delta.add)
	b.deleteRules(p.family, p.delChains)
	b.deleteChains(p.family, p.delChains)
	for _, name := range p.delSets {
		b.deleteSet(p.family, name)
	}
	return len(b.requests) > before
}

// writeSwap takes out all rules first, so that nothing refers to what goes.
func (p *plan) writeSwap(b *batch) {
	b.deleteRules(p.family, []string{""})
	p.writeElements(b, unix.NFT_MSG_DELSETELEM, p.delta.del)
	for _, name := range p.delSets {
		b.deleteSet(p.family, name)
	}
	b.deleteChains(p.family, p.delChains)
	b.addObjects(p.family, objects{p.addSets, p.addChains})
	b.addRules(p.family, p.rules)
	p.writeElements(b, unix.NFT_MSG_NEWSETELEM, p.delta.add)
}

func (b *batch) addObjects(f *family, o objects) {
	for _, s := range o.sets {
		b.addSet(f, s)
	}
	for _, c := range o.chains {
		b.addChain(f, c)
	}
	b.addRules(f, o.chains)
}

func (b *batch) addRules(f *family, chains []chain) {
	for _, c := range chains {
		for _, r := range c.rules {
			b.addRule(f, c.name, r)
		}
	}
}

// writeElements writes elements of which those of one set stand together.
func (p *plan) writeElements(b *batch, msg uint16, elems []element) {
	for len(elems) > 0 {
		n := 1
		for n < len(elems) && elems[n].set == elems[0].set {
			n++
		}
		spec, ok := p.specs[elems[0].set]
		if !ok {
			spec = setSpec{name: elems[0].set} // foreign; the table is about to be replaced
		}
		b.elements(p.family, msg, spec, elems[:n])
		elems = elems[n:]
	}
}

// grow appends the objects that a table that exists lacks, and tells whether
// there are any. They go into a transaction of their own: a packet that is in
// the rules of one generation and follows an element of the next into a new
// chain finds it empty.
func (p *plan) grow(b *batch) bool {
	if p.create || p.replace || p.swap || len(p.addSets)+len(p.addChains) == 0 {
		return false
	}
	b.addObjects(p.family, objects{p.addSets, p.addChains})
	p.grown = true
	return true
}
