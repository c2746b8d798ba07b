package cluster

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/history"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// State is a cluster as it was at Now, by the API server's clock. Its NodeStates are
// whole: they have what people read too. What the nodes say is put together once, so a
// State is not changed after the first question, and it is not copied.
type State struct {
	*snapshot.Snapshot
	together
	Now       time.Time
	FromFiles bool // from manifests: there are no processes to ask

	Allocation        allocator.Options // of the controller
	Forwarding        proxy.Options     // of the agents
	NodePortAddresses []netip.Prefix    // of the agents; none: primary addresses
	Localhost         bool              // their node ports answer at loopback addresses

	Namespace   string // of fairlead's pods; "" if there are none
	PodSecurity string // its label pod-security.kubernetes.io/enforce
	Pods        []Pod  // of fairlead, by component and name
	Leader      Leader
	Peers       []Peer // by name
	KubeProxy   KubeProxy
	Others      []Other         // other software that gives addresses to Services, by name
	Permissions []Permission    // that fairlead's accounts lack; see Gaps if they could not be asked for
	Gaps        []Gap           // what could not be read
	Records     []Record        // when the records were made
	Workloads   []Workload      // pods that run with an address of their own, as far as they were asked for
	History     []history.Entry // what happened, oldest first, as far as the controller recorded it
}

// Workload is a pod of somebody's that runs.
type Workload struct {
	snapshot.Ref
	Node    string
	IPs     []netip.Addr
	Started time.Time // by the kubelet
}

// Pod is one of fairlead's pods.
type Pod struct {
	Component string // controller or agent
	Name      string
	Node      string
	Image     string
	Ready     bool
	Restarts  int
	Waiting   string // why its container does not run; "" if it does
	Exited    string // how its container ended last; "" if it never did
	Health    int    // port on which it answers from outside its node; 0 if none
}

// Leader is who holds the controllers' Lease.
type Leader struct {
	Holder  string // "" if nobody
	Renewed time.Time
	Lasts   time.Duration // after Renewed
}

// Peer is one BGPPeer.
type Peer struct {
	Name    string
	Address string
	Port    int // that the nodes connect to; 0 if the router connects
	ASN     int64
	Ready   snapshot.Condition // zero if nobody said anything
}

// KubeProxy is what runs of Kubernetes' own proxy.
type KubeProxy struct {
	Runs      bool
	Mode      string // iptables, ipvs or nftables; "" if it could not be read
	StrictARP bool
	// NodePortAddresses are the CIDRs of its configuration; none: its default.
	NodePortAddresses []string
	Localhost         bool     // node ports answer at 127.0.0.1
	Scheduler         string   // of IPVS; "" if it has none
	Settings          []string // kernel settings that it was told to make, beyond its defaults
}

// Other is another controller that gives addresses to Services.
type Other struct {
	Name   string // such as MetalLB
	Object string // kind, namespace and name of what was found
}

// Permission is one thing that one of fairlead's ServiceAccounts may not do.
type Permission struct {
	Account  string
	Verb     string
	Resource string
}

// Gap is something that could not be read.
type Gap struct {
	What string
	Why  string
}

// Record is when the record of an address was made.
type Record struct {
	Addr    netip.Addr
	Created time.Time
}

// Made returns when the record of addr was made; zero if there is none.
func (s *State) Made(addr netip.Addr) time.Time {
	for _, c := range s.Records {
		if c.Addr == addr {
			return c.Created
		}
	}
	return time.Time{}
}

// SilentAfter is how long an agent may leave its NodeState as it is before it
// counts as silent here, whatever the others say: two renewals.
const SilentAfter = 3*snapshot.RenewEvery + time.Minute

// overdue reports whether the agent of a has not renewed its NodeState for SilentAfter.
func (s *State) overdue(a *snapshot.NodeState) bool {
	return !s.FromFiles && s.Now.Sub(a.Renewed) > SilentAfter
}

// Silent reports whether the agent of a does not run: it does not write its NodeState, or
// the other agents do not hear it and it does not say so itself.
func (s *State) Silent(a *snapshot.NodeState) bool {
	return s.overdue(a) || s.Unheard(a) && !s.CutOff(a)
}

// Unheard reports whether the other agents do not hear that of a.
func (s *State) Unheard(a *snapshot.NodeState) bool {
	return announcer.Believed(len(s.SilentTo(a.Node)), len(s.NodeStates)-1)
}

// CutOff reports whether the agent of a runs, although others do not hear it: it says the
// same of them, or that it never met any. The network is what is wrong.
func (s *State) CutOff(a *snapshot.NodeState) bool {
	by := s.SilentTo(a.Node)
	mutual := func(m snapshot.Silent) bool { return slices.Contains(by, m.Node) }
	return slices.ContainsFunc(a.Silent, mutual) || a.Conditions["Members"].Reason == "NotMet"
}

// Election is what an election among the nodes reads, seen from outside.
func (s *State) Election() announcer.Input {
	in := announcer.Input{Snapshot: s.Snapshot, Alive: map[string]bool{}}
	for _, a := range s.NodeStates {
		in.Alive[a.Node] = !s.overdue(a) && !s.Unheard(a)
	}
	return in
}

// Says is one agent's word that it announces an address.
type Says struct {
	Agent *snapshot.NodeState
	snapshot.Announced
}

// Logs is the command that shows the log of a component, of its pod on node if
// there is one.
func (s *State) Logs(component, node string) string {
	for _, p := range s.PodsOf(component) {
		if p.Node == node {
			return "kubectl -n " + s.Namespace + " logs " + p.Name
		}
	}
	return "kubectl -n " + s.Namespace + " logs -l app.kubernetes.io/component=" + component
}

// LookAt is the command that looks at a node from within.
func (s *State) LookAt(node string) string {
	for _, p := range s.PodsOf("agent") {
		if p.Node == node && p.Ready {
			return "kubectl -n " + s.Namespace + " exec " + p.Name + " -- /fairlead doctor --node"
		}
	}
	return "on the node, as root: fairlead doctor --node"
}

// ByBGP reports whether an Announcement over BGP selects the pool of addr.
func (s *State) ByBGP(addr netip.Addr) bool {
	i := slices.IndexFunc(s.Addresses, func(a *snapshot.Address) bool { return a.Addr == addr })
	if i < 0 {
		return false
	}
	var labels map[string]string
	if p := s.Pool(s.Addresses[i].Pool); p != nil {
		labels = p.Labels
	}
	return slices.ContainsFunc(s.Announcements, func(a *snapshot.Announcement) bool { return a.BGP != nil && a.PoolSelector.Matches(labels) })
}

// SessionsWith returns every node's session with a peer, and how many are
// established.
func (s *State) SessionsWith(peer string) (all []snapshot.PeerState, established int) {
	for _, a := range s.Heard() {
		for _, p := range a.Peers {
			if p.Name != peer {
				continue
			}
			all = append(all, p)
			if p.Established() {
				established++
			}
		}
	}
	return all, established
}

// PodsOf returns the pods of one component.
func (s *State) PodsOf(component string) []Pod {
	return slices.DeleteFunc(slices.Clone(s.Pods), func(p Pod) bool { return p.Component != component })
}
