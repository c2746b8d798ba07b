// Package bgp decides which BGP sessions a node holds, which paths it announces
// over each with which attributes, and why it leaves the others out. It acts on
// nothing: package speaker does.
package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// The reasons for which a peer, an Announcement or an address is left out.
const (
	BadTimers         snapshot.Reason = "BadTimers"         // hold and keepalive time do not go together
	BadPeer           snapshot.Reason = "BadPeer"           // no address, no AS number, or multihop within an AS
	NoRouter          snapshot.Reason = "NoRouter"          // no router is on the link, or several are
	BadBFD            snapshot.Reason = "BadBFD"            // interval or multiplier out of range
	SameAddress       snapshot.Reason = "SameAddress"       // an older peer has the address on one of the nodes
	PasswordMissing   snapshot.Reason = "PasswordMissing"   // the Secret cannot be used
	BadCommunity      snapshot.Reason = "BadCommunity"      // not of the form that RFC 1997 or 8092 knows
	BadAggregation    snapshot.Reason = "BadAggregation"    // longer than the family's addresses, or wider than the pool
	LocalPrefConflict snapshot.Reason = "LocalPrefConflict" // two Announcements differ about one prefix to one peer
	NoPeer            snapshot.Reason = "NoPeer"            // no peer of this node is chosen
	NoNextHop         snapshot.Reason = "NoNextHop"         // this node has no address of the family to be reached at
	NoEndpoint        snapshot.Reason = "NoEndpoint"        // no usable endpoint in the cluster
	NoLocalEndpoint   snapshot.Reason = "NoLocalEndpoint"   // none on this node, and the policy is Local
	NodeNotEligible   snapshot.Reason = "NodeNotEligible"   // the node must not attract traffic
	EngineNotReady    snapshot.Reason = "EngineNotReady"    // the engine does not hold the VIP yet
)

// Input is all that the decision depends on.
type Input struct {
	Snapshot  *snapshot.Snapshot
	Node      string
	Self      snapshot.Electable            // this node as it is now
	Ready     map[netip.Addr]bool           // the VIPs that this node's engine holds now; not changed afterwards
	Passwords map[snapshot.SecretKey]string // what could be read
	Routers   []snapshot.Router             // that this node knows of; sorted
	// Retreating is the first while of a drain: routers are asked to prefer other
	// ways (RFC 8326) before the paths are withdrawn.
	Retreating bool
	// Changes is what the Snapshot changed since another. A Decider reads it; it
	// never changes the result.
	Changes snapshot.Changes
}

// Path is one prefix as one peer hears of it.
type Path struct {
	Prefix           netip.Prefix
	NextHop          netip.Addr // invalid: the session's own address
	LocalPref        uint32     // 0: none
	Communities      []uint32   // sorted
	LargeCommunities [][3]uint32
}

// Peer is a session, and what is announced over it.
type Peer struct {
	Name        string
	Addr        netip.Addr // link-local with the zone
	Port        uint16
	PeerASN     uint32 // 0: any but LocalASN
	LocalASN    uint32
	Hold        time.Duration
	Keepalive   time.Duration
	Connect     time.Duration
	Password    string
	Source      netip.Addr
	Passive     bool // the router connects, to Port
	Multihop    uint8
	TTLSecurity uint8         // hops that the router may be away; 0: off
	RestartTime time.Duration // 0: no graceful restart
	BFD         *BFD
	Paths       []Path // sorted by prefix
}

// Internal reports whether the session is within one AS.
func (p Peer) Internal() bool { return p.PeerASN == p.LocalASN }

// BFD is how the path to a peer is watched.
type BFD struct {
	MinTx, MinRx time.Duration
	Multiplier   uint8
	Passive      bool
	Multihop     bool
	Links        []string // that the router's packets may come by; empty: any
	MinTTL       uint8    // of the router's packets over several hops; 0: any
}

// Refused is what was decided not to be done about a peer or an Announcement.
type Refused struct {
	Kind string // "peer" or "announcement"
	Name string
	snapshot.Refusal
}

// RefusedVIP is an address that this node does not announce over BGP although an
// Announcement says so, or not to every peer.
type RefusedVIP struct {
	Addr netip.Addr
	snapshot.Refusal
}

