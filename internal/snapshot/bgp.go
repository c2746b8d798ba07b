package snapshot

import (
	"net/netip"
	"time"
)

// BGPPeer is a BGPPeer object: a router that the selected nodes hold a session
// with.
type BGPPeer struct {
	Name         string
	Generation   int64
	Ready        Condition // as last written
	Created      time.Time
	Addr         netip.Addr // invalid: Interface or Gateway leads to it
	Interface    string     // whose one router is meant
	Gateway      bool       // the node's default gateway is meant
	Port         uint16
	PeerASN      uint32 // 0: any but LocalASN
	LocalASN     uint32
	NodeSelector *Selector
	Hold         time.Duration // HoldSet and 0: none
	HoldSet      bool
	Keepalive    time.Duration // KeepaliveSet reports whether it was given
	KeepaliveSet bool
	Connect      time.Duration
	Secret       SecretKey  // the zero value: no password
	Source       netip.Addr // invalid: the kernel chooses
	Passive      bool       // the router connects, to Port
	Multihop     uint8      // TTL; 0: the router is on a link
	TTLSecurity  uint8      // hops that the router may be away; 0: off
	RestartTime  time.Duration
	Graceful     bool
	BFD          *BFD
}

// Router is a router that a node knows of.
type Router struct {
	Link    string
	Addr    netip.Addr // link-local with the zone
	Default bool       // a default route goes by it
}

// SecretKey names one key of a Secret in fairlead's own namespace.
type SecretKey struct{ Name, Key string }

// BFD is how the path to a BGPPeer is watched.
type BFD struct {
	MinTx, MinRx time.Duration
	Multiplier   int
	Passive      bool
}

// BGPAnnouncement is an Announcement's way over BGP.
type BGPAnnouncement struct {
	Peers            []string // names of BGPPeers; empty: all
	LocalPref        *uint32
	Communities      []string // as written
	LargeCommunities []string
	Length4, Length6 int // of the prefixes that are announced; 0: 32 and 128
}
