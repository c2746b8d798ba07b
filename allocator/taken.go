package allocator

import (
	"net/netip"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// taken is what of the address space the cluster itself uses. A pool does not give the
// addresses of nodes: one more node, or another DHCP lease, must not stop the pool. A
// pool that overlaps a whole prefix is a mistake and gives nothing.
type taken struct {
	v4, v6 []use
	nodes  []use // addresses of nodes, sorted by node, and of the API server; both families
}

// use is one interval and what it is used for.
type use struct {
	span
	reason snapshot.Reason
	what   string
	name   string // of the object, "" if there is none
	prefix netip.Prefix
}

func takenByCluster(s *snapshot.Snapshot, apiServers []netip.Addr) *taken {
	t := &taken{}
	if len(s.Pools) == 0 {
		return t
	}
	one := func(a netip.Addr, what string) {
		if a = a.Unmap().WithZone(""); a.IsValid() {
			t.nodes = append(t.nodes, use{span: span{numOf(a), numOf(a)}, what: what, prefix: netip.PrefixFrom(a, a.BitLen())})
		}
	}
	for _, n := range s.Nodes {
		for _, a := range n.InternalIPs {
			one(a, "of node "+n.Name)
		}
	}
	for _, a := range apiServers {
		one(a, "of the API server")
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
	for _, s := range special {
		t.add(s.prefix, use{reason: OverlapsSpecial, what: "contains addresses that no client can connect to, " + s.what})
	}
	return t
}

// special are the prefixes that are not for unicast between hosts (RFC 6890, RFC 4291).
var special = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("::/127"), "unspecified and loopback"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
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

// skip takes the addresses of the API server and of nodes out of p.
func (t *taken) skip(p *pool) {
	for _, u := range t.nodes {
		b := p.block(snapshot.FamilyOf(u.prefix.Addr()))
		// One DHCP lease of a node inside of a pool's range stopped the whole pool.
		if !within(b.spans, u.from) {
			continue
		}
		b.spans = without(b.spans, u.span)
		p.skipped = append(p.skipped, u)
	}
	switch n := len(p.skipped); {
	case n == 1:
		p.clash = *refuse(OverlapsNode, "does not give %s, which is an address %s", p.skipped[0].prefix.Addr(), p.skipped[0].what)
	case n > 1:
		p.clash = *refuse(OverlapsNode, "does not give %d addresses of nodes, such as %s %s", n, p.skipped[0].prefix.Addr(), p.skipped[0].what)
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
		// A large cluster has thousands of podCIDRs, and most pools are near none.
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
