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
		peer, refusal := d.peer(p)
		if refusal != nil {
			d.refuse("peer", p.Name, refusal)
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
	if !p.Addr.IsValid() || p.PeerASN == 0 || p.LocalASN == 0 {
		return out, refusal(BadPeer, "a peer needs an address and two AS numbers")
	}
	if p.Multihop > 0 && p.PeerASN == p.LocalASN {
		return out, refusal(BadPeer, "ebgpMultihop is for a peer of another AS")
	}
	if p.Multihop > 0 && p.TTLSecurity > 0 {
		return out, refusal(BadPeer, "ebgpMultihop and ttlSecurity exclude each other")
	}
	if p.Source.IsValid() && p.Source.Is4() != p.Addr.Is4() {
		return out, refusal(BadPeer, "sourceAddress is of another family than the peer's")
	}
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

// older returns the name of an older BGPPeer that has p's address on a node
// that p selects too.
func (d *decision) older(p *snapshot.BGPPeer) string {
	for _, o := range d.Snapshot.BGPPeers {
		if o.Name == p.Name || o.Addr != p.Addr || cmp.Or(o.Created.Compare(p.Created), cmp.Compare(o.Name, p.Name)) > 0 {
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
	links := d.linksTo(p.Addr)
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
