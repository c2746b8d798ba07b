package controlplane

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Redirects returns the addresses whose packets this node's kernel is to take to its own
// kube-apiserver, and at which address of the node that is. These are all of them while it is
// fit. Otherwise they are those that this node answers for, or announces, in any case: its own
// packets to the others go to their owner. Links are the node's; in and st are those of its
// last decision.
func (c Config) Redirects(w World, links []snapshot.Link, in node.Inputs, st node.State) map[netip.Addr]netip.Addr {
	out := map[netip.Addr]netip.Addr{}
	alone := c.routed() && !OthersFit(in.View)
	for vip, at := range c.targets(w.Own, links, in.Own) {
		if w.Fit || alone || serves(vip, in, st) {
			out[vip] = at
		}
	}
	return out
}

// serves reports whether this node attracts packets to vip, or is about to. What is still
// answered for counts: the order of a withdrawal is that of a node.Plan.
func serves(vip netip.Addr, in node.Inputs, st node.State) bool {
	at := func(v announcer.VIP) bool { return v.Addr == vip }
	// An owner that waits for the redirect has a refusal until then.
	waits := func(r announcer.Refused) bool { return r.Addr == vip && r.Owner == in.Node }
	return slices.ContainsFunc(in.Held, func(h announcer.Claim) bool { return h.Addr == vip }) || slices.ContainsFunc(st.Elected, at) ||
		slices.ContainsFunc(st.Leaving, at) || slices.ContainsFunc(st.Refused, waits) || len(st.Routed) > 0
}

// targets returns at which address of this node each API server's address is served: own if it
// has the family, otherwise an address of the node in the VIP's subnet, otherwise any of addrs.
// An address without a target cannot be served here.
func (c Config) targets(own netip.Addr, links []snapshot.Link, addrs []netip.Addr) map[netip.Addr]netip.Addr {
	out := map[netip.Addr]netip.Addr{}
	for _, vip := range c.Addresses {
		same := func(a netip.Addr) bool { return a.Is4() == vip.Is4() && a.IsGlobalUnicast() && a != vip }
		switch near := beside(vip, links); {
		case same(own):
			out[vip] = own
		case near.IsValid():
			out[vip] = near
		default:
			if i := slices.IndexFunc(addrs, same); i >= 0 {
				out[vip] = addrs[i]
			}
		}
	}
	return out
}
