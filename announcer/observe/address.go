package observe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Address is how one address stands on the network.
type Address struct {
	Standing Standing
	By       []string         // who announces it, in words: by node, then over BGP
	Refusal  snapshot.Refusal // why nobody announces it, by the first node that says so
	Conflict string           // MAC of the foreign host that has it, by its record; "" if none
	Finding  snapshot.Finding // what the nodes found of it for its record; zero if nothing
	// Without are Services that hold it and get no connection: they have policy Local, and
	// their pods are on other nodes than those of the Services that they share it with.
	Without []snapshot.Ref
}

// sayings are what the nodes say of one address.
type sayings struct {
	keep    []string // nodes that announce it on a link, in words
	leave   []string // nodes that hand it over or are lost, in words
	keepers int      // nodes in keep
	last    string   // node in keep
	routed  bool     // over BGP, by any node that has a session
	refusal snapshot.Refusal
}

// addresses returns how every address stands.
func addresses(s *snapshot.Snapshot, lost []string, now time.Time) map[netip.Addr]Address {
	said := collect(s, lost)
	found := findings(s, said, now)
	unlisted := slices.ContainsFunc(s.NodeStates, func(st *snapshot.NodeState) bool { return st.Unlisted > 0 })
	stand := func(addr netip.Addr, conflict string) Address {
		w := said[addr]
		if w == nil {
			w = &sayings{} // no node speaks of it
		}
		a := Address{By: w.by(addr), Refusal: w.refusal, Conflict: conflict, Finding: found[addr]}
		a.Standing = a.standing(w.keepers, unlisted)
		return a
	}
	out := make(map[netip.Addr]Address, len(s.Addresses))
	for _, a := range s.Addresses {
		one := stand(a.Addr, a.Conflict)
		if w := said[a.Addr]; w != nil && w.keepers == 1 && len(a.Holders) > 1 {
			one.Without = announcer.Parted(s, announcer.Holders(s, a), a.Addr, w.last)
		}
		out[a.Addr] = one
	}
	for addr := range said {
		// A Service may get an address, and have no record yet, that a node still holds.
		if _, recorded := out[addr]; !recorded {
			out[addr] = stand(addr, "")
		}
	}
	return out
}

// collect returns what the nodes say of each address.
func collect(s *snapshot.Snapshot, lost []string) map[netip.Addr]*sayings {
	out := map[netip.Addr]*sayings{}
	of := func(addr netip.Addr) *sayings {
		if out[addr] == nil {
			out[addr] = &sayings{}
		}
		return out[addr]
	}
	for _, st := range s.NodeStates {
		history := slices.Contains(lost, st.Node)
		for _, a := range st.Announces {
			of(a.Addr).announced(st.Node, a, history)
		}
		for _, r := range st.Refused {
			of(r.Addr).refused(r.Refusal)
		}
	}
	return out
}

// announced takes in that node announces an address. With history the node is lost
// and announced it when it was last heard.
func (w *sayings) announced(node string, a snapshot.Announced, history bool) {
	text := func() string { return fmt.Sprintf("%s by %s on %s (%s)", a.Addr, node, a.Link, a.MAC) }
	switch {
	case a.Link == "" && a.Peers == 0:
		// Without a session no router hears of it.
	case a.Link == "":
		w.routed = true
	case a.Leaving || history:
		// Another node has it by now, or is about to take it.
		w.leave = append(w.leave, text())
	default:
		w.keep = append(w.keep, text())
		if w.last != node { // an address may be on several links of one node
			w.keepers, w.last = w.keepers+1, node
		}
	}
}

// refused takes in why a node does not announce an address. The first reason
// counts: all nodes come to the same one, unless they see different things for a
// moment. That another node is the owner is not a reason why nobody announces it.
func (w *sayings) refused(why snapshot.Refusal) {
	if w.refusal.Reason == "" && why.Reason != announcer.NotOwner {
		w.refusal = why
	}
}

// keptBeside reports whether another node than node announces the address on a link, and
// does not hand it over.
func (w *sayings) keptBeside(node string) bool {
	return w != nil && (w.keepers > 1 || w.keepers == 1 && w.last != node)
}

// by returns who announces addr.
func (w *sayings) by(addr netip.Addr) []string {
	out := slices.Clone(w.keep)
	if len(out) == 0 {
		// One owner is named all the time: until the next one says that it has the
		// address, it is the node that hands it over or that was lost.
		out = slices.Clone(w.leave)
	}
	if w.routed {
		// How many nodes and sessions there are is not said: each session that comes or
		// goes would change the condition of every Service.
		out = append(out, addr.String()+" over BGP")
	}
	return out
}

