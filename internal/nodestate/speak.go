package nodestate

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// RestartTakes is how long an agent may be silent on a node whose kernel answers before
// the others say so in the API. In an upgrade every agent is silent for a while.
const RestartTakes = 30 * time.Second

// Known is what an agent knows of its node, as far as the engine and layer 2 go.
type Known struct {
	View                announcer.View
	State               node.State
	Held                []announcer.Claim // sorted
	Links               []snapshot.Link
	InSync              bool   // the engine holds what it should
	Message             string // of the engine
	Services, Endpoints int    // that it serves
}

// Describe returns what the agent says of its node at now.
func (k Known) Describe(now time.Time) snapshot.NodeState {
	out := snapshot.NodeState{
		Electable: snapshot.Electable{
			Node: k.View.Node, InSync: k.InSync, Draining: k.State.Draining, Links: k.Links,
			Protocol: announcer.Protocol, DrainsFor: k.State.DrainsFor, Stays: k.State.Stays, Director: k.State.Director,
		},
		Engine: snapshot.Engine{Message: k.Message, Services: k.Services, Endpoints: k.Endpoints},
		Silent: Silent(k.View, now), Refused: Refused(k.View, k.State.Refused, now),
	}
	macs := map[string]string{}
	for _, l := range k.Links {
		macs[l.Name] = l.MAC
	}
	keeps, leaves := services(k.State.Elected), services(k.State.Leaving)
	for _, c := range k.Held {
		out.Announces = append(out.Announces, snapshot.Announced{
			Addr: c.Addr, Link: c.Link, MAC: macs[c.Link], Service: cmp.Or(keeps[c.Addr], leaves[c.Addr]), Leaving: leaves[c.Addr] != "", Stays: snapshot.HasAddr(k.State.Stays, c.Addr),
		})
	}
	return out
}

// services returns of each of vips the first Service that holds it.
func services(vips []announcer.VIP) map[netip.Addr]string {
	out := make(map[netip.Addr]string, len(vips))
	for _, v := range vips {
		if len(v.Services) > 0 {
			out[v.Addr] = v.Services[0].String()
		}
	}
	return out
}

// Speakers returns the nodes of v whose agents speak at now, its own included, or
// restart: the witnesses are among them.
func Speakers(v announcer.View, now time.Time) (out []string) {
	for _, m := range v.Members {
		if m.Verdict == announcer.Alive || restarts(m, now) {
			out = append(out, m.Node)
		}
	}
	return out
}

func restarts(m announcer.Member, now time.Time) bool {
	return m.Verdict == announcer.AgentGone && now.Sub(m.Since) < RestartTakes
}

// Silent returns what the node of v says at now of the nodes whose agents it does not
// hear. All nodes know the same of a silent one, so its witnesses alone say it.
func Silent(v announcer.View, now time.Time) (out []snapshot.Silent) {
	witness := announcer.Witness(v.Node, Speakers(v, now))
	for _, m := range v.Members {
		if m.Verdict != announcer.Alive && !restarts(m, now) && witness(m.Node) {
			out = append(out, snapshot.Silent{Node: m.Node, Verdict: m.Verdict.String(), Quarantined: m.Quarantine})
		}
	}
	return out
}

// Refused returns what the node of v says at now of the addresses that it does not
// announce. Of an address that has an owner, the owner speaks. Why an address has none,
// all nodes know, and the witnesses of the address say it.
func Refused(v announcer.View, all []announcer.Refused, now time.Time) (out []snapshot.Refused) {
	witness := announcer.Witness(v.Node, Speakers(v, now))
	for _, r := range all {
		speaks := r.Owner == v.Node || r.Owner == "" && witness(r.Addr.String())
		if r.Reason != announcer.NotOwner && speaks {
			out = append(out, snapshot.Refused{Addr: r.Addr, Refusal: r.Refusal})
		}
	}
	return out
}
