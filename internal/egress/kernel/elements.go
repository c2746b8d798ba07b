package kernel

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/egress"
)

// elements are the elements of a family's sets, by set.
func (f family) elements(s egress.State) map[string][]nftables.SetElement {
	out := map[string][]nftables.SetElement{}
	put := func(set string, p egress.Pod) {
		out[set] = append(out[set], nftables.SetElement{Key: p.Addr.AsSlice()})
	}
	for _, p := range s.Pods {
		if !f.has(p.Addr) {
			continue
		}
		if p.Opens {
			put(setOpens, p)
		}
		switch p.Way {
		case egress.Via:
			put(setVia, p)
		case egress.Own:
			put(setOwn, p)
			put(setPorts(p.Ports), p)
			out[mapVIPs] = append(out[mapVIPs], nftables.SetElement{Key: p.Addr.AsSlice(), Val: p.VIP.AsSlice()})
		}
	}
	for _, p := range s.Inside {
		if !f.has(p.Addr()) {
			continue
		}
		r := netipx.RangeOfPrefix(p)
		out[setInside] = append(out[setInside], nftables.SetElement{Key: r.From().AsSlice()})
		if after := r.To().Next(); after.IsValid() {
			out[setInside] = append(out[setInside], nftables.SetElement{Key: after.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

func (f family) has(a netip.Addr) bool { return a.BitLen() == int(f.size)*8 }

// atOnce is how many elements one message has at most: a longer list loses its tail.
const atOnce = 500

func add(c *nftables.Conn, set *nftables.Set, elements []nftables.SetElement) error {
	for some := range slices.Chunk(elements, atOnce) {
		if err := c.SetAddElements(set, some); err != nil {
			return fmt.Errorf("add to %s: %w", set.Name, err)
		}
	}
	return nil
}

// same reports whether two lists have the same elements, in any order.
func same(have, want []nftables.SetElement) bool {
	if len(have) != len(want) {
		return false
	}
	have, want = slices.Clone(have), slices.Clone(want)
	slices.SortFunc(have, compareElements)
	slices.SortFunc(want, compareElements)
	return slices.EqualFunc(have, want, func(a, b nftables.SetElement) bool { return compareElements(a, b) == 0 })
}

func compareElements(a, b nftables.SetElement) int {
	end := func(e nftables.SetElement) int {
		if e.IntervalEnd {
			return 0 // a range may begin where another one ends
		}
		return 1
	}
	return cmp.Or(bytes.Compare(a.Key, b.Key), cmp.Compare(end(a), end(b)), bytes.Compare(a.Val, b.Val))
}
