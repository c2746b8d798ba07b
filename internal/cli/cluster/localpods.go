package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Options are the agents' choices, with what the agent of node sees of the node.
func (s *State) Options(node string) proxy.Options {
	opt, st := s.Forwarding, s.NodeState(node)
	if st == nil {
		return opt
	}
	for _, l := range st.Links {
		for _, p := range l.Prefixes {
			opt.Own = append(opt.Own, p.Addr())
		}
	}
	opt.Routed = st.Engine.LocalPods.Addrs()
	if opt.Local.Auto() && st.Engine.LocalPods == nil {
		opt.Local.NodeCIDR = true // an agent of v0.1.0
	}
	return opt
}

// LocalPods returns what the engine of each node knows the node's pods by.
func (s *State) LocalPods() map[string]LocalPods {
	out := make(map[string]LocalPods, len(s.Nodes))
	for node, known := range proxy.KnownPods(s.Snapshot, s.Options) {
		l := LocalPods{Known: known, OfCluster: len(s.Forwarding.Local.CIDRs) > 0}
		if st := s.NodeState(node); st != nil && st.Engine.LocalPods != nil {
			l.RouteLinks, l.Unlisted = st.Engine.LocalPods.Links, st.Engine.LocalPods.Count > len(st.Engine.LocalPods.Addrs())
		}
		out[node] = l
	}
	return out
}

// LocalPods is what a node's engine knows the node's pods by.
type LocalPods struct {
	proxy.Known
	OfCluster  bool   // CIDRs are those of all pods
	RouteLinks string // the links of Routes, such as "cali*"
	Unlisted   bool   // there are more Routes: too many for the API
}

// String says it in full.
func (l LocalPods) String() string {
	var parts []string
	if len(l.CIDRs) > 0 {
		texts := make([]string, len(l.CIDRs))
		for i, c := range l.CIDRs {
			texts[i] = c.String()
		}
		what := "podCIDRs "
		if l.OfCluster {
			what = "sources in "
		}
		parts = append(parts, what+strings.Join(texts, ", "))
	}
	if n := len(l.Routes); n > 0 {
		parts = append(parts, fmt.Sprintf("%s to links of pods (%s)", Count(n, "route"), l.RouteLinks))
	}
	if n := len(l.Endpoints); n > 0 {
		text := "1 address in EndpointSlices"
		if n > 1 {
			text = fmt.Sprintf("%d addresses in EndpointSlices", n)
		}
		parts = append(parts, text)
	}
	for _, link := range l.Links {
		parts = append(parts, "link "+link)
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, "; ")
}

// Short says it in a few words.
func (l LocalPods) Short() string {
	var parts []string
	for _, p := range []struct {
		there bool
		word  string
	}{
		{len(l.CIDRs) > 0 && !l.OfCluster, "podCIDRs"}, {len(l.CIDRs) > 0 && l.OfCluster, "sources"},
		{len(l.Routes) > 0, "routes (" + l.RouteLinks + ")"}, {len(l.Endpoints) > 0, "EndpointSlices"}, {len(l.Links) > 0, "links"},
	} {
		if p.there {
			parts = append(parts, p.word)
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// Forwards reports whether fairlead's own engine forwards Services on the node of a.
func Forwards(a *snapshot.NodeState) bool { return a.Engine.Mode == "nftables" }

// Stranger is a pod that its node's engine does not know as one of the node's own.
type Stranger struct {
	Workload
	LocalPods LocalPods // of the node
}

// settled is how long a pod runs before its node must know it, and say so.
func (s *State) settled() time.Duration {
	return snapshot.WrittenWithin(len(s.NodeStates)) + 30*time.Second
}

// Strangers returns the pods that run on a node whose engine does not know one of their
// addresses, by node and name.
func (s *State) Strangers() (out []Stranger) {
	by := map[string][]Workload{}
	for _, w := range s.Workloads {
		if s.Now.Sub(w.Started) > s.settled() {
			by[w.Node] = append(by[w.Node], w)
		}
	}
	if len(by) == 0 {
		return nil
	}
	all := s.LocalPods()
	for _, a := range s.Heard() {
		known, there := all[a.Node]
		if !there || !Forwards(a) {
			continue
		}
		if len(known.Links) > 0 || known.Unlisted {
			continue // its packets say it, not its address; or the API does not have it all
		}
		for _, w := range by[a.Node] {
			w.IPs = slices.DeleteFunc(slices.Clone(w.IPs), known.Has)
			if len(w.IPs) > 0 {
				out = append(out, Stranger{w, known})
			}
		}
	}
	return out
}
