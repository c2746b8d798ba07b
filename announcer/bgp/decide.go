package bgp

import (
	"cmp"
	"crypto/sha256"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// decision is a Decide under way.
type decision struct {
	Input
	plan  Plan
	ways  []*way
	paths []map[netip.Prefix]int // of each of plan.Peers, where in Paths a prefix is
}

// way is an Announcement over BGP that this node may use, as it is meant.
type way struct {
	*snapshot.Announcement
	attributes
}

// Decide returns this node's sessions and paths. Every eligible node announces
// an address: the routers share the traffic between them.
func Decide(in Input) Plan {
	d := &decision{Input: in}
	d.plan.RouterID = d.routerID()
	d.plan.Peers = d.peers()
	d.announcements()
	for range d.plan.Peers {
		d.paths = append(d.paths, map[netip.Prefix]int{})
	}
	for _, a := range in.Snapshot.Addresses {
		if len(d.ways) > 0 { // most clusters announce by layer 2 alone
			d.address(a)
		}
	}
	for i := range d.plan.Peers {
		slices.SortFunc(d.plan.Peers[i].Paths, func(a, b Path) int { return comparePrefix(a.Prefix, b.Prefix) })
	}
	slices.SortFunc(d.plan.Refused, compareRefused)
	d.plan.Refused = slices.CompactFunc(d.plan.Refused, func(a, b Refused) bool { return a == b })
	slices.SortFunc(d.plan.RefusedVIPs, compareRefusedVIP)
	d.plan.RefusedVIPs = slices.CompactFunc(d.plan.RefusedVIPs, func(a, b RefusedVIP) bool { return a == b })
	return d.plan
}

// routerID is the node's first IPv4 address, or a number made of its name.
func (d *decision) routerID() netip.Addr {
	if n := d.Snapshot.Node(d.Node); n != nil {
		for _, ip := range n.InternalIPs {
			if ip.Is4() {
				return ip
			}
		}
	}
	// A node without IPv4 needs one too, that no other in its AS has (RFC 6286).
	sum := sha256.Sum256([]byte(d.Node))
	sum[0] |= 1 // 0.0.0.0 is none
	return netip.AddrFrom4([4]byte(sum[:4]))
}

func compareRefused(a, b Refused) int {
	return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), strings.Compare(string(a.Reason), string(b.Reason)), strings.Compare(a.Message, b.Message))
}

