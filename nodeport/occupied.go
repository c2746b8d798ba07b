package nodeport

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Socket is a socket of the node that new connections or datagrams can reach.
type Socket struct {
	Protocol snapshot.Protocol
	Addr     netip.AddrPort // of an unspecified address: every address of its family
	Both     bool           // an unspecified IPv6 address that takes IPv4 too
}

// at reports whether packets to addr would reach s, but for the engine.
func (s Socket) at(addr netip.Addr) bool {
	if !s.Addr.Addr().IsUnspecified() {
		return s.Addr.Addr().Unmap() == addr.Unmap()
	}
	// A socket at :: takes IPv4 too, unless it has IPV6_V6ONLY.
	return s.Both || snapshot.FamilyOf(s.Addr.Addr()) == snapshot.FamilyOf(addr)
}

// Occupied returns the node ports that a process of the node listens on too: one
// Problem for each port of a Service, sorted. addrs are the addresses on which
// node ports answer. The engine serves the port all the same, so that the
// process is cut off: that is what its owner should know.
func (x *Index) Occupied(addrs []netip.Addr, sockets []Socket) []snapshot.Problem {
	type number struct {
		protocol snapshot.Protocol
		port     uint16
	}
	listening := map[number][]Socket{}
	for _, sock := range sockets {
		n := number{sock.Protocol, sock.Addr.Port()}
		listening[n] = append(listening[n], sock)
	}
	var out []snapshot.Problem
	for _, svc := range x.public {
		for _, p := range svc.Ports {
			at := occupiedAddrs(svc, addrs, listening[number{p.Protocol, p.NodePort}])
			if p.NodePort == 0 || len(at) == 0 {
				continue
			}
			out = append(out, snapshot.Problem{Service: svc.Ref, Reason: PortOccupied, Message: fmt.Sprintf(
				"node port %d/%s: a process listens on it at %s and gets no connection from outside, because the Service does", p.NodePort, p.Protocol, list(at))})
		}
	}
	return SortProblems(out)
}

// occupiedAddrs returns those of addrs that svc answers on and one of sockets too.
func occupiedAddrs(svc *snapshot.Service, addrs []netip.Addr, sockets []Socket) []netip.Addr {
	if len(sockets) == 0 {
		return nil
	}
	var out []netip.Addr
	for _, a := range addrs {
		family := func(ip netip.Addr) bool { return snapshot.FamilyOf(ip) == snapshot.FamilyOf(a) }
		if slices.ContainsFunc(svc.ClusterIPs, family) && slices.ContainsFunc(sockets, func(s Socket) bool { return s.at(a) }) {
			out = append(out, a)
		}
	}
	return out
}

// list names addresses, eight at most.
func list(addrs []netip.Addr) string {
	const most = 8
	text := ""
	for i, a := range addrs[:min(len(addrs), most)] {
		if i > 0 {
			text += ", "
		}
		text += a.String()
	}
	if len(addrs) > most {
		text += " and others"
	}
	return text
}
