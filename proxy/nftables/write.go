package nftables

import (
	"golang.org/x/sys/unix"
)

// write appends a plan to a batch: objects before what refers to them, and
// elements are deleted before they are added, because a changed one is both.
func (p *plan) write(b *batch) {
	if p.replace {
		b.deleteTable(p.family)
	}
	if p.replace || p.create {
		b.addTable(p.family, p.comment)
	}
	b.addObjects(p.family, objects{p.addSets, p.addChains})
	p.writeElements(b, unix.NFT_MSG_DELSETELEM, p.delta.del)
	p.writeElements(b, unix.NFT_MSG_NEWSETELEM, p.delta.add)
	b.deleteChains(p.family, p.delChains)
	for _, name := range p.delSets {
		b.deleteSet(p.family, name)
	}
}

func (b *batch) addObjects(f *family, o objects) {
	for _, s := range o.sets {
		b.addSet(f, s)
	}
	for _, c := range o.chains {
		b.addChain(f, c)
	}
	for _, c := range o.chains {
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
