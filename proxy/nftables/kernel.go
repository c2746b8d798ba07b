package nftables

import "strings"

// TableComment marks our tables: others may have tables of our name.
const TableComment = "fairlead: Services of Kubernetes"

// Kernel is what the kernel holds of one family's table: the names and types of
// its sets and chains, and the elements. Anybody may have made the table or changed
// it. If somebody writes to it while the shell reads, a Kernel may be what the table
// never held at once: the shell then reads again.
type Kernel struct {
	*Family
	Exists   bool // if not, all the rest is empty
	Comment  string
	Flags    uint32 // such as "dormant", which takes a table out of force
	Sets     map[string]SetType
	Chains   map[string]ChainType
	Elements []Element // sorted by set, key and end; without those of dynamic sets
}

// ours reports whether an agent made the table, of this or another version, and
// whether it is in force.
func (k *Kernel) ours() bool { return strings.HasPrefix(k.Comment, "fairlead") && k.Flags == 0 }

// layout is the Layout that has as many slots and balance chains as the table. It
// ignores a chain that no Frontend can need, or that needs more slots than there are:
// that one is not ours, or another version's.
func (k *Kernel) layout(mark uint32) *Layout {
	l := newLayout(k.Family, mark)
	for _, v := range variants {
		for {
			if _, ok := k.Sets[v.ep(l.slots[v.index()])]; !ok {
				break
			}
			l.slots[v.index()]++
		}
	}
	for name := range k.Chains {
		if b, ok := parseBalance(name); ok && b.possible() && b.n <= l.slots[b.index()] {
			l.balances[b] = true
		}
	}
	return l.fill()
}

// sound returns the sets that have the types that ours have: an older layout, or
// somebody else's table of our name, may have others.
func (k *Kernel) sound() map[string]bool {
	l := k.layout(DefaultMark) // the mark is in no set's type
	out := map[string]bool{}
	for name, typ := range k.Sets {
		s, ok := l.Set(name)
		out[name] = ok && typ == s.Type()
	}
	return out
}
