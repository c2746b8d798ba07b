package explain

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// traffic tells what a packet to the address meets.
func (e *explaining) traffic() {
	held := len(e.plan.Addrs) > 0
	e.endpoints()
	switch {
	case held && e.plan.OfNodes:
		e.note("announcer", "nobody announces the nodes' own addresses: each node answers for its own, and forwards what arrives there")
		if !e.FromFiles {
			e.engine()
		}
	case held && !e.FromFiles:
		for _, a := range e.plan.Addrs {
			e.nodes(a)
			e.announced(a)
		}
		e.engine()
	}
	e.policy()
	e.connections()
	e.forwarding()
	e.egress()
	e.anycast()
	e.sources()
	e.nodePorts()
}

// conditions counts endpoints by what may be sent to them.
type conditions struct {
	ready, draining, unready []snapshot.Endpoint
}

// count counts the endpoints of one family, each address once.
func (e *explaining) count(of netip.Addr) conditions {
	var c conditions
	seen := map[netip.Addr]bool{}
	for _, ep := range e.svc.Endpoints {
		ip := ep.Addr.Addr()
		if snapshot.FamilyOf(ip) != snapshot.FamilyOf(of) || seen[ip] {
			continue
		}
		seen[ip] = true
		switch {
		case ep.Ready:
			c.ready = append(c.ready, ep)
		case ep.Serving:
			c.draining = append(c.draining, ep)
		default:
			c.unready = append(c.unready, ep)
		}
	}
	return c
}

// endpoints counts them for every family that the Service's addresses have.
func (e *explaining) endpoints() {
	of := e.plan.Addrs
	if len(of) == 0 || e.plan.OfNodes {
		of = e.svc.ClusterIPs
	}
	seen := map[snapshot.Family]bool{}
	for _, a := range of {
		if seen[snapshot.FamilyOf(a)] {
			continue // the endpoints are the same for each address of a family
		}
		seen[snapshot.FamilyOf(a)] = true
		c := e.count(a)
		text := fmt.Sprintf("%d ready, %d still serving while they end, %d not ready", len(c.ready), len(c.draining), len(c.unready))
		if families(of) > 1 {
			text = snapshot.FamilyOf(a).String() + ": " + text
		}
		if len(c.ready)+len(c.draining) == 0 {
			e.fail("endpoints", e.noEndpoint(c), "%s: connections are rejected", text)
			continue
		}
		e.add(Step{Name: "endpoints", Mark: OK, Text: text + byNode(c.ready)})
	}
}

func byNode(eps []snapshot.Endpoint) string {
	n := map[string]int{}
	for _, ep := range eps {
		if ep.Node != "" {
			n[ep.Node]++
		}
	}
	if len(n) == 0 {
		return ""
	}
	var out []string
	for _, node := range slices.Sorted(maps.Keys(n)) {
		out = append(out, fmt.Sprintf("%s: %d", node, n[node]))
	}
	return " (" + strings.Join(out, ", ") + ")"
}

func (e *explaining) noEndpoint(c conditions) string {
	var sel []string
	for _, k := range sortedKeys(e.svc.Selector) {
		sel = append(sel, k+"="+e.svc.Selector[k])
	}
	switch {
	case len(sel) == 0:
		return "the Service has no selector: make an EndpointSlice for it, or give it a spec.selector"
	case len(c.unready) > 0:
		return "find out why the pods are not ready: " + e.kubectl("describe pods -l %s", strings.Join(sel, ","))
	}
	return "find the pods that the Service selects: " + e.kubectl("get pods -l %s", strings.Join(sel, ",")) + "; if there are none, compare their labels with spec.selector and their ports with spec.ports"
}

