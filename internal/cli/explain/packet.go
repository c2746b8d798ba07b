package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/proxy"
)

// Question asks what happens to the first packet of a connection.
type Question struct {
	From     netip.Addr
	Port     uint16 // from which it comes; 0: any
	To       netip.AddrPort
	Protocol snapshot.Protocol
	Node     string // where it arrives; "": where it would
}

func (q Question) String() string {
	from := q.From.String()
	if q.Port != 0 {
		from = netip.AddrPortFrom(q.From, q.Port).String()
	}
	return fmt.Sprintf("%s -> %s/%s", from, q.To, q.Protocol)
}

// following is one Packet under way.
type following struct {
	*explaining
	Question
	out    proxy.Outcome
	inPart bool // the packet may be for a node that packets are not passed on to
}

// Packet follows the packet through the node's table. It fails if there is no
// such node.
func Packet(s *cluster.State, q Question) (*Trace, error) {
	f := &following{Question: q, explaining: &explaining{State: s, svc: &snapshot.Service{}, trace: &Trace{Title: q.String()}}}
	if err := f.arrive(); err != nil {
		return nil, err
	}
	node := s.Node(f.Node)
	opt := s.Options(f.Node)
	table := proxy.Compile(s.Snapshot, f.Node, nodeport.Resolve(node, opt.Own, s.NodePortAddresses), opt)
	f.out = table.Trace(proxy.Packet{Protocol: q.Protocol, Src: q.From, Dst: q.To, FromNode: slices.Contains(node.InternalIPs, q.From)})
	f.forwarder()
	f.rule()
	if f.out.Frontend != nil {
		f.allowed()
		f.endpointsOf()
	}
	f.elsewhere()
	leaves := f.leaves()
	f.finish()
	if leaves && f.trace.Failed() == nil {
		f.trace.Next = "nothing. If there is no answer all the same, ask whether the destination lets that address in"
	}
	return f.trace, nil
}

// arrive finds the node that the packet comes to.
func (f *following) arrive() error {
	asked := f.Node
	inside, how := f.sender()
	by := f.Announcers(f.To.Addr())
	recorded := slices.ContainsFunc(f.Addresses, func(a *snapshot.Address) bool { return a.Addr == f.To.Addr() })
	switch {
	case asked != "" && f.State.Node(asked) == nil:
		return fmt.Errorf("there is no node %q: kubectl get nodes", asked)
	case asked != "":
		f.ok("node", "%s, as asked for", asked)
	case inside != "":
		f.Node = inside
		f.ok("node", "%s, %s", inside, how)
	case f.owner() != "":
		f.Node = f.owner()
		f.ok("node", "%s, whose address %s is", f.Node, f.To.Addr())
	case len(by) > 0:
		f.Node = by[0].Agent.Node
		f.ok("node", "%s, which announces %s, said so %s ago", f.Node, f.To.Addr(), cluster.Ago(f.Now, by[0].Agent.Renewed))
		return nil
	case len(f.Nodes) == 0:
		return fmt.Errorf("the cluster has no nodes")
	case recorded:
		f.Node = f.Nodes[0].Name
		f.fail("node", "find out why: fairlead explain "+f.holder(), "nobody announces %s: no packet from outside arrives. What follows is what %s would do", f.To.Addr(), f.Node)
	default:
		f.Node = f.Nodes[0].Name
		f.note("node", "%s: any other would do the same but for endpoints of its own", f.Node)
	}
	if asked != "" && inside == "" && len(by) > 0 && !slices.ContainsFunc(by, func(s cluster.Says) bool { return s.Agent.Node == asked }) {
		f.note("announcer", "%s announces %s: packets from outside arrive there, not at %s", by[0].Agent.Node, f.To.Addr(), asked)
	}
	return nil
}

// holder is a Service that holds the address that is asked for.
func (f *following) holder() string {
	for _, a := range f.Addresses {
		if a.Addr == f.To.Addr() && len(a.Holders) > 0 {
			return a.Holders[0].Ref.String()
		}
	}
	return "NAMESPACE/SERVICE"
}

