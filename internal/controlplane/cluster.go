// Package controlplane decides what one control-plane node does for the API server's own
// address: whether its kube-apiserver is fit to serve it, and what cluster the announcer
// elects the address's owner in. The announcer's rule itself is the one for all addresses.
package controlplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// MembersPort is where the programs of the control-plane nodes speak with each other, UDP
// and TCP, unless told otherwise. fairlead's agents have the port before it.
const MembersPort = 7948

// Service is the name under which the addresses are elected, in logs.
var Service = snapshot.Ref{Namespace: "kube-system", Name: "kube-apiserver"}

// uid is of the Service and of the record of each address. Neither ever changes.
const uid = "control-plane"

// name is of the Announcement.
const name = "control-plane"

// Config is what a control-plane node is told.
type Config struct {
	Addresses  []netip.Addr // of the API server; the same on every node
	Port       uint16       // of the API server, at the addresses and on the nodes
	Members    []netip.Addr // of the control-plane nodes; this node may be among them
	Interfaces []string     // as in an Announcement
	BGP        BGP
}

// BGP is how the addresses are announced to routers. The zero value is layer 2.
type BGP struct {
	ASN      uint32 // of this node
	Peers    []Peer
	Password string // of all sessions; empty: none
}

// Peer is a router.
type Peer struct {
	Addr netip.Addr
	ASN  uint32
}

// Validate returns an error that names the flag if c cannot work.
func (c Config) Validate() error {
	switch {
	case len(c.Addresses) == 0:
		return fmt.Errorf("--address: give the API server's address, which no node has")
	case c.Port == 0:
		return fmt.Errorf("--port: 0 is not a port")
	case len(c.BGP.Peers) > 0 && c.BGP.ASN == 0:
		return fmt.Errorf("--bgp-asn: give this node's AS number with --bgp-peer")
	case len(c.BGP.Peers) == 0 && c.BGP.ASN != 0:
		return fmt.Errorf("--bgp-peer: give a router with --bgp-asn")
	}
	for _, a := range c.Addresses {
		switch {
		case !a.IsGlobalUnicast() || a.Zone() != "":
			return fmt.Errorf("--address: %s is not an address that clients can reach", a)
		case slices.Contains(c.Members, a):
			return fmt.Errorf("--address: %s is an address of a member; take one that no node has", a)
		}
	}
	for _, p := range c.BGP.Peers {
		if p.ASN == 0 {
			return fmt.Errorf("--bgp-peer: %s needs its AS number, as in %s=64500", p.Addr, p.Addr)
		}
	}
	return nil
}