// nodes tells of every node whether it may announce a.
func (e *explaining) nodes(a netip.Addr) {
	verdicts := announcer.Judge(e.Election(), a)
	if verdicts == nil {
		return // no record yet, which was said
	}
	step := Step{Name: e.about("nodes", a), Mark: OK}
	fit := 0
	for _, v := range verdicts {
		d := Step{Name: v.Node, Mark: OK, Text: "may announce it on " + strings.Join(v.Links, ", ")}
		if v.Weight != 0 {
			d.Text += fmt.Sprintf(", preferred with weight %d", v.Weight)
		}
		if n := e.Snapshot.Node(v.Node); v.Unfit == "" && n != nil && n.Unschedulable {
			d.Text += "; it is cordoned, which moves nothing without Cordon in an Announcement's drainOn"
		}
		if v.Stays {
			d.Text += "; it has the address and keeps it (failback: Never)"
			if first := e.preferred(a); first != v.Node {
				d.Text += fmt.Sprintf(", although %s is preferred: fairlead rebalance moves it", first)
			}
		}
		if v.Unfit == "" {
			fit++
			e.parted(a, v, &d, &step)
		} else {
			d.Mark, d.Text = Failed, v.Unfit
		}
		step.Details = append(step.Details, d)
	}
	step.Text = fmt.Sprintf("%d of %s may announce it", fit, cluster.Count(len(verdicts), "node"))
	if e.ByBGP(a) {
		step.Mark, step.Text = Note, step.Text+" by ARP or NDP; an Announcement sends it over BGP"
		if fit == 0 {
			step.Details = nil
		}
	} else if fit == 0 {
		step.Mark = Failed
		step.Next = "see to it that one node may: " + e.unfitRemedy(verdicts)
	}
	e.add(step)
}

// parted notes of a node that may announce a which Services it would not serve. If it is the
// owner, and the Service is one of them, the Service has no connections.
func (e *explaining) parted(a netip.Addr, v announcer.Judged, node, all *Step) {
	record := e.Snapshot.Address(a)
	if record == nil {
		return
	}
	without := announcer.Parted(e.Snapshot, announcer.Holders(e.Snapshot, record), a, v.Node)
	if len(without) == 0 {
		return
	}
	node.Mark = Note
	for _, ref := range without {
		node.Text += "; it has no ready endpoint of " + ref.String()
		if ref == e.svc.Ref && v.Rank == 1 {
			node.Mark, all.Mark, e.apart = Failed, Failed, true
			all.Next = "have the pods of the Services that share " + a.String() + " on one node, for example by a podAffinity"
		}
	}
}

// preferred returns which node would announce a if none kept it; "" if that is unknown.
func (e *explaining) preferred(a netip.Addr) string {
	for _, m := range e.Moves() {
		if m.Addr == a {
			return m.To
		}
	}
	if r := e.Owner(a); r != nil {
		return r.Owner
	}
	return ""
}

func (e *explaining) unfitRemedy(verdicts []announcer.Judged) string {
	linkless := len(verdicts) > 0
	for _, v := range verdicts {
		linkless = linkless && strings.Contains(v.Unfit, "link")
	}
	if linkless {
		return "give the pool addresses of a network that the nodes are in, or name the link exactly in an Announcement (kubectl get nodestate NODE -o yaml lists the links)"
	}
	return "each node above has its reason; fairlead doctor says what to do about each"
}

// Announcing says of every node whether it may announce a, and who does.
func Announcing(s *cluster.State, a netip.Addr) []Step {
	e := &explaining{State: s, svc: &snapshot.Service{}, trace: &Trace{}}
	e.nodes(a)
	e.announced(a)
	return e.trace.Steps
}

// about names a step of one address, if there are several.
func (e *explaining) about(name string, a netip.Addr) string {
	switch n := len(e.plan.Addrs); {
	case n > families(e.plan.Addrs):
		return name + " " + a.String()
	case n > 1:
		return name + " " + snapshot.FamilyOf(a).String()
	}
	return name
}

