package proxy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Packet is the first packet of a new connection.
type Packet struct {
	Protocol snapshot.Protocol
	Src      netip.Addr
	Dst      netip.AddrPort
	Link     string // that it comes in from; "" if this node sends it, or where it does not matter
	FromNode bool   // sent by this node itself; from an address among its pods' it counts as a pod's
}

// Outcome is what happens to a Packet.
type Outcome struct {
	Verdict    Verdict
	Endpoints  []netip.AddrPort // where it may go, if Verdict is Forward and a Frontend took it
	Masquerade bool             // its source is replaced by the node's
	Hairpin    bool             // its source is one of Endpoints: if that is chosen, it is masqueraded in any case
	Frontend   *Frontend        // nil: no frontend took it
	Why        string
}

func (o Outcome) String() string {
	s := o.Verdict.String()
	if o.Frontend != nil && o.Verdict == Forward {
		s += " to " + addrs(o.Endpoints)
	}
	switch {
	case o.Masquerade:
		s += " masqueraded"
	case o.Hairpin:
		s += " masqueraded to itself"
	}
	return fmt.Sprintf("%s (%s)", s, o.Why)
}

// Trace answers what the engine that holds t does with p: the meaning of a
// Table, against which a Dataplane's kernel is checked.
func (t *Table) Trace(p Packet) Outcome {
	f := t.match(p)
	if f == nil {
		return t.undefined(p)
	}
	if f.Kind == Guard {
		return Outcome{Verdict: Forward, Why: "left to the proxy that forwards"}
	}
	if f.Sources != nil && !contains(f.Sources, p.Src) {
		return Outcome{Verdict: Drop, Frontend: f, Why: "source not in loadBalancerSourceRanges"}
	}
	eps, masq := t.path(f, p)
	if len(eps) == 0 {
		return Outcome{Verdict: f.Empty, Frontend: f, Why: "no endpoint"}
	}
	return Outcome{Verdict: Forward, Endpoints: f.at(eps, p.Dst.Port()), Masquerade: masq, Hairpin: t.hairpin(p, eps), Frontend: f, Why: f.Key.String()}
}

// hairpin reports whether one of eps, on this node, may connect to itself.
func (t *Table) hairpin(p Packet, eps []netip.AddrPort) bool {
	return slices.ContainsFunc(eps, func(ep netip.AddrPort) bool {
		return ep.Addr() == p.Src && slices.Contains(t.Hairpin, Target{p.Protocol, ep})
	})
}

func (t *Table) match(p Packet) *Frontend {
	family := snapshot.FamilyOf(p.Dst.Addr())
	for _, kind := range []Kind{ClusterIP, VIP, ExternalIP, Guard} {
		if f := t.Frontend(Key{Kind: kind, Family: family, Addr: p.Dst.Addr(), Protocol: p.Protocol, Port: p.Dst.Port()}); f != nil {
			return f
		}
	}
	if f := t.Ranged(p.Protocol, p.Dst); f != nil {
		return f
	}
	if slices.Contains(t.NodePortAddrs, p.Dst.Addr()) {
		return t.Frontend(Key{Kind: NodePort, Family: family, Protocol: p.Protocol, Port: p.Dst.Port()})
	}
	return nil
}

// path is the choice between a frontend's two lists, and whether to masquerade.
func (t *Table) path(f *Frontend, p Packet) (eps []netip.AddrPort, masquerade bool) {
	pod, known := t.fromPod(p)
	switch {
	case f.Kind == ClusterIP:
		// Without any pod known, all sources are kept (spec 1).
		return f.Cluster, known && !pod
	case !f.LocalOnly:
		return f.Cluster, true
	// A pod of the node reaches all endpoints with its own source (spec 42).
	case pod:
		return f.Cluster, false
	// The answer of another node's endpoint has to come back through this one (spec 43).
	case p.FromNode:
		return f.Cluster, true
	}
	return f.Local, false
}

func (t *Table) undefined(p Packet) Outcome {
	addr := p.Dst.Addr()
	for _, kind := range []Kind{ClusterIP, VIP, Guard} {
		// Also a port that another Service has (spec 7).
		if t.HasAddr(kind, addr) {
			return Outcome{Verdict: Reject, Why: fmt.Sprintf("undefined port of a %s", kind)}
		}
	}
	if contains(t.ServiceCIDRs, addr) {
		return Outcome{Verdict: Drop, Why: "unallocated address of a Service CIDR"}
	}
	return Outcome{Verdict: Forward, Why: "not a Service's address"}
}
