package nftables

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Flow is a connection that the kernel tracks: who opened it, the address that this
// client sends to, and the endpoint that its packets go to. The kernel keeps sending
// to that endpoint as long as the client sends: nothing else ends a UDP flow, nor a
// TCP connection that is not answered.
type Flow struct {
	Protocol   snapshot.Protocol
	Client     netip.Addr
	ClientPort uint16
	To, From   netip.AddrPort
	Answered   bool
}

// Open reports whether f is a TCP connection that its endpoint has answered. TCP tells
// both sides itself when such a connection ends. It is stale only if its endpoint is
// on a node that is lost.
func (f Flow) Open() bool { return f.Protocol == snapshot.TCP && f.Answered }

// Stale reports whether f has to end, so that its client's next packet is treated as
// t says. gone are Frontends that t no longer has, but that may have left flows.
func (f Flow) Stale(t *proxy.Table, gone map[proxy.Key]bool) bool {
	keys, n := f.keys(t)
	for _, k := range keys[:n] {
		if front := t.Frontend(k); front != nil {
			return f.strayed(front)
		}
	}
	if front := t.Ranged(f.Protocol, f.To); front != nil {
		return f.strayed(front)
	}
	// Its endpoint may still answer, although the Service is gone.
	if f.Open() {
		return false
	}
	for _, k := range keys[:n] {
		if gone[k] {
			return true
		}
	}
	if len(gone) > 0 && gone[proxy.Key{Kind: proxy.VIP, Family: snapshot.FamilyOf(f.To.Addr()), Addr: f.To.Addr(), Protocol: f.Protocol}] {
		return true // it had ranges of ports: f's may have been in one
	}
	// Every port of such an address is ours. A flow that is not translated may be
	// somebody's who serves that address on this node, and does no harm.
	ours := t.HasAddr(proxy.ClusterIP, f.To.Addr()) || t.HasAddr(proxy.VIP, f.To.Addr())
	return ours && f.From != f.To
}

// keys are the n Keys that a Frontend of f can have, in the order of precedence. They
// are an array because this runs for each connection of the node.
func (f Flow) keys(t *proxy.Table) (keys [4]proxy.Key, n int) {
	k := proxy.Key{Family: snapshot.FamilyOf(f.To.Addr()), Addr: f.To.Addr(), Protocol: f.Protocol, Port: f.To.Port()}
	for _, k.Kind = range [...]proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.ExternalIP} {
		keys[n] = k
		n++
	}
	if slices.Contains(t.NodePortAddrs, k.Addr) {
		k.Kind, k.Addr = proxy.NodePort, netip.Addr{}
		keys[n] = k
		n++
	}
	return keys, n
}

// strayed reports whether front no longer lets f's client reach f's endpoint.
func (f Flow) strayed(front *proxy.Frontend) bool {
	at := f.From
	if front.Ranged() {
		if at = netip.AddrPortFrom(at.Addr(), 0); f.From.Port() != f.To.Port() {
			return !f.Open() // it began when another Frontend had the port
		}
	}
	has := func(list []netip.AddrPort) bool { _, ok := find(list, at); return ok }
	permits := func(p netip.Prefix) bool { return p.Contains(f.Client) }
	switch {
	// The pod of an endpoint that left may still answer. That of a lost node does not.
	case f.Open():
		return has(front.Lost) || f.left(front)
	// An open TCP connection was let in when it began; a flow has no end of its own.
	case front.Sources != nil && !slices.ContainsFunc(front.Sources, permits):
		return true
	case has(front.Cluster), has(front.Local):
		return false
	case f.Protocol == snapshot.TCP:
		// Still a new connection, which an endpoint that only serves does not take.
		return true
	}
	// An endpoint that terminates and still serves keeps its flows: QUIC, SIP and games drain by that
	// (TestFlowsStayWhileTheirEndpointServes).
	return !has(front.Serving)
}

// Left reports whether f is open and goes to an endpoint that its Service in t no longer
// has, where the Service asks for such connections to end. That does not wait.
func (f Flow) Left(t *proxy.Table) bool {
	keys, n := f.keys(t)
	for _, k := range keys[:n] {
		if front := t.Frontend(k); front != nil {
			return f.Open() && f.left(front)
		}
	}
	front := t.Ranged(f.Protocol, f.To)
	return front != nil && f.Open() && f.left(front)
}