// sender is the node that the packet comes from, and what shows it; "" if it comes from
// outside. A CNI may give out an address of one node's podCIDRs on another node, so
// routes come first.
func (f *following) sender() (node, how string) {
	all := f.LocalPods()
	for _, n := range f.Nodes {
		known := all[n.Name]
		switch {
		case slices.Contains(n.InternalIPs, f.From):
			return n.Name, fmt.Sprintf("whose address %s is", f.From)
		case slices.Contains(known.Routes, f.From):
			return n.Name, fmt.Sprintf("which has a route to %s over a link of a pod", f.From)
		case slices.Contains(known.Endpoints, f.From):
			return n.Name, fmt.Sprintf("where EndpointSlices place %s", f.From)
		}
	}
	for _, n := range f.Nodes {
		if slices.ContainsFunc(n.PodCIDRs, func(p netip.Prefix) bool { return p.Contains(f.From) }) {
			return n.Name, fmt.Sprintf("where %s is", f.From)
		}
	}
	return "", ""
}

// owner is the node whose own address is asked for.
func (f *following) owner() string {
	if a := f.NodeAddress(f.To.Addr()); a != nil { // it may be an ExternalIP
		return a.Node
	}
	for _, n := range f.Nodes {
		if slices.Contains(n.InternalIPs, f.To.Addr()) {
			return n.Name
		}
	}
	return ""
}

func (f *following) forwarder() {
	a := f.NodeState(f.Node)
	doctor := "fairlead doctor"
	switch {
	case a == nil && f.FromFiles:
	case a == nil:
		f.fail("engine", doctor, "node %s has no agent", f.Node)
	case f.Silent(a):
		f.note("engine", "the agent of %s is silent, and wrote its NodeState last %s ago: its kernel may hold an older table", f.Node, cluster.Ago(f.Now, a.Renewed))
	case !a.InSync:
		f.fail("engine", doctor, "the engine of %s does not hold what follows yet: %s", f.Node, a.Engine.Message)
	case a.Engine.Mode != "nftables":
		f.note("engine", "on %s %s. What follows is what fairlead would do", f.Node, byAnother(a))
	default:
		f.ok("engine", "%s of %s is in sync", a.Engine.Mode, f.Node)
	}
}

// rule is what in the table takes the packet.
func (f *following) rule() {
	fr := f.out.Frontend
	if fr != nil && fr.Ranged() {
		f.ok("rule", "the range of ports %s of Service %s: the packet keeps its port", rangeWith(fr.Ranges, f.To.Port()), fr.Service)
		return
	}
	if fr != nil {
		f.ok("rule", "%s of Service %s", fr.Key, fr.Service)
		return
	}
	if f.out.Verdict == proxy.Forward {
		f.note("rule", "none: %s is %s. The packet goes on as any other", f.To, f.out.Why)
		return
	}
	f.fail("rule", "ask for a port that the Service has: kubectl get service -A", "none for port %d/%s: %s, so it is %s", f.To.Port(), f.Protocol, f.out.Why, past(f.out.Verdict))
}

// rangeWith prints the range that has the port.
func rangeWith(ranges []snapshot.PortRange, port uint16) string {
	for _, r := range ranges {
		if r.Contains(port) {
			return r.String()
		}
	}
	return ""
}

func past(v proxy.Verdict) string {
	return map[proxy.Verdict]string{proxy.Forward: "forwarded", proxy.Reject: "rejected", proxy.Drop: "dropped"}[v]
}

func (f *following) allowed() {
	fr := f.out.Frontend
	switch {
	case fr.Sources == nil:
		f.ok("sources", "everybody may connect")
	case slices.ContainsFunc(fr.Sources, func(p netip.Prefix) bool { return p.Contains(f.From) }):
		f.ok("sources", "%s is in spec.loadBalancerSourceRanges", f.From)
	default:
		f.fail("sources", fmt.Sprintf("add the client to spec.loadBalancerSourceRanges: kubectl -n %s edit service %s", fr.Service.Namespace, fr.Service.Name),
			"%s is in none of %v (spec.loadBalancerSourceRanges): the packet is dropped", f.From, fr.Sources)
	}
}

