package nodestate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// RestartTakes is how long an agent may be silent on a node whose kernel answers before
// the others say so in the API. In an upgrade every agent is silent for a while.
const RestartTakes = 30 * time.Second

// Known is what an agent knows of its node, as far as the engine and its announcements go.
type Known struct {
	View                announcer.View
	State               node.State
	Held                []announcer.Claim // sorted
	Links               []snapshot.Link
	InSync              bool   // the engine holds what it should
	Message             string // of the engine
	Services, Endpoints int    // that it serves
	// Up names the BGP sessions that are established.
	Up map[string]bool
}

// Describer is Known.Describe with a memory: of a thousand addresses it describes those
// lists again that changed. The result never depends on the memory, and must not be
// changed. The zero value is ready to use. A Describer is not safe for concurrent use.
type Describer struct {
	last      Known
	speakers  []string
	announces []snapshot.Announced
	refused   []snapshot.Refused
}

// Describe returns what the agent says of its node at now.
func (k Known) Describe(now time.Time) snapshot.NodeState {
	return (&Describer{}).Describe(k, now)
}

// Describe is like the function Known.Describe.
func (d *Describer) Describe(k Known, now time.Time) snapshot.NodeState {
	if !k.sameAnnounces(d.last) {
		d.announces = k.announces()
	}
	if all := Speakers(k.View, now); k.View.Node != d.last.View.Node || !slices.Equal(all, d.speakers) || !diff.Same(k.State.Refused, d.last.State.Refused) {
		d.speakers, d.refused = all, Refused(k.View, k.State.Refused, now)
	}
	d.last = k
	return snapshot.NodeState{
		Electable: snapshot.Electable{
			Node: k.View.Node, InSync: k.InSync, Draining: k.State.Draining, Links: k.Links,
			Protocol: announcer.Protocol, DrainsFor: k.State.DrainsFor, Stays: k.State.Stays, Director: k.State.Director, Unforwarded: k.State.Unforwarded,
		},
		Engine: snapshot.Engine{Message: k.Message, Services: k.Services, Endpoints: k.Endpoints},
		Silent: Silent(k.View, now), Refused: d.refused, Announces: d.announces,
	}
}

// sameAnnounces reports whether k and was announce the same, as far as that is seen by
// their lists.
func (k Known) sameAnnounces(was Known) bool {
	return diff.Same(k.Held, was.Held) && diff.Same(k.State.Elected, was.State.Elected) && diff.Same(k.State.Leaving, was.State.Leaving) &&
		diff.Same(k.State.Routed, was.State.Routed) && maps.Equal(k.Up, was.Up) && slices.Equal(k.State.Stays, was.State.Stays) &&
		slices.EqualFunc(k.Links, was.Links, func(a, b snapshot.Link) bool { return a.Name == b.Name && a.MAC == b.MAC })
}

// announces returns what is held on links, and after that what is announced over BGP.
func (k Known) announces() []snapshot.Announced {
	out := slices.Grow([]snapshot.Announced(nil), len(k.Held)+len(k.State.Routed))
	macs := map[string]string{}
	for _, l := range k.Links {
		macs[l.Name] = l.MAC
	}
	keeps, leaves := services(k.State.Elected), services(k.State.Leaving)
	for _, c := range k.Held {
		out = append(out, snapshot.Announced{
			Addr: c.Addr, Link: c.Link, MAC: macs[c.Link], Service: cmp.Or(keeps[c.Addr], leaves[c.Addr]), Leaving: leaves[c.Addr] != "", Stays: snapshot.HasAddr(k.State.Stays, c.Addr),
		})
	}
	for _, v := range k.State.Routed {
		peers := 0
		for _, name := range v.Peers {
			if k.Up[name] {
				peers++
			}
		}
		out = append(out, snapshot.Announced{Addr: v.Addr, Peers: peers, Service: v.Services[0].String()})
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
