package cluster

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// State is a cluster as it was at Now, by the API server's clock.
type State struct {
	*snapshot.Snapshot
	Now       time.Time
	FromFiles bool // from manifests: there are no processes to ask

	Allocation        allocator.Options // of the controller
	Forwarding        proxy.Options     // of the agents
	NodePortAddresses []netip.Prefix    // of the agents; none: primary addresses

	Namespace   string // of fairlead's pods; "" if there are none
	PodSecurity string // its label pod-security.kubernetes.io/enforce
	Pods        []Pod  // of fairlead, by component and name
	Leader      Leader
	Agents      []Agent // by node
	Peers       []Peer  // by name
	KubeProxy   KubeProxy
	Others      []Other      // other software that gives addresses to Services, by name
	Permissions []Permission // that fairlead's accounts lack; see Gaps if they could not be asked for
	Gaps        []Gap        // what could not be read
	Records     []Record     // when the records were made
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

// Agent is what a node's agent says in its NodeState.
type Agent struct {
	Node       string
	Version    string
	Renewed    time.Time // by the node's clock
	Mode       string
	Before     string // what accelerates it: ebpf; "" if nothing does
	Slow       string // why nothing does, or what it leaves to the engine
	InSync     bool
	Message    string
	Draining   bool
	Services   int
	Endpoints  int
	Announces  []Announced
	Refused    []Refused
	Unheard    []Unheard // the other agents that it does not hear
	Sessions   []Session // with BGP peers, by name
	Conditions map[string]snapshot.Condition
}

// Announced is one address that an agent announces. Link is "" for BGP.
type Announced struct {
	Addr  netip.Addr
	Link  string
	MAC   string
	Peers int // BGP sessions over which it is announced
	Since time.Time
	// Leaving: another node announces it already, and this one hands it over.
	Leaving bool
}

// Session is a node's BGP session with one peer.
type Session struct {
	Peer     string
	Address  string
	State    string // RFC 4271 section 8.2.2, or Refused
	Error    string // why it is not established
	Prefixes int
	BFD      string // "" if it is not asked for
}

// Established tells whether routes are exchanged.
func (s Session) Established() bool { return s.State == "Established" }

// Unheard is one agent's verdict on another that it does not hear.
type Unheard struct {
	Node        string
	Verdict     string // agent-gone or node-gone
	Quarantined bool   // its endpoints take no connection
}

// Refused is one address that an agent decided not to announce.
type Refused struct {
	Addr netip.Addr
	snapshot.Refusal
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
// counts as silent here: four renewals.
const SilentAfter = 40 * time.Second

// Agent returns what the agent of node says, or nil.
func (s *State) Agent(node string) *Agent {
	i, ok := slices.BinarySearchFunc(s.Agents, node, func(a Agent, n string) int { return strings.Compare(a.Node, n) })
	if !ok {
		return nil
	}
	return &s.Agents[i]
}

// Silent tells whether a has not renewed its NodeState for SilentAfter.
func (s *State) Silent(a *Agent) bool {
	return !s.FromFiles && s.Now.Sub(a.Renewed) > SilentAfter
}

// Election is what an election among the nodes reads, seen from outside.
func (s *State) Election() announcer.Input {
	in := announcer.Input{Snapshot: s.Snapshot, Alive: map[string]bool{}}
	for i := range s.Agents {
		a := &s.Agents[i]
		unheard, all := s.Unheard(a.Node)
		in.Alive[a.Node] = !s.Silent(a) && 2*len(unheard) <= all
	}
	return in
}

// Unheard returns which other agents say that they do not hear node, and how
// many others there are to ask.
func (s *State) Unheard(node string) (by []string, all int) {
	for i := range s.Agents {
		a := &s.Agents[i]
		if a.Node == node || s.Silent(a) {
			continue
		}
		all++
		if slices.ContainsFunc(a.Unheard, func(u Unheard) bool { return u.Node == node }) {
			by = append(by, a.Node)
		}
	}
	return by, all
}

// Owners elects for every address that is held: who is to announce it, or why
// nobody can.
func (s *State) Owners() []announcer.Refused { return announcer.Decide(s.Election()).Refused }

// Owner is Owners for one address; nil if nobody holds it.
func (s *State) Owner(addr netip.Addr) *announcer.Refused {
	for _, r := range s.Owners() {
		if r.Addr == addr {
			return &r
		}
	}
	return nil
}

// Says is one agent's word that it announces an address.
type Says struct {
	*Agent
	Announced
}

// Announcers returns who says that it announces addr and is still heard of.
func (s *State) Announcers(addr netip.Addr) []Says {
	var out []Says
	for i := range s.Agents {
		a := &s.Agents[i]
		if s.Silent(a) {
			continue
		}
		for _, v := range a.Announces {
			if v.Addr == addr {
				out = append(out, Says{a, v})
			}
		}
	}
	return out
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

// ByBGP tells whether an Announcement over BGP selects the pool of addr.
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
func (s *State) SessionsWith(peer string) (all []Session, established int) {
	for i := range s.Agents {
		if s.Silent(&s.Agents[i]) {
			continue
		}
		for _, v := range s.Agents[i].Sessions {
			if v.Peer != peer {
				continue
			}
			all = append(all, v)
			if v.Established() {
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
