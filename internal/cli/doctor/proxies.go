package doctor

import (
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// forwarders says what the nodes say of who forwards Services there, where it is not one
// program alone. Nodes that say the same are one finding.
func forwarders(s *cluster.State) (out []Finding) {
	by := map[snapshot.Condition][]string{}
	for _, a := range s.Heard() {
		if c := a.Conditions["ServiceProxy"]; c.Reason != "" {
			c = snapshot.Condition{Status: c.Status, Reason: c.Reason, Message: c.Message}
			by[c] = append(by[c], a.Node)
		}
	}
	for c, nodes := range by {
		var code Code
		next := "docs/others.md says what the agents look at; remove one of the two, or set agent.proxy: full or off"
		switch c.Reason {
		case "TwoProxies":
			code, next = TwoProxies, "remove one of them: docs/migrate-kube-proxy.md tells how, or set agent.proxy: auto"
		case "Refused":
			code, next = NotForwarding, "change over as docs/migrate-kube-proxy.md tells, or set agent.proxy: auto"
		case "NotCertain":
			code = NotCertain
		case "LeftBehind":
			code, next = LeftBehind, "remove it, on each of the nodes: kube-proxy --cleanup, or a restart of the node"
		default:
			continue
		}
		about := Object{}
		if len(nodes) == 1 {
			about = node(nodes[0])
		}
		out = append(out, find(code, about, next, "%s: %s", few(nodes), c.Message))
	}
	slices.SortFunc(out, func(a, b Finding) int { return strings.Compare(a.Message, b.Message) })
	return out
}

// saysForwarder reports whether a node says by itself who forwards there.
func saysForwarder(a *snapshot.NodeState) bool { return a.Conditions["ServiceProxy"].Reason != "" }
