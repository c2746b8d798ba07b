package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/director"
)

// forwarding tells of a Service for which Direct is asked on which nodes that happens.
func (e *explaining) forwarding() {
	by := e.directBy()
	switch {
	case by == "":
		return
	case e.svc.ExternalTrafficPolicy == snapshot.PolicyLocal:
		e.note("forwarding", "Direct, which %s asks for, has no effect: with externalTrafficPolicy Local every connection stays on the node that it reaches", by)
		return
	case e.svc.AllPorts:
		e.note("forwarding", "Direct, which %s asks for, has no effect: with %s: %s a client has one pod at all ports", by, snapshot.AnnotationAffinity, snapshot.AffinityAllPorts)
		return
	case e.Snapshot.Forwarding(e.svc.Ref) != snapshot.Direct:
		e.note("forwarding", "Masquerade, as the annotation %s says; %s asks for Direct", snapshot.AnnotationForwarding, by)
		return
	}
	if e.FromFiles {
		e.ok("forwarding", "Direct, as %s asks: the pods see the clients, and answer them directly, where the nodes are able", by)
		return
	}
	step := Step{Name: "forwarding", Mark: OK, Text: "Direct, as " + by + " asks: the pods see the clients, and answer them directly"}
	pods, able := e.podsByNode(), 0
	var apart []string
	for _, n := range e.Nodes {
		d := Step{Name: n.Name, Mark: OK, Text: cluster.Count(pods[n.Name], "endpoint")}
		if why := e.Undirected(n.Name); why != "" {
			d.Mark, d.Text = Failed, d.Text+"; it is not able: "+why
			if pods[n.Name] > 0 {
				apart = append(apart, n.Name)
			}
		} else {
			able++
			d.Text += takesOn(e.NodeState(n.Name))
			if without := e.DirectsWithout(n.Name); without != "" {
				d.Text += "; " + without
			}
		}
		step.Details = append(step.Details, d)
	}
	switch {
	case len(apart) > 0:
		step.Mark, step.Text = Note, "Direct, as "+by+" asks. "+strings.Join(apart, ", ")+" cannot take part: a part of the connections is served as with Masquerade"
	case able < len(e.Nodes):
		step.Mark, step.Text = Note, step.Text+", unless a node announces the address that is not able"
	}
	e.add(step)
}

// directBy names what asks for Direct, "" if nothing does.
func (e *explaining) directBy() string {
	if e.svc.Forwarding == snapshot.Direct {
		return "the annotation " + snapshot.AnnotationForwarding
	}
	if an := e.DirectBy(e.svc); an != nil {
		return "Announcement " + an.Name
	}
	return ""
}

// podsByNode counts the endpoints of each node that serve: the addresses of one family, of
// which one that serves several ports counts once.
func (e *explaining) podsByNode() map[string]int {
	type place struct {
		node   string
		family snapshot.Family
	}
	seen, counts, out := map[netip.Addr]bool{}, map[place]int{}, map[string]int{}
	for _, ep := range e.svc.Endpoints {
		ip := ep.Addr.Addr()
		if seen[ip] || !ep.Ready && !ep.Serving {
			continue
		}
		seen[ip] = true
		at := place{ep.Node, snapshot.FamilyOf(ip)}
		counts[at]++
		out[ep.Node] = max(out[ep.Node], counts[at])
	}
	return out
}

// takesOn says by which links the node of a takes packets that others pass on.
func takesOn(a *snapshot.NodeState) string {
	var names []string
	for _, l := range a.Director.Links {
		names = append(names, l.Name)
	}
	if len(names) == 0 {
		return ", and no link takes what others pass on"
	}
	return ", takes what others pass on by " + strings.Join(names, ", ")
}

// directed says how the packet is passed on, if it comes from outside to an address for
// which Direct is asked. It returns where it may go, sorted, and false if it is not.
func (f *following) directed() (endpoints []netip.AddrPort, ok bool) {
	fr := f.out.Frontend
	inside, _ := f.sender()
	if fr.Kind != proxy.VIP || f.Snapshot.Forwarding(fr.Service) != snapshot.Direct || inside != "" {
		return nil, false
	}
	eps := taking(f.Service(fr.Service), fr, f.To.Port())
	if why := f.Undirected(f.Node); why != "" && !f.FromFiles {
		f.note("director", "%s does not pass packets on: %s; it translates, as with Masquerade", f.Node, why)
		return nil, false
	}
	byNode := map[string]int{}
	for _, ep := range eps {
		endpoints = append(endpoints, ep.Addr)
		byNode[ep.Node]++
	}
	if len(eps) == 0 {
		return nil, true
	}
	if to, known := f.slot(byNode); known {
		if why := f.apart(to); why != "" {
			f.note("director", "its slot is one of %s: %s; %s translates, as with Masquerade", named(to), why, f.Node)
			return nil, false
		}
		return on(eps, to), true
	}
	step := Step{Name: "director", Mark: OK, Text: f.Node + " passes it on unchanged to the node that its source chooses, and keeps nothing"}
	for _, node := range sortedKeys(byNode) {
		part := Step{Name: node, Mark: OK, Text: fmt.Sprintf("%d of %s", byNode[node], cluster.Count(len(eps), "connection"))}
		switch why := f.apart(node); {
		case node == f.Node:
			part.Text += ", which stay here"
		case why != "":
			f.inPart = true
			part.Name, part.Mark = named(node), Note
			part.Text += fmt.Sprintf(", which %s translates, as with Masquerade, to %s: %s", f.Node, f.inItsPlace(), why)
		}
		step.Details = append(step.Details, part)
	}
	f.add(step)
	return endpoints, true
}

