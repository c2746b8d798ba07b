package doctor

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/cli/cluster"
)

// strangers are pods that their node takes for somebody outside of it.
func strangers(s *cluster.State) (out []Finding) {
	pods := map[string][]string{}
	by := map[string]cluster.LocalPods{}
	for _, p := range s.Strangers() {
		ips := make([]string, len(p.IPs))
		for i, ip := range p.IPs {
			ips[i] = ip.String()
		}
		pods[p.Node] = append(pods[p.Node], p.Ref.String()+" ("+strings.Join(ips, ", ")+")")
		by[p.Node] = p.LocalPods
	}
	for _, n := range slices.Sorted(maps.Keys(pods)) {
		out = append(out, find(PodNotKnown, node(n),
			"see on the node over which link it reaches the pod (ip route get ADDRESS). Then set the chart's agent.detectLocal: interface-prefix=NAME if the links of all pods begin so, bridge=NAME, or cluster-cidr=CIDR for the sources of all pods",
			"node %s does not know %s as its own: %s. It knows its pods by %s. The others get no answer from a Service of externalTrafficPolicy Local without an endpoint there, and their addresses are hidden on the way to a ClusterIP",
			n, cluster.Count(len(pods[n]), "pod"), few(pods[n]), by[n]))
	}
	return out
}

// Pods is what a node's engine knows the node's pods by.
type Pods struct {
	Node  string `json:"node"`
	By    string `json:"by"`
	Short string `json:"-"`
}

// LocalPods returns what each node on which fairlead forwards knows its pods by.
func LocalPods(s *cluster.State) (out []Pods) {
	all := s.LocalPods()
	for _, a := range s.NodeStates {
		if known, there := all[a.Node]; there && cluster.Forwards(a) {
			out = append(out, Pods{a.Node, known.String(), known.Short()})
		}
	}
	return out
}

// Found says of nodes that know their pods by more than podCIDRs, or by something else,
// what that is: one line for all nodes that do it alike.
func Found(pods []Pods) (lines []string) {
	by, full := map[string][]string{}, map[string]string{}
	for _, p := range pods {
		by[p.Short], full[p.Short] = append(by[p.Short], p.Node), p.By
	}
	delete(by, "podCIDRs")
	for _, short := range slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(by[b]), len(by[a])), cmp.Compare(a, b))
	}) {
		text := short
		if len(by[short]) == 1 {
			text = full[short]
		}
		lines = append(lines, "pods of "+few(by[short])+" are known by "+text)
	}
	return lines
}