// families counts those that addresses have.
func families(addrs []netip.Addr) int {
	seen := map[snapshot.Family]bool{}
	for _, a := range addrs {
		seen[snapshot.FamilyOf(a)] = true
	}
	return len(seen)
}

// announced tells who announces a, by the agents' own word.
func (e *explaining) announced(a netip.Addr) {
	name := e.about("announcer", a)
	by := e.Announcers(a)
	owner := e.Owner(a)
	if len(by) == 0 {
		next, why := e.silence(a, owner)
		e.fail(name, next, "nobody announces %s%s", a, why)
		return
	}
	var says []string
	nodes := map[string]bool{}
	for _, s := range by {
		on := "by BGP to " + cluster.Count(s.Peers, "peer")
		if s.Link != "" {
			on = "on " + s.Link
		}
		if s.MAC != "" {
			on += " (" + s.MAC + ")"
		}
		verb := "announces"
		if s.Leaving {
			verb = "hands over"
		} else {
			nodes[s.Agent.Node] = true
		}
		says = append(says, fmt.Sprintf("%s %s %s %s, said so %s ago", s.Agent.Node, verb, a, on, cluster.Ago(e.Now, s.Agent.Renewed)))
	}
	text := strings.Join(says, "; ")
	bound := slices.ContainsFunc(by, func(s cluster.Says) bool { return s.Link != "" })
	if len(nodes) > 1 && bound {
		e.fail(name, "look again in a few seconds: while an address moves, two nodes may announce it; if it stays, see FL0208 in docs/troubleshooting.md", "%s", text)
		return
	}
	switch {
	case owner != nil && owner.Reason == announcer.NoEndpoint:
		text += "; it is to withdraw it, for there is no endpoint"
	case owner != nil && owner.Owner != "" && bound && !nodes[owner.Owner]:
		text += "; " + owner.Owner + " is to take it over"
	}
	e.ok(name, "%s", text)
}

// silence says why nobody announces a, and what to do.
func (e *explaining) silence(a netip.Addr, owner *announcer.Refused) (next, why string) {
	switch {
	case owner == nil:
		return "look at it again in a few seconds", ""
	case owner.Owner == "":
		next := "see the endpoints and the nodes above"
		if owner.Reason == announcer.AddressConflict {
			next = "find the foreign host by its MAC address and take the address from it, or give the Service another address"
		}
		return next, ". " + owner.String()
	}
	next = "look at it again in a few seconds; if it stays, read the agent's log: " + e.Logs("agent", owner.Owner)
	why = ": node " + owner.Owner + " is elected and has not said so yet"
	if ag := e.NodeState(owner.Owner); ag != nil {
		for _, r := range ag.Refused {
			if r.Addr == a {
				why = fmt.Sprintf(": node %s is elected, and says %s", owner.Owner, r.Refusal)
			}
		}
	}
	return next, why
}

// engine tells of every node whether it forwards what it should.
func (e *explaining) engine() {
	step := Step{Name: "engine", Mark: OK}
	good := 0
	for _, n := range e.Nodes {
		d := Step{Name: n.Name, Mark: OK}
		switch a := e.NodeState(n.Name); {
		case a == nil:
			d.Mark, d.Text = Failed, "no agent"
		case e.Silent(a):
			d.Mark, d.Text = Failed, fmt.Sprintf("its agent is silent; it wrote its NodeState last %s ago", cluster.Ago(e.Now, a.Renewed))
		case !a.InSync:
			d.Mark, d.Text = Failed, "not in sync: "+a.Engine.Message
		case !cluster.Forwards(a) && a.Engine.Mode != "":
			good++
			d.Text = byAnother(a)
		default:
			good++
			d.Text = fmt.Sprintf("%s in sync, %s, %s", a.Engine.Mode, cluster.Count(a.Engine.Services, "Service"), cluster.Count(a.Engine.Endpoints, "endpoint"))
		}
		step.Details = append(step.Details, d)
	}
	step.Text = fmt.Sprintf("in sync on %d of %s", good, cluster.Count(len(e.Nodes), "node"))
	if good == 0 {
		step.Mark, step.Next = Failed, "kubectl -n "+e.Namespace+" get pods -l app.kubernetes.io/component=agent -o wide, then fairlead doctor"
	}
	e.add(step)
}