// Own returns this node's address among the members: the one of c.Members that it has, or
// its address in the subnet of an API server's address. It fails if there is none, or if
// the node has several members' addresses.
func (c Config) Own(links []snapshot.Link, addrs []netip.Addr) (netip.Addr, error) {
	var mine []netip.Addr
	for _, m := range c.Members {
		if slices.Contains(addrs, m) {
			mine = append(mine, m)
		}
	}
	switch {
	case len(mine) == 1:
		return mine[0], nil
	case len(mine) > 1:
		return netip.Addr{}, fmt.Errorf("--members: %s and %s are both of this node; a member is one address of a node", mine[0], mine[1])
	}
	for _, vip := range c.Addresses {
		if own := beside(vip, links); own.IsValid() {
			return own, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("this node has no address of --members, and none in the subnet of %s; give --node-address", c.Addresses[0])
}

// beside returns the node's own address in the subnet of vip.
func beside(vip netip.Addr, links []snapshot.Link) netip.Addr {
	for _, l := range links {
		for _, p := range l.Prefixes {
			if p.Contains(vip) {
				return p.Addr()
			}
		}
	}
	return netip.Addr{}
}

// World is what a node knows when it decides.
type World struct {
	Own     netip.Addr   // this node
	Members []netip.Addr // all nodes that are known; Own may be among them
	Fit     bool         // this node's kube-apiserver can serve
	// Met says that another node was heard. A node that never heard one asks the network
	// whether somebody has an address before it announces it.
	Met bool
}

// Node is the name that the node with an address has in the election: the same on all nodes,
// also before there is a Node object.
func Node(addr netip.Addr) string { return addr.String() }

// unfit is the taint by which a node drains. Over BGP each node announces by itself, and
// Ready leaves out what is not to be announced: a drain would take 5 s.
const unfit = "node.kubernetes.io/out-of-service"

// Snapshot is the cluster in which the owners of the addresses are elected. A node that is
// not fit drains: others come before it, and while none is fit the last owner stays.
func (c Config) Snapshot(w World) *snapshot.Snapshot {
	s := &snapshot.Snapshot{}
	for _, m := range w.all() {
		n := &snapshot.Node{Name: Node(m), InternalIPs: []netip.Addr{m}, Ready: true}
		if m == w.Own && !w.Fit && !c.routed() {
			n.Taints = []string{unfit}
		}
		s.Nodes = append(s.Nodes, n)
	}
	svc := &snapshot.Service{Ref: Service, UID: uid, Type: snapshot.LoadBalancer}
	for _, vip := range c.Addresses {
		a := &snapshot.Address{Addr: vip, UID: uid, Holders: []snapshot.Holder{{Ref: Service, UID: uid}}}
		if w.Met {
			a.ProbedAt = time.Unix(1, 0)
		}
		s.Addresses = append(s.Addresses, a)
		svc.Endpoints = append(svc.Endpoints, snapshot.Endpoint{Protocol: snapshot.TCP, Addr: netip.AddrPortFrom(vip, c.Port), Node: Node(w.Own), Ready: true, Serving: true})
	}
	s.Services = []*snapshot.Service{svc}
	s.Announcements = []*snapshot.Announcement{c.announcement()}
	s.BGPPeers = c.peers()
	s.Sort()
	return s
}

// all returns the members with this node, sorted and once each.
func (w World) all() []netip.Addr {
	out := append(slices.Clone(w.Members), w.Own)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// announcement has the owner keep the addresses while it is well: connections to an API
// server last long, and each move ends them.
func (c Config) announcement() *snapshot.Announcement {
	an := &snapshot.Announcement{Name: name, Interfaces: c.Interfaces, FailbackNever: true, L2: !c.routed()}
	if !an.L2 {
		an.BGP = &snapshot.BGPAnnouncement{}
	}
	return an
}

// secret names the password of all sessions.
var secret = snapshot.SecretKey{Name: name, Key: "password"}

// Passwords are those of the sessions, as package bgp reads them.
func (c Config) Passwords() map[snapshot.SecretKey]string {
	return map[snapshot.SecretKey]string{secret: c.BGP.Password}
}

func (c Config) peers() (out []*snapshot.BGPPeer) {
	for _, p := range c.BGP.Peers {
		peer := &snapshot.BGPPeer{Name: p.Addr.String(), Addr: p.Addr, PeerASN: p.ASN, LocalASN: c.BGP.ASN}
		if c.BGP.Password != "" {
			peer.Secret = secret
		}
		out = append(out, peer)
	}
	return out
}

// routed reports whether the addresses are announced over BGP, and not at layer 2.
func (c Config) routed() bool { return len(c.BGP.Peers) > 0 }

// Tell makes r, which is about this node, say whether it is fit.
func (w World) Tell(r *announcer.Report) {
	if !w.Fit {
		r.Draining, r.DrainsFor = true, r.DrainsFor|snapshot.DrainOutOfService
	}
}

// Ready returns the addresses that this node may announce: those that redirected says lead to
// its kube-apiserver. Over BGP every such node announces them, so one that is not fit leaves
// them to the others as long as there is another.
func (c Config) Ready(w World, v announcer.View, redirected map[netip.Addr]bool) map[netip.Addr]bool {
	if c.routed() && !w.Fit && OthersFit(v) {
		return map[netip.Addr]bool{}
	}
	return redirected
}

// OthersFit reports whether another node can serve, as far as v shows.
func OthersFit(v announcer.View) bool {
	return slices.ContainsFunc(v.Members, func(m announcer.Member) bool {
		return m.Node != v.Node && m.Candidate && m.Report != nil && !m.Report.Drains(snapshot.DrainByDefault)
	})
}

// Met reports whether another node is heard.
func Met(v announcer.View) bool {
	return slices.ContainsFunc(v.Members, func(m announcer.Member) bool {
		return m.Node != v.Node && m.Report != nil && m.Verdict == announcer.Alive
	})
}

// mostMembers is how many members are read of a file.
const mostMembers = 256

// ParseMembers reads what FormatMembers wrote.
func ParseMembers(text []byte) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, word := range strings.Fields(string(text)) {
		a, err := netip.ParseAddr(word)
		if err != nil || len(out) == mostMembers {
			return nil, fmt.Errorf("a line is not an address, or there are more than %d", mostMembers)
		}
		out = append(out, a)
	}
	return out, nil
}

// FormatMembers writes a line for each member.
func FormatMembers(all []netip.Addr) []byte {
	var b []byte
	for _, a := range all {
		b = append(a.AppendTo(b), '\n')
	}
	return b
}
