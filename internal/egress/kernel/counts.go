package kernel

import (
	"strings"

	"github.com/google/nftables/expr"
)

// Counts are what the rules have counted since they are there.
type Counts struct {
	Own  uint64 // connections that got the address on this node
	Via  uint64 // connections that went to the owner
	Held uint64 // packets that were dropped because no owner was known
}

// Counts reads the counters of both families. They are 0 without tables.
func (k *Kernel) Counts() (out Counts, err error) {
	c, err := k.open()
	if err != nil {
		return out, err
	}
	for _, f := range families {
		if t, err := c.ListTableOfFamily(Table, f.nft); err != nil || t == nil {
			continue
		}
		rules, err := rulesOf(c, f)
		if err != nil {
			return out, err
		}
		for _, r := range rules {
			_, what, _ := strings.Cut(comment(r), " ")
			to := map[string]*uint64{countOwn: &out.Own, countVia: &out.Via, countHeld: &out.Held}[what]
			for _, e := range r.Exprs {
				if n, ok := e.(*expr.Counter); ok && to != nil {
					*to += n.Packets
				}
			}
		}
	}
	return out, nil
}