// left reports whether front, the Frontend of f, no longer has f's endpoint, and asks for such
// connections to end. What is not translated goes to no endpoint.
func (f Flow) left(front *proxy.Frontend) bool {
	// Only where the Service asks for it: a pod that is being replaced finishes its answers.
	if front.Members == nil || f.From == f.To {
		return false
	}
	at := f.From
	if front.Ranged() {
		at = netip.AddrPortFrom(at.Addr(), 0)
	}
	_, member := find(front.Members, at)
	return !member
}

// Leaves reports whether open connections may have to end when old becomes t, because an
// endpoint left a Service that asks for that. A nil old stands for any Table.
func Leaves(old, t *proxy.Table) bool {
	if old == nil {
		return slices.ContainsFunc(t.Frontends, confines)
	}
	for was, is := range t.Changed(old) {
		if is != nil && confines(is) && (was == nil || was.Members == nil || lost(was.Members, is.Members)) {
			return true
		}
	}
	return false
}

func confines(f *proxy.Frontend) bool { return f.Protocol == snapshot.TCP && f.Members != nil }

// Network is the flows of one protocol and one family, which the kernel lists at once.
// A list takes milliseconds also where there are no flows: the kernel looks into a
// quarter of a million places.
type Network struct {
	Protocol snapshot.Protocol
	Family   snapshot.Family
}

func (n Network) String() string { return n.Protocol.String() + " over " + n.Family.String() }

// Protocols are what connections have.
var Protocols = []snapshot.Protocol{snapshot.UDP, snapshot.SCTP, snapshot.TCP}

// Networks are all of them, in the order in which they are compared.
var Networks = func() (out []Network) {
	for _, p := range Protocols {
		for _, f := range Families {
			out = append(out, Network{p, f.ID})
		}
	}
	return out
}()

// NetworkOf returns where the flows to a Frontend are.
func NetworkOf(k proxy.Key) Network { return Network{k.Protocol, k.Family} }

// Concerned returns the Networks where now may make flows stale that were not
// stale in old, and of each whether it is urgent. It is not where endpoints went, as they
// do all the time: few clients were about to connect to one.
func Concerned(old, now *proxy.Table) map[Network]bool {
	out := map[Network]bool{}
	note := func(k proxy.Key, urgent bool) {
		n := NetworkOf(k)
		out[n] = out[n] || urgent
	}
	for was, is := range now.Changed(old) {
		switch {
		case is == nil:
			note(was.Key, false)
		case was == nil || uncovers(was, is):
			note(is.Key, true)
		case loses(was, is):
			note(is.Key, false)
		}
	}
	return out
}

// uncovers reports whether flows may stray when old becomes now though no endpoint goes.
func uncovers(old, now *proxy.Frontend) bool {
	// Until a Frontend has its first endpoint, packets may have passed untranslated.
	first := len(old.Cluster)+len(old.Local) == 0 && len(now.Cluster)+len(now.Local) > 0
	// The kernel looks at the sources of new connections alone.
	narrowed := now.Sources != nil && (old.Sources == nil || !slices.Equal(old.Sources, now.Sources))
	return first || narrowed || !slices.Equal(old.Ranges, now.Ranges) || lost(now.Lost, old.Lost)
}

// loses reports whether flows may stray because an endpoint goes when old becomes now.
func loses(old, now *proxy.Frontend) bool {
	if lost(old.Cluster, now.Cluster) || lost(old.Local, now.Local) {
		return true
	}
	// An endpoint that only serves has no TCP connection that it has not answered.
	return now.Protocol != snapshot.TCP && lost(old.Serving, now.Serving)
}

// lost reports whether an endpoint of old is not in now.
func lost(old, now []netip.AddrPort) bool {
	return slices.ContainsFunc(old, func(ep netip.AddrPort) bool {
		_, ok := find(now, ep)
		return !ok
	})
}

// Gone returns the Frontends that patches take out.
func Gone(patches []*Patch) []proxy.Key {
	var out []proxy.Key
	for _, p := range patches {
		for _, c := range p.changes {
			if c.new == nil {
				out = append(out, c.old.Key)
			}
		}
	}
	return out
}
