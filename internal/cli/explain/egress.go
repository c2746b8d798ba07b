package explain

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/egress"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// egress tells of a Service that asks for it by which node the connections of its pods
// leave the cluster.
func (e *explaining) egress() {
	if !e.svc.Leaves() {
		return
	}
	if e.FromFiles {
		e.ok("egress", "connections of its pods to destinations outside of the cluster leave with its address")
		return
	}
	for _, n := range e.NodeStates {
		for _, p := range n.Problems {
			if p.Service == e.svc.Ref && ofEgress(p) {
				what, next, _ := strings.Cut(p.Message, ". Next: ")
				e.fail("egress", next, "node %s: %s: %s", n.Node, p.Reason, what)
				return
			}
		}
	}
	var by []string
	for _, family := range []snapshot.Family{snapshot.IPv4, snapshot.IPv6} {
		if vip, ok := e.EgressVIP(e.svc, family); ok {
			by = append(by, vip.String()+e.through(vip))
		}
	}
	if len(by) > 0 {
		e.ok("egress", "connections of its pods to destinations outside of the cluster leave with %s", strings.Join(by, " and "))
	}
}

// anycast tells of a Service whose addresses other clusters have too what happens without
// endpoints.
func (e *explaining) anycast() {
	if e.svc.Anycast {
		e.note("anycast", "other clusters have the address too: without a ready endpoint it is withdrawn, and packets to it are routed on")
	}
}

// elsewhere tells whose address it is that no rule takes because other clusters have it too.
func (f *following) elsewhere() {
	a := f.Address(f.To.Addr())
	if f.out.Frontend != nil || f.out.Verdict != proxy.Forward || a == nil {
		return
	}
	for _, h := range a.Holders {
		if svc := f.Service(h.Ref); svc != nil && svc.Anycast {
			f.note("anycast", "the address is that of Service %s, which has no usable endpoint here: it is left to other clusters", h.Ref)
			return
		}
	}
}

func ofEgress(p snapshot.Problem) bool {
	return p.Reason == egress.EgressHeld || p.Reason == egress.EgressLeftOut
}

// through names the node that translates the source to vip.
func (e *explaining) through(vip netip.Addr) string {
	for _, by := range e.Announcers(vip) {
		if by.Link != "" {
			return ", through " + by.Agent.Node
		}
	}
	return ""
}

// leaves says with which source a packet leaves that no Service takes, and by which node. It
// reports whether the sender is a pod of a Service that asks for that.
func (f *following) leaves() bool {
	if f.out.Frontend != nil {
		return false
	}
	state, _ := egress.Decide(egress.Inputs{Node: f.Node, Snapshot: f.Snapshot, Services: f.Options(f.Node).ServiceCIDRs, Pods: f.LocalPods()[f.Node].CIDRs})
	inside := func(p netip.Prefix) bool { return p.Contains(f.To.Addr()) }
	i := slices.IndexFunc(state.Pods, func(p egress.Pod) bool { return p.Addr == f.From })
	if i < 0 || !state.Pods[i].Opens || slices.ContainsFunc(state.Inside, inside) {
		return false
	}
	svc := f.Service(state.Pods[i].Service)
	vip, ok := f.EgressVIP(svc, snapshot.FamilyOf(f.From))
	if !ok || f.through(vip) == "" {
		f.fail("egress", "fairlead explain "+svc.Ref.String(), "it waits: Service %s asks for egress with its address, which no node announces at layer 2", svc.Ref)
		return true
	}
	f.ok("egress", "leaves with %s, the address of Service %s%s", vip, svc.Ref, f.through(vip))
	return true
}
