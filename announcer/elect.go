package announcer

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// mostHeirs is how many nodes after the owner a Plan names for each address.
const mostHeirs = 2

// election is what the elections of all addresses have in common. It looks at
// each node and each Announcement once, not once for each address.
type election struct {
	in    Input
	nodes []contender
	rules []rule
	// ranking returns indexes into nodes, the best hash for addr first.
	ranking         func(addr netip.Addr) []uint16
	ready, draining []int                // of winners
	stayers         map[netip.Addr][]int // the contenders that say that they stay with an address
	// holdings returns the addresses that a Service holds, sorted.
	holdings func(snapshot.Ref) []*snapshot.Address
	apart    bool // every node knows of siblings
}

// contender is one node.
type contender struct {
	*snapshot.Node
	state *snapshot.Electable
	unfit string              // why no address can elect it, in words that follow its name; "" if one may
	lacks map[netip.Addr]bool // Input.Lacks
	// announces is what others say of an address that it owns.
	announces string
}

// rule is one Announcement: its effect on each contender, by index.
type rule struct {
	*snapshot.Announcement
	selects []bool
	weight  []int // nil if it prefers no node
}

// newElection looks at the nodes and Announcements of in.
func newElection(in Input) *election {
	e := &election{in: in, nodes: make([]contender, 0, len(in.Snapshot.Nodes))}
	for _, n := range in.Snapshot.Nodes {
		st := in.state(n.Name)
		e.nodes = append(e.nodes, contender{Node: n, state: st, unfit: in.unfit(n, st), lacks: in.Lacks[n.Name], announces: "node " + n.Name + " announces it"})
	}
	for _, an := range in.Snapshot.Announcements {
		e.rules = append(e.rules, newRule(an, in.Snapshot.Nodes))
	}
	e.stayers = stayers(e.nodes)
	e.apart = !slices.ContainsFunc(e.nodes, func(c contender) bool { return c.unfit == "" && c.state.Protocol < Protocol })
	e.holdings = holdings(in.Snapshot)
	e.ranking = func(addr netip.Addr) []uint16 { return ranked(in.Snapshot.Nodes, addr) }
	return e
}

func newRule(an *snapshot.Announcement, nodes []*snapshot.Node) rule {
	r := rule{Announcement: an, selects: make([]bool, len(nodes))}
	if len(an.PreferredNodes) > 0 {
		r.weight = make([]int, len(nodes))
	}
	for i, n := range nodes {
		r.selects[i] = an.NodeSelector.Matches(n.Labels)
		for _, p := range an.PreferredNodes {
			if p.Selector.Matches(n.Labels) {
				r.weight[i] += p.Weight
			}
		}
	}
	return r
}

// unfit says why n can be elected for no address at all, in words that follow
// its name. It returns "" if n can be elected.
func (in Input) unfit(n *snapshot.Node, st *snapshot.Electable) string {
	switch {
	case st == nil:
		return "has no agent that anybody has heard"
	case !in.Alive[n.Name]:
		return "has an agent that is silent, or has not been healthy for long enough"
	case !st.InSync:
		return "has an engine that does not hold everything it should"
	case !n.Ready && !n.ShuttingDown: // which drains: see Announcement.spec.drainOn
		return "is NotReady"
	case n.NetworkUnavail:
		return "has no network (condition NetworkUnavailable)"
	case n.Excluded():
		return "has the label " + ExcludeLabel
	}
	return ""
}

// state returns what the node's agent says of it, the freshest word first; nil
// if nothing was ever heard.
func (in Input) state(node string) *snapshot.Electable {
	if node == in.Node {
		return &in.Self
	}
	if st, ok := in.Others[node]; ok {
		return &st
	}
	if st := in.Snapshot.NodeState(node); st != nil {
		return &st.Electable
	}
	return nil
}

// ballot is the election for one address.
type ballot struct {
	*election
	addr     *snapshot.Address
	services []*snapshot.Service
	rules    []*rule // over layer 2, for the address and all its Services
	selected bool    // an Announcement selects the pool: links are no longer chosen by prefix alone
	weighted bool    // one of rules prefers nodes
	local    []local // for each Service with externalTrafficPolicy Local
	enough   int     // of these Services have endpoints on the node that is elected
}

// local names the nodes that have a usable endpoint of a Service.
type local struct {
	nodes map[string]bool // "" stands for all nodes: see usable
	unfit string          // what to say of the other nodes
}

