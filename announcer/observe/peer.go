package observe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// The reasons of a BGPPeer's condition Ready.
const (
	PeerEstablished    = "Established"
	PeerNotEstablished = "NotEstablished"
	PeerRefused        = "Refused"
	PeerNoNode         = "NoNode"
)

// sessions are those of all nodes with one BGPPeer.
type sessions struct {
	nodes   int
	without []string // nodes that have none
	refused []string // nodes that cannot use the BGPPeer, and why
}

// peers returns the condition Ready of every BGPPeer.
func peers(s *snapshot.Snapshot, lost []string) map[string]snapshot.Condition {
	by := make(map[string]*sessions, len(s.BGPPeers))
	for _, p := range s.BGPPeers {
		by[p.Name] = &sessions{}
	}
	for _, st := range s.NodeStates {
		for _, p := range st.Peers {
			if of := by[p.Name]; of != nil { // the BGPPeer may be gone already
				of.add(st.Node, p, slices.Contains(lost, st.Node))
			}
		}
	}
	out := make(map[string]snapshot.Condition, len(by))
	for name, of := range by {
		out[name] = of.ready()
	}
	return out
}

// add takes in the session of node. That of a node that is gone ended with it,
// whatever the node said last.
func (of *sessions) add(node string, p snapshot.PeerState, lost bool) {
	of.nodes++
	switch {
	case p.State == snapshot.PeerRefused:
		of.refused = append(of.refused, node+": "+p.LastError)
	case !p.Established() || lost:
		of.without = append(of.without, node)
	}
}

// ready returns the condition Ready. It does not say why a session is not
// established, which changes with every attempt: a NodeState does.
func (of *sessions) ready() snapshot.Condition {
	no := func(reason, message string) snapshot.Condition {
		return snapshot.Condition{Status: "False", Reason: reason, Message: message}
	}
	switch {
	case of.nodes == 0:
		return no(PeerNoNode, "no node should have a session")
	case len(of.refused) > 0:
		// It needs a person, while a session may still come by itself.
		return no(PeerRefused, some(of.refused))
	case len(of.without) > 0:
		return no(PeerNotEstablished, fmt.Sprintf("%d of %d nodes have a session, not %s", of.nodes-len(of.without), of.nodes, some(of.without)))
	}
	return snapshot.Condition{Status: "True", Reason: PeerEstablished, Message: fmt.Sprintf("%d of %d nodes have a session", of.nodes, of.nodes)}
}

// gone reports whether m's node is gone in the eyes of the node that says so: a
// silent agent on a kernel that answers is not enough.
func gone(m snapshot.Silent) bool { return m.Verdict == announcer.NodeGone.String() }

// some names the first of many.
func some(texts []string) string {
	const most = 5
	if len(texts) <= most {
		return strings.Join(texts, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(texts[:most], ", "), len(texts)-most)
}
