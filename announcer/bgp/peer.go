package bgp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// The defaults and bounds of a session.
const (
	defaultPort    = 179
	defaultHold    = 90 * time.Second
	defaultConnect = 10 * time.Second
	defaultRestart = 120 * time.Second
	shortestHold   = 3 * time.Second // RFC 4271 section 4.2
	// longestHold is what a hold time of 0 asks for: the router's, whatever it is.
	// gobgp v3.37.0 takes 0 for its default of 90 s.
	longestHold = 65535 * time.Second
	shortestBFD = 10 * time.Millisecond
	longestBFD  = time.Minute
)

// peers returns the sessions of this node without their paths, sorted by name.
func (d *decision) peers() []Peer {
	var out []Peer
	for _, p := range d.Snapshot.BGPPeers {
		if !p.NodeSelector.Matches(d.labels()) {
			continue
		}
		peer, r := d.peer(p)
		if r == nil {
			// Two ways of saying where a router is may lead to one router.
			if i := slices.IndexFunc(out, func(o Peer) bool { return o.Addr == peer.Addr }); i >= 0 {
				r = refusal(SameAddress, "BGPPeer %s leads to %s too", out[i].Name, peer.Addr)
			}
		}
		if r != nil {
			d.refuse("peer", p.Name, r)
			continue
		}
		out = append(out, peer)
	}
	return out
}

func (d *decision) labels() map[string]string {
	if n := d.Snapshot.Node(d.Node); n != nil {
		return n.Labels
	}
	return nil
}

func (d *decision) peer(p *snapshot.BGPPeer) (Peer, *snapshot.Refusal) {
	out := Peer{
		Name: p.Name, Addr: p.Addr, Port: cmp.Or(p.Port, defaultPort), PeerASN: p.PeerASN, LocalASN: p.LocalASN,
		Connect: cmp.Or(p.Connect, defaultConnect), Source: p.Source, Passive: p.Passive, Multihop: p.Multihop, TTLSecurity: p.TTLSecurity,
	}
	if p.LocalASN == 0 {
		return out, refusal(BadPeer, "a peer needs localASN")
	}
	if r := d.router(p, &out); r != nil {
		return out, r
	}
	if p.Multihop > 0 && p.PeerASN == p.LocalASN {
		return out, refusal(BadPeer, "ebgpMultihop is for a peer of another AS")
	}
	// With TTL security both sides send with 255 (RFC 5082).
	if p.Multihop > 0 && p.TTLSecurity > 0 {
		return out, refusal(BadPeer, "ebgpMultihop and ttlSecurity exclude each other")
	}
	if p.Source.IsValid() && p.Source.Is4() != out.Addr.Is4() {
		return out, refusal(BadPeer, "sourceAddress is of another family than the peer's")
	}
	// Two sessions with one router would collide (RFC 4271 section 6.8).
	if older := d.older(p); older != "" {
		return out, refusal(SameAddress, "BGPPeer %s has the address on one of its nodes", older)
	}
	if r := timers(p, &out); r != nil {
		return out, r
	}
	if r := d.password(p, &out); r != nil {
		return out, r
	}
	if p.Graceful {
		out.RestartTime = cmp.Or(p.RestartTime, defaultRestart)
	}
	r := d.bfd(p, &out)
	return out, r
}