// endpointsOf tells where it may go and whether the pod sees the client.
func (f *following) endpointsOf() {
	if f.trace.Failed() != nil && f.out.Verdict != proxy.Forward && f.out.Why != "no endpoint" {
		return
	}
	fr := f.out.Frontend
	endpoints, directed := f.directed()
	if directed {
		f.out.Endpoints = endpoints
	}
	if len(f.out.Endpoints) == 0 {
		text := "none is ready"
		if f.out.Verdict == proxy.Drop {
			text = "none is ready on " + f.Node + ", and the Service's traffic policy is Local"
		}
		f.fail("endpoints", "fairlead explain "+fr.Service.String(), "%s: the packet is %s", text, past(f.out.Verdict))
		return
	}
	step := Step{Name: "endpoints", Mark: OK, Text: "goes to one of " + cluster.Count(len(f.out.Endpoints), "endpoint")}
	if len(f.out.Endpoints) == 1 {
		step.Text = "goes to the one endpoint"
	}
	switch {
	case fr.AllPorts:
		step.Text += ", the same for all ports of the Service (" + snapshot.AnnotationAffinity + ")"
	case fr.Affinity > 0:
		step.Text += fmt.Sprintf(", the same for %s (sessionAffinity)", fr.Affinity)
	}
	for _, ep := range f.out.Endpoints {
		step.Details = append(step.Details, Step{Name: ep.String(), Mark: OK, Text: "on " + f.nodeOf(fr.Service, ep)})
	}
	f.add(step)
	switch {
	case directed && f.inPart:
		f.note("source", "kept, and the pod's node answers %s directly, unless %s translates: then the pod sees an address of that", f.From, f.Node)
	case directed:
		f.ok("source", "kept: the pod sees %s, and its node answers it directly", f.From)
	case f.out.Masquerade:
		f.note("source", "the pod sees an address of %s instead of %s", f.Node, f.From)
	case f.out.Hairpin:
		f.note("source", "kept, except for the endpoint that is the client itself, which sees an address of %s", f.Node)
	default:
		f.ok("source", "kept: the pod sees %s", f.From)
	}
	if f.direct() {
		f.note("ebpf", "unless the client opted out, its socket is connected to the endpoint directly: nothing comes to this rule, and the pod sees %s", f.From)
	}
}

// direct reports whether eBPF may connect the sender's socket before there is a packet.
func (f *following) direct() bool {
	a := f.NodeState(f.Node)
	return a != nil && a.Engine.Accelerator.On() && f.out.Frontend.Sources == nil && f.Protocol != snapshot.SCTP && f.LocalPods()[f.Node].Has(f.From)
}

func (f *following) nodeOf(ref snapshot.Ref, ep netip.AddrPort) string {
	if svc := f.Service(ref); svc != nil {
		for _, e := range svc.Endpoints {
			same := e.Addr == ep || f.out.Frontend.Ranged() && e.Addr.Addr() == ep.Addr()
			if same && e.Node != "" {
				return e.Node
			}
		}
	}
	return "a node that its EndpointSlice does not name"
}

func (f *following) finish() {
	t := f.trace
	eps := make([]string, len(f.out.Endpoints))
	for i, e := range f.out.Endpoints {
		eps[i] = e.String()
	}
	t.Verdict = fmt.Sprintf("%s: %s (%s).", f.Question, past(f.out.Verdict), f.out.Why)
	if len(eps) > 0 {
		t.Verdict = fmt.Sprintf("%s: forwarded to %s.", f.Question, strings.Join(eps, " or "))
	}
	if bad := t.Failed(); bad != nil {
		t.Next = bad.Next
		return
	}
	t.Next = "nothing. If there is no answer all the same, look at the pod: does it listen there, and does a NetworkPolicy let the source in?"
	if f.out.Frontend == nil {
		t.Next = "compare the address with those of the Services: kubectl get service -A"
	}
}