func compareRefusedVIP(a, b RefusedVIP) int {
	return cmp.Or(a.Addr.Compare(b.Addr), strings.Compare(string(a.Reason), string(b.Reason)), strings.Compare(a.Message, b.Message))
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func (d *decision) refuseVIP(addr netip.Addr, r *snapshot.Refusal) {
	d.plan.RefusedVIPs = append(d.plan.RefusedVIPs, RefusedVIP{addr, *r})
}

func (d *decision) refuse(kind, name string, r *snapshot.Refusal) {
	d.plan.Refused = append(d.plan.Refused, Refused{kind, name, *r})
}

// announcements collects those over BGP that can be used, sorted by name.
func (d *decision) announcements() {
	all := slices.Clone(d.Snapshot.Announcements)
	slices.SortFunc(all, func(a, b *snapshot.Announcement) int { return strings.Compare(a.Name, b.Name) })
	for _, an := range all {
		if an.BGP == nil {
			continue
		}
		attrs, r := attributesOf(an)
		if r != nil {
			d.refuse("announcement", an.Name, r)
			continue
		}
		d.ways = append(d.ways, &way{an, attrs})
	}
}

// address adds a's paths to the peers that are to hear of it.
func (d *decision) address(a *snapshot.Address) {
	svcs := announcer.Holders(d.Snapshot, a)
	pool := d.Snapshot.Pool(a.Pool)
	if a.Deleting || len(svcs) == 0 {
		return
	}
	var ways []*way
	drained := false
	for _, w := range d.ways {
		switch {
		case !w.selects(pool, svcs):
		// While it retreats, a drained node still announces: a path that is withdrawn at once loses
		// packets until the routers have found others (RFC 8326).
		case w.NodeSelector.Matches(d.labels()) && d.drains(w) && !d.Retreating:
			drained = true
		default:
			ways = append(ways, w)
		}
	}
	if len(ways) == 0 && !drained {
		return
	}
	r := d.unfit(a, svcs)
	if r == nil && len(ways) == 0 {
		r = refusal(NodeNotEligible, "the node is drained")
	}
	if r != nil {
		d.refuseVIP(a.Addr, r)
		return
	}
	vip := VIP{Addr: a.Addr, Services: announcer.Refs(svcs)}
	before := len(d.plan.Refused) + len(d.plan.RefusedVIPs)
	for _, w := range ways {
		if w.NodeSelector.Matches(d.labels()) {
			vip.Peers = append(vip.Peers, d.addToPeers(w, a, pool)...)
		}
	}
	slices.Sort(vip.Peers)
	vip.Peers = slices.Compact(vip.Peers)
	switch {
	case len(vip.Peers) > 0:
		d.plan.Announce = append(d.plan.Announce, vip)
	// Where something was refused on the way, it says why.
	case len(d.plan.Refused)+len(d.plan.RefusedVIPs) == before:
		d.refuseVIP(a.Addr, refusal(NoPeer, "no session of this node is chosen for it"))
	}
}

func (w *way) selects(pool *snapshot.Pool, svcs []*snapshot.Service) bool {
	var labels map[string]string
	if pool != nil {
		labels = pool.Labels
	}
	return w.PoolSelector.Matches(labels) && !slices.ContainsFunc(svcs, func(s *snapshot.Service) bool { return !w.ServiceSelector.Matches(s.Labels) })
}

// drains reports whether this node hands over what w announces.
func (d *decision) drains(w *way) bool {
	return d.Self.Drains(cmp.Or(w.DrainOn, snapshot.DrainByDefault))
}

// unfit tells why this node must not attract a's traffic.
func (d *decision) unfit(a *snapshot.Address, svcs []*snapshot.Service) *snapshot.Refusal {
	switch {
	case !announcer.HasEndpoint(svcs, a.Addr):
		return refusal(NoEndpoint, "no ready endpoint in the cluster")
	case !announcer.MayAnnounce(d.Snapshot.Node(d.Node)):
		return refusal(NodeNotEligible, "the node is not ready, without network, going away or excluded")
	case !d.Self.Forwards(a.Addr):
		return refusal(NodeNotEligible, "the node does not forward %s, as its NodeState says", snapshot.FamilyOf(a.Addr))
	case !announcer.LocalEndpoints(svcs, a.Addr, d.Node):
		return refusal(NoLocalEndpoint, "externalTrafficPolicy is Local, and no ready endpoint is here")
	// A path would attract packets that the engine refuses.
	case !d.Ready[a.Addr]:
		return refusal(EngineNotReady, "the engine does not hold it yet")
	}
	return nil
}

// addToPeers adds a to the peers that w names, and returns their names.
func (d *decision) addToPeers(w *way, a *snapshot.Address, pool *snapshot.Pool) (told []string) {
	prefix, r := w.prefix(a.Addr, pool)
	if r != nil {
		d.refuse("announcement", w.Name, r)
		return nil
	}
	for i := range d.plan.Peers {
		p := &d.plan.Peers[i]
		if len(w.BGP.Peers) > 0 && !slices.Contains(w.BGP.Peers, p.Name) {
			continue
		}
		hop, r := d.nextHop(p, prefix)
		if r != nil {
			d.refuseVIP(a.Addr, r)
			continue
		}
		communities := w.communities
		if d.Retreating && d.drains(w) {
			communities = union(communities, []uint32{GracefulShutdown}, cmp.Compare[uint32])
		}
		if r := d.add(i, Path{
			Prefix: prefix, NextHop: hop, LocalPref: w.localPref(p), Communities: communities, LargeCommunities: w.large,
		}); r != nil {
			d.refuse("announcement", w.Name, r)
			continue
		}
		told = append(told, p.Name)
	}
	return told
}

// add merges a path with one that the peer at i has for the prefix: communities
// are united, local preferences must agree.
func (d *decision) add(i int, path Path) *snapshot.Refusal {
	p := &d.plan.Peers[i]
	at, has := d.paths[i][path.Prefix]
	if !has {
		d.paths[i][path.Prefix] = len(p.Paths)
		p.Paths = append(p.Paths, path)
		return nil
	}
	have := &p.Paths[at]
	// A session has one path of a prefix: a second one would replace it (RFC 4271 section 3.1).
	if have.LocalPref != path.LocalPref {
		return refusal(LocalPrefConflict, "%s has another local preference to %s by an earlier Announcement", path.Prefix, p.Name)
	}
	have.Communities = union(have.Communities, path.Communities, cmp.Compare[uint32])
	have.LargeCommunities = union(have.LargeCommunities, path.LargeCommunities, compareLarge)
	return nil
}

func union[T comparable](a, b []T, compare func(T, T) int) []T {
	out := slices.Concat(a, b)
	slices.SortFunc(out, compare)
	return slices.Compact(out)
}

func compareLarge(a, b [3]uint32) int { return slices.Compare(a[:], b[:]) }

// nextHop is where this node takes prefix's packets from p: the session's own
// address for its own family, and for IPv4 over an IPv6 session that offers
// nothing else (RFC 8950). A router behind a link-local address need not have a way
// to any other address of the link.
func (d *decision) nextHop(p *Peer, prefix netip.Prefix) (netip.Addr, *snapshot.Refusal) {
	if prefix.Addr().Is4() == p.Addr.Is4() || p.Addr.IsLinkLocalUnicast() && p.Addr.Is6() {
		return netip.Addr{}, nil
	}
	is4 := prefix.Addr().Is4()
	for _, l := range d.Self.Links {
		if !l.Contains(p.Addr) {
			continue
		}
		for _, own := range l.Prefixes {
			if own.Addr().Is4() == is4 && !own.Addr().IsLinkLocalUnicast() {
				return own.Addr(), nil
			}
		}
	}
	if n := d.Snapshot.Node(d.Node); n != nil {
		for _, ip := range n.InternalIPs {
			if ip.Is4() == is4 {
				return ip, nil
			}
		}
	}
	// Its next hop is the session's IPv6 address, if the router offers to take that (RFC 8950).
	if is4 {
		return netip.Addr{}, nil
	}
	return netip.Addr{}, refusal(NoNextHop, "this node has no IPv6 address for peer %s to reach it at", p.Name)
}