func (e *election) ballot(a *snapshot.Address, svcs []*snapshot.Service) ballot {
	b := ballot{election: e, addr: a, services: svcs}
	var pool map[string]string
	if p := e.in.Snapshot.Pool(a.Pool); p != nil {
		pool = p.Labels
	}
	for i := range e.rules {
		r := &e.rules[i]
		if !r.PoolSelector.Matches(pool) {
			continue
		}
		b.selected = true
		other := func(svc *snapshot.Service) bool { return !r.ServiceSelector.Matches(svc.Labels) }
		// An address has one owner: a holder that the selector leaves out would be moved too (spec 47).
		if r.L2 && !slices.ContainsFunc(svcs, other) {
			b.rules, b.weighted = append(b.rules, r), b.weighted || r.weight != nil
		}
	}
	for _, svc := range svcs {
		if svc.ExternalTrafficPolicy == snapshot.PolicyLocal {
			unfit := "has no ready endpoint of " + svc.Ref.String() + ", whose externalTrafficPolicy is Local"
			b.local = append(b.local, local{endpointNodes(svc, a.Addr), unfit})
		}
	}
	if b.enough = len(b.local); b.enough > 1 {
		b.enough = b.most()
	}
	return b
}

// serves returns of how many Services with policy Local the contender at i has endpoints.
func (b *ballot) serves(i int) (n int) {
	for _, l := range b.local {
		if l.nodes[b.nodes[i].Name] || l.nodes[""] {
			n++
		}
	}
	return n
}

// most returns of how many Services with policy Local a contender has endpoints that could
// be elected otherwise: all, unless the pods of Services that share the address are on
// different nodes. To serve some of them is better than none.
func (b *ballot) most() int {
	most := 0
	for i, c := range b.nodes {
		if c.unfit == "" && !c.lacks[b.addr.Addr] && c.state.Forwards(b.addr.Addr) && len(b.links(i)) > 0 {
			most = max(most, b.serves(i))
		}
	}
	// With 0 any node would do, and policy Local would drop there what comes from outside.
	return max(most, 1)
}

// unfit says why the contender at i cannot be elected, in words that follow its
// name. It returns "" if it can.
func (b *ballot) unfit(i int) string {
	c := &b.nodes[i]
	switch {
	case c.unfit != "":
		return c.unfit
	case c.lacks[b.addr.Addr]:
		return "has an agent that has not heard of the address from the API server"
	}
	return b.unable(i)
}

// unable says why the contender at i cannot forward the address, or not announce it, in
// words that follow its name. It returns "" if it can.
func (b *ballot) unable(i int) string {
	c := &b.nodes[i]
	if !c.state.Forwards(b.addr.Addr) {
		return fmt.Sprintf("does not forward %s, as its NodeState says", snapshot.FamilyOf(b.addr.Addr))
	}
	// With policy Local a node drops what it has no endpoint for (spec 42).
	if b.serves(i) < b.enough {
		for _, l := range b.local {
			if !l.nodes[c.Name] && !l.nodes[""] {
				return l.unfit
			}
		}
	}
	if !slices.ContainsFunc(c.state.Links, func(l snapshot.Link) bool { return b.mayAnnounceOn(i, l) }) {
		return "has no link that the address may be announced on"
	}
	return ""
}

// Able returns a function that reports whether in.Node can forward and announce an
// address, whether or not it is elected.
func (in Input) Able() func(netip.Addr) bool {
	e := newElection(in)
	self := slices.IndexFunc(e.nodes, func(c contender) bool { return c.Name == in.Node })
	may := in.Alive[in.Node] && in.Self.InSync && self >= 0
	return func(addr netip.Addr) bool {
		a := in.Snapshot.Address(addr)
		if !may || a == nil {
			return false
		}
		b := e.ballot(a, holders(in.Snapshot, a))
		// What the node lacks does not count: a node that holds an address has heard of it.
		return b.unable(self) == ""
	}
}

// mayAnnounceOn reports whether the contender at i may announce the address on its link l.
// Without any Announcement that selects the pool it may on every link whose own
// prefix contains the address. With some, the links of those over layer 2 count,
// and a link that is named exactly need not contain the address.
func (b *ballot) mayAnnounceOn(i int, l snapshot.Link) bool {
	if !b.selected {
		return l.Contains(b.addr.Addr)
	}
	return slices.ContainsFunc(b.rules, func(r *rule) bool { return r.selects[i] && onLink(r.Announcement, l, b.addr.Addr) })
}

func onLink(an *snapshot.Announcement, l snapshot.Link, addr netip.Addr) bool {
	if len(an.Interfaces) == 0 {
		return l.Contains(addr)
	}
	for _, pattern := range an.Interfaces {
		// A routed address is in no prefix of a link. An exact name says that it is meant.
		if pattern == l.Name {
			return true
		}
		if ok, err := path.Match(pattern, l.Name); err == nil && ok && l.Contains(addr) {
			return true
		}
	}
	return false
}

