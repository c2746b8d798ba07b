package allocator

import (
	"net/netip"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// taken is what of the address space the cluster itself uses: no pool may
// contain any of it.
type taken struct{ v4, v6 []use }

// use is one interval and what it is used for.
type use struct {
	span
	reason snapshot.Reason
	what   string
	name   string // of the object, "" if there is none
	prefix netip.Prefix
}

func takenByCluster(s *snapshot.Snapshot, reserved []netip.Prefix) *taken {
	t := &taken{}
	if len(s.Pools) == 0 {
		return t
	}
	for _, n := range s.Nodes {
		for _, a := range n.InternalIPs {
			a = a.Unmap().WithZone("")
			t.add(netip.PrefixFrom(a, a.BitLen()), use{reason: OverlapsNode, what: "contains the address of node", name: n.Name})
		}
	}
	for _, n := range s.Nodes {
		for _, p := range n.PodCIDRs {
			t.add(p, use{reason: OverlapsPods, what: "overlaps the pods of node", name: n.Name})
		}
	}
	for _, c := range s.ServiceCIDRs {
		for _, p := range c.Prefixes {
			t.add(p, use{reason: OverlapsServices, what: "overlaps the ServiceCIDR", name: c.Name})
		}
	}
	for _, p := range reserved {
		t.add(p, use{reason: OverlapsReserved, what: "overlaps a reserved prefix"})
	}
	return t
}

func (t *taken) add(p netip.Prefix, u use) {
	if !p.IsValid() {
		return
	}
	r := netipx.RangeOfPrefix(p)
	u.span, u.prefix = span{numOf(r.From()), numOf(r.To())}, p
	if p.Addr().Is4() {
		t.v4 = append(t.v4, u)
	} else {
		t.v6 = append(t.v6, u)
	}
}

// clash finds the first use that p overlaps; nil if there is none.
func (t *taken) clash(p *pool) *snapshot.Refusal {
	if u := clashIn(t.v4, p.v4.spans); u != nil {
		return u
	}
	return clashIn(t.v6, p.v6.spans)
}

func clashIn(uses []use, spans []span) *snapshot.Refusal {
	if len(spans) == 0 {
		return nil
	}
	hull := span{spans[0].from, spans[len(spans)-1].to}
	for _, u := range uses {
		if !u.overlaps(hull) {
			continue
		}
		for _, s := range spans {
			if !u.overlaps(s) {
				continue
			}
			if u.name == "" {
				return refuse(u.reason, "%s: %s", u.what, u.prefix)
			}
			return refuse(u.reason, "%s %s: %s", u.what, u.name, u.prefix)
		}
	}
	return nil
}