// byAnother says who forwards Services on a node instead of fairlead, and how its agent knows.
func byAnother(a *snapshot.NodeState) string {
	if c := a.Conditions["ServiceProxy"]; c.Reason != "" {
		return c.Message
	}
	return a.Engine.Mode + " forwards Services"
}

func (e *explaining) policy() {
	nowhere := func(ep snapshot.Endpoint) bool { return ep.Ready && ep.Node == "" }
	if e.svc.ExternalTrafficPolicy == snapshot.PolicyLocal && slices.ContainsFunc(e.svc.Endpoints, nowhere) {
		e.note("policy", "externalTrafficPolicy Local: some endpoints are on no node that their EndpointSlice names. Every node takes connections to them, and they see a node's address; the pods of nodes see the clients' addresses")
		return
	}
	if e.svc.ExternalTrafficPolicy == snapshot.PolicyLocal {
		e.note("policy", "externalTrafficPolicy Local: only nodes with a ready endpoint take connections, and the pods see the clients' addresses")
		return
	}
	if e.Snapshot.Forwarding(e.svc.Ref) == snapshot.Direct {
		e.note("policy", "externalTrafficPolicy Cluster: every node takes connections")
		return
	}
	e.note("policy", "externalTrafficPolicy Cluster: every node takes connections, and the pods see a node's address instead of the client's")
}

// connections tells what the Service's annotations say of its connections.
func (e *explaining) connections() {
	if e.svc.AllPorts {
		e.note("affinity", "a client has one pod at all ports of the Service, as the annotation %s says", snapshot.AnnotationAffinity)
	}
	if e.svc.KeepsPorts {
		e.note("source ports", "kept where a connection is masqueraded, if they are free, as the annotation %s says", snapshot.AnnotationSourcePorts)
	}
	if e.svc.Helper != "" {
		e.note("helper", "%s: connections that belong to another one of that protocol reach the same pod, as the annotation %s says", e.svc.Helper, snapshot.AnnotationHelper)
	}
	if e.svc.ResetsRemoved {
		e.note("connections", "open ones to an endpoint that the Service no longer has are reset, as the annotation %s says", snapshot.AnnotationRemoved)
	}
}

// sources tells who may connect.
func (e *explaining) sources() {
	var bad []string
	for _, r := range e.svc.SourceRanges {
		if _, ok := snapshot.ParsePrefix(strings.TrimSpace(r)); !ok {
			bad = append(bad, r)
		}
	}
	switch {
	case len(bad) > 0:
		e.fail("sources", "write them as CIDRs, such as 192.0.2.0/24: "+e.kubectl("edit service %s", e.svc.Name),
			"spec.loadBalancerSourceRanges has entries that are not CIDRs and let nobody in: %s", strings.Join(bad, ", "))
	case len(e.svc.SourceRanges) > 0:
		e.note("sources", "only %s may connect (spec.loadBalancerSourceRanges)", strings.Join(e.svc.SourceRanges, ", "))
	default:
		e.ok("sources", "everybody may connect")
	}
}

// nodePorts tells what nodes could not do for the Service's ports.
func (e *explaining) nodePorts() {
	for _, n := range e.NodeStates {
		for _, p := range n.Problems {
			if p.Service == e.svc.Ref && !ofEgress(p) {
				e.fail("node ports", "free the port on node "+n.Node+", or change the Service's node port: "+e.kubectl("edit service %s", e.svc.Name),
					"node %s: %s: %s", n.Node, p.Reason, p.Message)
			}
		}
	}
}