// inItsPlace says which endpoints have the connections of a node that takes no part.
func (f *following) inItsPlace() string {
	if fr := f.out.Frontend; fr.Affinity > 0 || fr.Ranged() {
		return "any endpoint"
	}
	return "an endpoint of such a node"
}

// slot tells which node is the primary of the packet's slot, and returns it. It is not known
// if the cluster's seed or the client's port is missing. byNode counts the endpoints that
// take connections.
func (f *following) slot(byNode map[string]int) (primary string, known bool) {
	system, affinity := f.Snapshot.Namespace("kube-system"), f.out.Frontend.Affinity > 0
	if system == nil || system.UID == "" || f.Port == 0 && !affinity {
		return "", false
	}
	var members []director.Member
	for _, n := range f.Nodes {
		if !f.lost(n.Name) {
			members = append(members, director.Member{Name: n.Name, Weight: byNode[n.Name]})
		}
	}
	if n := byNode[""]; n > 0 {
		members = append(members, director.Member{Weight: n})
	}
	flow := director.Flow{Proto: uint8(f.Protocol), Source: netip.AddrPortFrom(f.From, f.Port), Frontend: f.To}
	if affinity {
		flow.Source = netip.AddrPortFrom(f.From, 0)
		if f.out.Frontend.Ranged() {
			flow.Frontend = netip.AddrPortFrom(f.To.Addr(), 0)
		}
	}
	seed := director.SeedOf(system.UID)
	table := director.New(seed, members)
	if len(table.Primary) == 0 {
		return "", false
	}
	slot := table.Slot(seed.Hash(flow))
	if primary = table.Members[table.Primary[slot]].Name; f.apart(primary) != "" {
		return primary, true
	}
	how := "passes it on unchanged to " + primary
	if primary == f.Node {
		how = "serves it itself"
	}
	f.ok("director", "slot %d of %d: %s %s, and keeps nothing", slot, len(table.Primary), f.Node, how)
	var chain []string
	for _, member := range table.Chains(nil)[slot*director.Places:][:director.Places] {
		if member != director.NoMember && f.apart(table.Members[member].Name) == "" {
			chain = append(chain, table.Members[member].Name)
		}
	}
	f.note("chain", "%s: asked in this order for a connection that is not there, after nodes that had the slot before", strings.Join(chain, ", "))
	return primary, true
}

// apart says why packets are not passed on to a node, "" if they are.
func (f *following) apart(node string) string {
	switch {
	case f.FromFiles:
		return ""
	case node == "":
		return "its EndpointSlice does not name a node"
	}
	return f.Unreached(f.Node, node, f.out.Frontend.Family)
}

func named(node string) string { return cmp.Or(node, "no node") }

// lost reports whether the other nodes hold that the node called name is gone.
func (f *following) lost(name string) bool {
	return slices.ContainsFunc(f.Heard(), func(a *snapshot.NodeState) bool {
		return slices.ContainsFunc(a.Silent, func(m snapshot.Silent) bool { return m.Node == name && m.Quarantined })
	})
}

// on returns the addresses of those of eps that are on a node.
func on(eps []snapshot.Endpoint, node string) (out []netip.AddrPort) {
	for _, ep := range eps {
		if ep.Node == node {
			out = append(out, ep.Addr)
		}
	}
	return out
}

// taking returns the endpoints of svc that take new connections of fr: those that are
// ready, or those that still serve if none is. Topology has no say, as all nodes have to
// choose alike. In a range of ports an address is one endpoint, at port.
func taking(svc *snapshot.Service, fr *proxy.Frontend, port uint16) []snapshot.Endpoint {
	if svc == nil {
		return nil
	}
	var ready, serving []snapshot.Endpoint
	add := func(to []snapshot.Endpoint, ep snapshot.Endpoint) []snapshot.Endpoint {
		if fr.Ranged() {
			ep.Addr = netip.AddrPortFrom(ep.Addr.Addr(), port)
			if slices.ContainsFunc(to, func(e snapshot.Endpoint) bool { return e.Addr == ep.Addr }) {
				return to
			}
		}
		return append(to, ep)
	}
	for _, ep := range svc.Endpoints {
		switch {
		case !fr.Ranged() && (ep.PortName != fr.PortName || ep.Protocol != fr.Protocol), snapshot.FamilyOf(ep.Addr.Addr()) != fr.Family:
		case ep.Ready:
			ready = add(ready, ep)
		case ep.Serving:
			serving = add(serving, ep)
		}
	}
	if len(ready) == 0 {
		return serving
	}
	return ready
}
