package observe

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Observed is what the NodeStates of a Snapshot mean together with its other
// objects.
type Observed struct {
	NodesGone []string                            // nodes that most of the others call gone, sorted
	Addresses map[netip.Addr]Address              // every address that has a record or that a node speaks of
	Standings map[Standing]int                    // how many addresses that Services hold stand so
	Peers     map[string]snapshot.Condition       // Ready, of every BGPPeer by name
	Problems  map[snapshot.Ref]snapshot.Condition // fairlead.io/NodePorts, of every Service that a node has a problem with
}

// Observe reads the NodeStates in the order of their names, at now.
func Observe(s *snapshot.Snapshot, now time.Time) Observed {
	lost := nodesGone(s)
	addresses := addresses(s, lost, now)
	return Observed{
		NodesGone: lost, Addresses: addresses, Standings: standings(s, addresses), Peers: peers(s, lost), Problems: problems(s),
	}
}

// nodesGone returns the nodes that enough of the others call gone: what such a node last
// said of itself is history. One node's word is not enough, because a node that is
// cut off says so of all others.
func nodesGone(s *snapshot.Snapshot) []string {
	votes, others := map[string]int{}, len(s.NodeStates)-1
	for _, st := range s.NodeStates {
		if cutOff(st, others) {
			continue
		}
		for _, m := range st.Silent {
			if gone(m) {
				votes[m.Node]++
			}
		}
	}
	var out []string
	for _, node := range slices.Sorted(maps.Keys(votes)) {
		if announcer.Believed(votes[node], others) {
			out = append(out, node)
		}
	}
	return out
}

// cutOff reports whether the node of st calls most of the others gone, where only the
// witnesses of each are asked. A few nodes that are cut off together are all witnesses
// that they have, and would outvote the rest.
func cutOff(st *snapshot.NodeState, others int) bool {
	n := 0
	for _, m := range st.Silent {
		if gone(m) {
			n++
		}
	}
	return others > announcer.Witnesses && 2*n > others
}

// String prints what was observed, a line each, sorted.
func (o Observed) String() string {
	var b strings.Builder
	if len(o.NodesGone) > 0 {
		fmt.Fprintf(&b, "lost %s\n", strings.Join(o.NodesGone, " "))
	}
	for _, addr := range slices.SortedFunc(maps.Keys(o.Addresses), netip.Addr.Compare) {
		fmt.Fprintf(&b, "address %s %s: %s\n", addr, o.Addresses[addr].Standing, line(o.announced([]netip.Addr{addr})))
		for _, ref := range o.Addresses[addr].Without {
			fmt.Fprintf(&b, "without %s: %s\n", ref, line(o.Announced(ref, []netip.Addr{addr})))
		}
		if f := o.Addresses[addr].Finding; f != (snapshot.Finding{}) {
			fmt.Fprintf(&b, "found of %s:%s\n", addr, words(f))
		}
	}
	for _, st := range Standings {
		if n := o.Standings[st]; n > 0 {
			fmt.Fprintf(&b, "held %s: %d\n", st, n)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Peers)) {
		fmt.Fprintf(&b, "peer %s: %s\n", name, line(o.Peers[name]))
	}
	for _, ref := range slices.SortedFunc(maps.Keys(o.Problems), snapshot.Ref.Compare) {
		fmt.Fprintf(&b, "service %s: %s\n", ref, line(o.Problems[ref]))
	}
	return b.String()
}

// words prints what is found.
func words(f snapshot.Finding) string {
	out := ""
	if !f.ProbedAt.IsZero() {
		out += " probed=" + f.ProbedAt.UTC().Format(time.TimeOnly)
	}
	if f.Conflict != "" {
		out += " conflict=" + f.Conflict
	}
	if f.Claimant != "" {
		out += " claimant=" + f.Claimant
	}
	return out
}

func line(c snapshot.Condition) string { return c.Status + " " + c.Reason + ": " + c.Message }