// router finds the address of the router.
func (d *decision) router(p *snapshot.BGPPeer, out *Peer) *snapshot.Refusal {
	var found []netip.Addr
	for _, r := range d.Routers {
		if p.Interface != "" && r.Link == p.Interface && r.Addr.IsLinkLocalUnicast() || p.Gateway && r.Default {
			found = append(found, r.Addr)
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	found = slices.Compact(found)
	if p.Gateway { // a session by either family carries both: IPv4 is before IPv6
		found = found[:min(len(found), 1)]
	}
	switch {
	case p.Addr.IsValid():
		out.Addr = p.Addr
	case p.Interface == "" && !p.Gateway:
		return refusal(BadPeer, "a peer needs an address, an interface, or defaultGateway")
	case p.Gateway && len(found) == 0:
		return refusal(NoRouter, "this node has no default gateway")
	case len(found) == 0:
		return refusal(NoRouter, "no router announces itself on %s: it must send router advertisements", p.Interface)
	case len(found) > 1:
		return refusal(NoRouter, "%d routers announce themselves on %s: name the address of one", len(found), p.Interface)
	default:
		out.Addr = found[0]
	}
	return nil
}

// older returns the name of an older BGPPeer that has p's address on a node
// that p selects too.
func (d *decision) older(p *snapshot.BGPPeer) string {
	for _, o := range d.Snapshot.BGPPeers {
		if o.Name == p.Name || o.Addr != p.Addr || o.Interface != p.Interface || o.Gateway != p.Gateway || cmp.Or(o.Created.Compare(p.Created), cmp.Compare(o.Name, p.Name)) > 0 {
			continue
		}
		both := func(n *snapshot.Node) bool {
			return o.NodeSelector.Matches(n.Labels) && p.NodeSelector.Matches(n.Labels)
		}
		if slices.ContainsFunc(d.Snapshot.Nodes, both) {
			return o.Name
		}
	}
	return ""
}

// timers derives one time from the other: keepalives come three in a hold time.
func timers(p *snapshot.BGPPeer, out *Peer) *snapshot.Refusal {
	out.Hold, out.Keepalive = p.Hold, p.Keepalive
	switch {
	case !p.HoldSet && !p.KeepaliveSet:
		out.Hold, out.Keepalive = defaultHold, defaultHold/3
	case !p.HoldSet:
		out.Hold = 3 * p.Keepalive
	case !p.KeepaliveSet:
		out.Keepalive = p.Hold / 3
	}
	switch {
	case out.Hold == 0 && out.Keepalive == 0:
		out.Hold, out.Keepalive = longestHold, longestHold/3
		return nil
	case out.Hold < shortestHold:
		return refusal(BadTimers, "a hold time of %s: 0s or at least %s", out.Hold, shortestHold)
	case out.Keepalive > out.Hold:
		return refusal(BadTimers, "a keepalive time of %s is longer than the hold time of %s", out.Keepalive, out.Hold)
	}
	return nil
}

func (d *decision) password(p *snapshot.BGPPeer, out *Peer) *snapshot.Refusal {
	if p.Secret == (snapshot.SecretKey{}) {
		return nil
	}
	out.Password = d.Passwords[p.Secret]
	switch {
	case out.Password == "":
		return refusal(PasswordMissing, "Secret %s has no password under %q", p.Secret.Name, p.Secret.Key)
	case len(out.Password) > 80: // TCP_MD5SIG_MAXKEYLEN
		return refusal(PasswordMissing, "the password in Secret %s is longer than 80 bytes", p.Secret.Name)
	}
	return nil
}

func (d *decision) bfd(p *snapshot.BGPPeer, out *Peer) *snapshot.Refusal {
	f := p.BFD
	if f == nil {
		return nil
	}
	for _, i := range []time.Duration{f.MinTx, f.MinRx} {
		if i < shortestBFD || i > longestBFD {
			return refusal(BadBFD, "an interval of %s: %s to %s", i, shortestBFD, longestBFD)
		}
	}
	if f.Multiplier < 2 || f.Multiplier > 255 {
		return refusal(BadBFD, "a detection multiplier of %d: 2 to 255", f.Multiplier)
	}
	// Over one hop (RFC 5881) the router is on a link; all else is for RFC 5883.
	links := d.linksTo(out.Addr)
	out.BFD = &BFD{
		MinTx: f.MinTx, MinRx: f.MinRx, Multiplier: uint8(f.Multiplier), Passive: f.Passive,
		Multihop: p.Multihop > 0 || p.TTLSecurity > 1 || p.PeerASN == p.LocalASN && len(links) == 0,
	}
	switch {
	case !out.BFD.Multihop:
		out.BFD.Links = links
	case p.TTLSecurity > 0:
		out.BFD.MinTTL = uint8(256 - int(p.TTLSecurity))
	}
	return nil
}

// linksTo returns the names of the links of this node that addr is on.
func (d *decision) linksTo(addr netip.Addr) (names []string) {
	if addr.Zone() != "" {
		return []string{addr.Zone()}
	}
	for _, l := range d.Self.Links {
		if l.Contains(addr) {
			names = append(names, l.Name)
		}
	}
	return names
}

func refusal(reason snapshot.Reason, format string, args ...any) *snapshot.Refusal {
	return &snapshot.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