// links returns the names of the links on which the contender at i would
// announce the address, sorted.
func (b *ballot) links(i int) []string {
	var out []string
	if st := b.nodes[i].state; st != nil {
		for _, l := range st.Links {
			if b.mayAnnounceOn(i, l) {
				out = append(out, l.Name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// weight is the sum of what Announcements prefer the contender at i by.
func (b *ballot) weight(i int) (sum int) {
	for _, r := range b.rules {
		if r.weight != nil && r.selects[i] {
			sum += r.weight[i]
		}
	}
	return sum
}

// refresh returns how often the contender at i announces the address again: the shortest
// time of its rules; 0 if none has one.
func (b *ballot) refresh(i int) (shortest time.Duration) {
	for _, r := range b.rules {
		if r.selects[i] && r.Refresh > 0 && (shortest == 0 || r.Refresh < shortest) {
			shortest = r.Refresh
		}
	}
	return shortest
}

// winners returns the contenders that can be elected, the owner first and at most most of
// them, until the next call. The owner is the one that stays with the address. Otherwise the
// greatest weight wins, and among those the best rank. Nodes that drain count only if there
// are no others.
func (b *ballot) winners(most int) []int {
	if group := b.siblings(b.addr); group != nil {
		won := b.winnersApart(group)
		return won[:min(most, len(won))]
	}
	return b.winnersAlone(most)
}

// winnersAlone is winners without a look at the Services' other addresses.
func (b *ballot) winnersAlone(most int) []int {
	ready, draining := b.ready[:0], b.draining[:0]
	defer func() { b.election.ready, b.election.draining = ready, draining }()
	for _, at := range b.ranking(b.addr.Addr) {
		i := int(at)
		switch {
		case b.unfit(i) != "":
		case b.drains(i):
			draining = append(draining, i)
		default:
			ready = append(ready, i)
		}
		// Without preferences the ranking is the order: nobody further down wins.
		if !b.weighted && len(ready) == most && b.stayers[b.addr.Addr] == nil {
			return ready
		}
	}
	if len(ready) == 0 {
		ready, draining = draining, ready
	}
	// Stable: nodes of one weight follow the hash, or agents would come to different owners.
	if b.weighted {
		slices.SortStableFunc(ready, func(x, y int) int { return b.weight(y) - b.weight(x) })
	}
	if at := slices.IndexFunc(ready, b.stays); at > 0 {
		stays := ready[at]
		copy(ready[1:], ready[:at])
		ready[0] = stays
	}
	return ready[:min(most, len(ready))]
}

// owner returns who is elected for addr; "" if nobody.
func (e *election) owner(addr netip.Addr) string {
	a := e.in.Snapshot.Address(addr)
	if a == nil {
		return ""
	}
	b := e.ballot(a, holders(e.in.Snapshot, a))
	won, _ := b.elect()
	if len(won) == 0 {
		return ""
	}
	return e.nodes[won[0]].Name
}

// toldReasons is how many nodes a refusal speaks of.
const toldReasons = 8

// noCandidate says why nobody can be elected.
func (b *ballot) noCandidate() string {
	if len(b.nodes) == 0 {
		return "the cluster has no nodes"
	}
	var reasons []string
	for i := range b.nodes[:min(len(b.nodes), toldReasons)] {
		reasons = append(reasons, b.nodes[i].Name+" "+b.unfit(i))
	}
	if n := len(b.nodes); n > toldReasons {
		return fmt.Sprintf("%s; and %d nodes more", strings.Join(reasons, "; "), n-toldReasons)
	}
	return strings.Join(reasons, "; ")
}

// names returns the contenders' names.
func (e *election) names(of []int) []string {
	if len(of) == 0 {
		return nil
	}
	out := make([]string, len(of))
	for i, at := range of {
		out[i] = e.nodes[at].Name
	}
	return out
}

// usable reports whether svc has an endpoint of vip's family that takes new
// connections, on node or, if node is "", anywhere. One whose EndpointSlice names no
// node, a host outside of the cluster for example, counts for every node.
func usable(svc *snapshot.Service, vip netip.Addr, node string) bool {
	return slices.ContainsFunc(svc.Endpoints, func(e snapshot.Endpoint) bool {
		// Nobody announced a Local Service whose endpoint is a host outside of the cluster.
		return (node == "" || e.Node == node || e.Node == "") && takesNew(e, vip)
	})
}

func takesNew(e snapshot.Endpoint, vip netip.Addr) bool {
	// An endpoint that terminates and still serves takes connections while there is no other.
	return (e.Ready || e.Serving) && snapshot.FamilyOf(e.Addr.Addr()) == snapshot.FamilyOf(vip)
}

// endpointNodes returns the nodes that the usable endpoints of svc name.
func endpointNodes(svc *snapshot.Service, vip netip.Addr) map[string]bool {
	out := map[string]bool{}
	for _, e := range svc.Endpoints {
		if takesNew(e, vip) {
			out[e.Node] = true
		}
	}
	return out
}
