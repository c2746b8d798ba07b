package observe

import (
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
)

// namedNodes is how many nodes a condition names: when a process comes up on
// every node of a large cluster, the Service is not written once for each.
const namedNodes = 4

// longestMessage is the most bytes that a condition's message may hold.
const longestMessage = 32768

// next is what the owner of a Service can do about a problem. Problems whose message
// says it are not here.
var next = map[snapshot.Reason]string{
	nodeport.PortOccupied:      "give the Service another nodePort, or ask the cluster's administrator to stop that process",
	nodeport.HealthCheckFailed: "make the Service again with another spec.healthCheckNodePort, or ask the cluster's administrator",
	nodeport.PortOfNode:        "choose another port in spec.ports, or ask the cluster's administrator to stop that process",
	nodeport.AddressOfNode:     "ask for another address, or ask the cluster's administrator",
}

// complaints are what nodes could not do for one Service.
type complaints struct {
	reason snapshot.Reason // of the first
	nodes  int
	last   string // node
	texts  []string
}

// problems returns the condition fairlead.io/NodePorts of every Service with which
// some node has a problem. The reason is that of the first node, by name.
func problems(s *snapshot.Snapshot) map[snapshot.Ref]snapshot.Condition {
	found := map[snapshot.Ref]*complaints{}
	for _, n := range s.NodeStates {
		for _, p := range n.Problems {
			c := found[p.Service]
			if c == nil {
				c = &complaints{reason: p.Reason}
				found[p.Service] = c
			}
			c.add(n.Node, p.Message)
		}
	}
	out := make(map[snapshot.Ref]snapshot.Condition, len(found))
	for ref, c := range found {
		text := strings.Join(c.texts, "; ")
		if n := next[c.reason]; n != "" {
			text += ". Next: " + n
		}
		out[ref] = snapshot.Condition{Status: "False", Reason: string(c.reason), Message: text[:min(len(text), longestMessage)]}
	}
	return out
}

// add takes in one problem of node. The problems of a node come one after the other.
func (c *complaints) add(node, message string) {
	begins := c.last != node
	if begins {
		c.last = node
		c.nodes++
		message = "node " + node + ": " + message
	}
	switch {
	case c.nodes <= namedNodes:
		c.texts = append(c.texts, message)
	case c.nodes == namedNodes+1 && begins:
		c.texts = append(c.texts, "other nodes too")
	}
}