// VIP is one address that this node announces, alone or within an aggregate.
type VIP struct {
	Addr     netip.Addr
	Peers    []string // names, sorted
	Services []snapshot.Ref
}

// Plan is the decision.
type Plan struct {
	RouterID    netip.Addr   // of this node, the same after every restart
	Peers       []Peer       // sorted by name
	Announce    []VIP        // sorted by address
	RefusedVIPs []RefusedVIP // sorted by address and reason; an address may have several
	Refused     []Refused    // sorted by kind, name and reason
}

// Keep returns the paths of p that next has too, as next has them: what may go
// on while the engine is being changed from one to the other. Sessions are
// next's.
func (p Plan) Keep(next Plan) Plan {
	had := map[string]map[netip.Prefix]bool{}
	for _, peer := range p.Peers {
		had[peer.Name] = map[netip.Prefix]bool{}
		for _, path := range peer.Paths {
			had[peer.Name][path.Prefix] = true
		}
	}
	out := Plan{RouterID: next.RouterID, RefusedVIPs: next.RefusedVIPs, Refused: next.Refused}
	for _, peer := range next.Peers {
		kept := had[peer.Name]
		peer.Paths = slices.DeleteFunc(slices.Clone(peer.Paths), func(x Path) bool { return !kept[x.Prefix] })
		out.Peers = append(out.Peers, peer)
	}
	return out
}

// Paths counts the paths to all peers.
func (p Plan) Paths() (n int) {
	for _, peer := range p.Peers {
		n += len(peer.Paths)
	}
	return n
}

// String prints the plan, without passwords.
func (p Plan) String() string {
	var b strings.Builder
	for _, peer := range p.Peers {
		fmt.Fprintf(&b, "peer %s\n", peer)
		for _, path := range peer.Paths {
			fmt.Fprintf(&b, "  %s\n", path)
		}
	}
	for _, r := range p.RefusedVIPs {
		fmt.Fprintf(&b, "refuse address %s %s\n", r.Addr, r.Refusal)
	}
	for _, r := range p.Refused {
		fmt.Fprintf(&b, "refuse %s %s %s\n", r.Kind, r.Name, r.Refusal)
	}
	return b.String()
}

func (p Peer) String() string {
	var b strings.Builder
	as := "any AS"
	if p.PeerASN != 0 {
		as = fmt.Sprintf("AS%d", p.PeerASN)
	}
	fmt.Fprintf(&b, "%s %s %s from AS%d hold=%s keepalive=%s", p.Name, netip.AddrPortFrom(p.Addr, p.Port), as, p.LocalASN, p.Hold, p.Keepalive)
	if p.Password != "" {
		b.WriteString(" password")
	}
	if p.Source.IsValid() {
		fmt.Fprintf(&b, " source=%s", p.Source)
	}
	if p.Passive {
		b.WriteString(" passive")
	}
	if p.Multihop > 0 {
		fmt.Fprintf(&b, " multihop=%d", p.Multihop)
	}
	if p.TTLSecurity > 0 {
		fmt.Fprintf(&b, " ttlsecurity=%d", p.TTLSecurity)
	}
	if p.RestartTime > 0 {
		fmt.Fprintf(&b, " restart=%s", p.RestartTime)
	}
	if f := p.BFD; f != nil {
		fmt.Fprintf(&b, " bfd=%s/%sx%d", f.MinTx, f.MinRx, f.Multiplier)
		if f.Multihop {
			b.WriteString(",multihop")
		}
	}
	return b.String()
}

func (p Path) String() string {
	var b strings.Builder
	b.WriteString(p.Prefix.String())
	if p.NextHop.IsValid() {
		fmt.Fprintf(&b, " via %s", p.NextHop)
	}
	if p.LocalPref > 0 {
		fmt.Fprintf(&b, " localpref=%d", p.LocalPref)
	}
	for _, c := range p.Communities {
		fmt.Fprintf(&b, " %d:%d", c>>16, c&0xffff)
	}
	for _, c := range p.LargeCommunities {
		fmt.Fprintf(&b, " %d:%d:%d", c[0], c[1], c[2])
	}
	return b.String()
}