// Announced returns the condition fairlead.io/Announced of the Service ref, which holds addrs.
func (o Observed) Announced(ref snapshot.Ref, addrs []netip.Addr) snapshot.Condition {
	c := o.announced(addrs)
	for _, addr := range addrs {
		if a := o.Addresses[addr]; c.Status == "True" && slices.Contains(a.Without, ref) {
			return snapshot.Condition{Status: "False", Reason: "NotAnnounced", Message: strings.Join(a.By, "; ") + ", where no pod of the Service is ready: " +
				"the pods of the Services that share the address are on different nodes. Next: have them on one node, for example by a podAffinity"}
		}
	}
	return c
}

// announced is Announced as far as it is the same for all Services that hold addrs.
func (o Observed) announced(addrs []netip.Addr) snapshot.Condition {
	var by, nobody, foreign []string
	why := unsaid
	silent, unlisted := false, true
	for _, addr := range addrs {
		a := o.Addresses[addr]
		by = append(by, a.By...)
		silent = silent || len(a.By) == 0
		unlisted = unlisted && (len(a.By) > 0 || a.Standing == Unlisted)
		if text := a.foreign(addr); text != "" {
			foreign = append(foreign, text)
		} else if len(a.By) == 0 {
			nobody = append(nobody, addr.String())
			if why == unsaid {
				why = causeOf(a.Refusal.Reason)
			}
		}
	}
	c := snapshot.Condition{Status: "True", Reason: "Announced", Message: strings.Join(by, "; ")}
	if silent {
		// One address without an owner is what its Service's owner has to know: who
		// announces the others is left out.
		c = snapshot.Condition{Status: "False", Reason: "NotAnnounced"}
	}
	if silent && unlisted {
		return snapshot.Condition{Status: "Unknown", Reason: "NotListed", Message: "a node announces more addresses than it lists, and " + strings.Join(nobody, ", ") + " may be one of them. Next: connect to it"}
	}
	if len(nobody) > 0 {
		c.Message = "no node announces " + strings.Join(nobody, ", ") + ": " + why.why + ". Next: " + why.next
	}
	if len(foreign) > 0 {
		// A conflict needs a person, whether the address is announced or not.
		c.Reason = string(announcer.AddressConflict)
		if c.Status == "True" {
			foreign = append(by, foreign...)
		} else if len(nobody) > 0 {
			foreign = append([]string{"no node announces " + strings.Join(nobody, ", ") + ": " + why.why}, foreign...)
		}
		c.Message = strings.Join(foreign, "; ") + ". Next: ask the cluster's administrator to find that device, or ask for another address"
	}
	return c
}

// cause says to the owner of a Service why nobody announces its address, and the one
// thing to do. Owners see no nodes: what each node says is for fairlead explain.
type cause struct{ why, next string }

var (
	unsaid = cause{"no node has said why", "wait a few seconds; if it stays, ask the cluster's administrator"}
	others = cause{"the announcements of its pool are not set up", "ask the cluster's administrator"}
	causes = map[snapshot.Reason]cause{
		"":                       unsaid,
		announcer.NoEndpoint:     {"no pod of the Service is ready", "see why: kubectl describe pods; without a pod, compare spec.selector with the pods' labels"},
		bgp.NoLocalEndpoint:      {"no pod of the Service is ready", "see why: kubectl describe pods; without a pod, compare spec.selector with the pods' labels"},
		announcer.NoCandidate:    {"no node is able to", "ask the cluster's administrator"},
		bgp.NodeNotEligible:      {"no node is able to", "ask the cluster's administrator"},
		announcer.EngineNotReady: {"a node is about to", "wait a few seconds; if it stays, ask the cluster's administrator"},
	}
)

func causeOf(reason snapshot.Reason) cause {
	if c, known := causes[reason]; known {
		return c
	}
	return others
}

// foreign says which foreign host has addr or claims it; "" if none does.
func (a Address) foreign(addr netip.Addr) string {
	switch {
	case len(a.By) == 0 && a.Conflict != "":
		return fmt.Sprintf("no node announces %s, because another device on the network has it (%s)", addr, a.Conflict)
	case len(a.By) > 0 && a.Finding.Claimant != "":
		return fmt.Sprintf("another device on the network claims %s too (%s)", addr, a.Finding.Claimant)
	}
	return ""
}
