// Package status puts a cluster on one screen: who runs, what the pools have
// left, who announces what, and what is wrong.
package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Report is what the screen shows.
type Report struct {
	Namespace    string           `json:"namespace"`
	Leader       string           `json:"leader,omitempty"`
	LeaderUnread bool             `json:"leaderUnread,omitempty"`
	LeaderSince  string           `json:"leaderRenewedAgo,omitempty"`
	Pods         []Pod            `json:"pods,omitempty"`
	Agents       []Agent          `json:"agents,omitempty"`
	Pools        []Pool           `json:"pools,omitempty"`
	VIPs         []VIP            `json:"vips,omitempty"`
	Peers        []Peer           `json:"peers,omitempty"`
	Findings     []doctor.Finding `json:"findings,omitempty"`
}

// Pod is one of fairlead's pods.
type Pod struct {
	Component string `json:"component"`
	Name      string `json:"name"`
	Node      string `json:"node"`
	Image     string `json:"image"`
	Ready     bool   `json:"ready"`
	Restarts  int    `json:"restarts"`
}

// Agent is one node's agent.
type Agent struct {
	Node    string `json:"node"`
	Version string `json:"version"`
	Engine  string `json:"engine"`
	// Unaccelerated says why the engine forwards all of the traffic of the node's own
	// pods, or what of it.
	Unaccelerated string    `json:"unaccelerated,omitempty"`
	InSync        bool      `json:"inSync"`
	Draining      bool      `json:"draining,omitempty"`
	Services      int       `json:"services"`
	Endpoints     int       `json:"endpoints"`
	Announces     int       `json:"announces"`
	Renewed       time.Time `json:"renewed"`
	RenewedAgo    string    `json:"renewedAgo"`
	Silent        bool      `json:"silent,omitempty"`
	// LocalPods is what the node's own pods are known by, LocalPodsShort the same in a
	// few words; "" if another proxy forwards.
	LocalPods      string `json:"localPods,omitempty"`
	LocalPodsShort string `json:"-"`
	// Forwarding is Direct if this node can do what asks for it. WhyNotDirect says why it
	// is Masquerade. Both are "" while nothing asks for Direct.
	Forwarding   snapshot.Forwarding `json:"forwarding,omitempty"`
	WhyNotDirect string              `json:"whyNotDirect,omitempty"`
}

// Pool is one AddressPool.
type Pool struct {
	Name   string    `json:"name"`
	Ranges []string  `json:"ranges"`
	Ready  string    `json:"ready"` // the reason of its condition Ready
	Good   bool      `json:"good"`
	Use    []PoolUse `json:"use"`
}

// PoolUse is one family of a pool.
type PoolUse struct {
	Family   string `json:"family"`
	Assigned int64  `json:"assigned"`
	Total    int64  `json:"total"`
	Free     int64  `json:"free"`
}

// VIP is one address that Services hold.
type VIP struct {
	Address    string   `json:"address"`
	Pool       string   `json:"pool"`
	Services   []string `json:"services"`
	PortRanges string   `json:"portRanges,omitempty"` // that its Service has, as the annotation has them
	Announcers []string `json:"announcers,omitempty"` // NODE on LINK
	MAC        string   `json:"mac,omitempty"`
	Silent     string   `json:"silent,omitempty"` // why nobody announces it
}

// Peer is one BGPPeer.
type Peer struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	ASN     int64  `json:"asn"`
	State   string `json:"state"`
	Good    bool   `json:"good"`
}

// Of makes the Report of s.
func Of(s *cluster.State) Report {
	r := Report{Namespace: s.Namespace, Leader: s.Leader.Holder, Pools: pools(s), VIPs: vips(s), Findings: doctor.Cluster(s)}
	for _, g := range s.Gaps {
		r.LeaderUnread = r.LeaderUnread || g.What == "leases"
	}
	if r.Leader != "" {
		r.LeaderSince = cluster.Ago(s.Now, s.Leader.Renewed)
	}
	for _, p := range s.Pods {
		r.Pods = append(r.Pods, Pod{p.Component, p.Name, p.Node, p.Image, p.Ready, p.Restarts})
	}
	all, directs := s.LocalPods(), len(s.Directed()) > 0
	for _, a := range s.NodeStates {
		var pods, short string
		if known, there := all[a.Node]; there && cluster.Forwards(a) {
			pods, short = known.String(), known.Short()
		}
		r.Agents = append(r.Agents, Agent{
			Node: a.Node, Version: a.Version, Engine: a.Engine.String(), Unaccelerated: a.Engine.Accelerator.Message, InSync: a.InSync, Draining: a.Draining,
			Services: a.Engine.Services, Endpoints: a.Engine.Endpoints, Announces: len(a.Announces) + a.Unlisted, Renewed: a.Renewed, RenewedAgo: cluster.Ago(s.Now, a.Renewed), Silent: s.Silent(a),
			LocalPods: pods, LocalPodsShort: short,
		})
		if directs {
			r.Agents[len(r.Agents)-1].direct(s.Undirected(a.Node))
		}
	}
	for _, p := range s.Peers {
		state, good := p.Ready.Reason, p.Ready.Status == "True"
		if all, up := s.SessionsWith(p.Name); len(all) > 0 {
			state, good = fmt.Sprintf("established on %d of %s", up, cluster.Count(len(all), "node")), up == len(all)
		}
		if state == "" {
			state = "no node says anything of it"
		}
		r.Peers = append(r.Peers, Peer{p.Name, p.Address, p.ASN, state, good})
	}
	return r
}

// In leaves out addresses and findings of other namespaces' Services; namespace "" is
// all.
func (r Report) In(namespace string) Report {
	r.Findings = doctor.In(r.Findings, namespace)
	r.VIPs = slices.DeleteFunc(slices.Clone(r.VIPs), func(v VIP) bool {
		return namespace != "" && !slices.ContainsFunc(v.Services, func(s string) bool { return strings.HasPrefix(s, namespace+"/") })
	})
	return r
}

func pools(s *cluster.State) (out []Pool) {
	for _, p := range allocator.Decide(s.Snapshot, s.Allocation).Pools {
		pool := Pool{Name: p.Name, Ready: p.Ready.Reason, Good: p.Ready.Status == "True"}
		for _, r := range s.Pool(p.Name).Ranges {
			text := r.String()
			if prefix, ok := r.Prefix(); ok {
				text = prefix.String()
			}
			pool.Ranges = append(pool.Ranges, text)
		}
		for _, f := range []struct {
			family snapshot.Family
			snapshot.PoolCount
		}{{snapshot.IPv4, p.Status.IPv4}, {snapshot.IPv6, p.Status.IPv6}} {
			if f.Total > 0 || f.Assigned > 0 {
				pool.Use = append(pool.Use, PoolUse{f.family.String(), f.Assigned, f.Total, f.Free})
			}
		}
		out = append(out, pool)
	}
	return out
}

// over says how an address is announced.
func over(a snapshot.Announced) string {
	if a.Link == "" {
		return " by BGP"
	}
	return " on " + a.Link
}

func vips(s *cluster.State) (out []VIP) {
	silent := map[netip.Addr]announcer.Refused{}
	for _, r := range s.Owners() {
		silent[r.Addr] = r
	}
	for _, a := range s.Addresses {
		if len(a.Holders) == 0 {
			continue // it cools down: nobody is to answer
		}
		v := VIP{Address: a.Addr.String(), Pool: a.Pool}
		for _, h := range a.Holders {
			v.Services = append(v.Services, h.Ref.String())
			v.PortRanges = snapshot.PortRangesText(a.Ranges(h.Ref, h.UID))
		}
		for _, by := range s.Announcers(a.Addr) {
			v.Announcers, v.MAC = append(v.Announcers, by.Agent.Node+over(by.Announced)), by.MAC
		}
		if why, ok := silent[a.Addr]; ok && len(v.Announcers) == 0 {
			v.Silent = why.String()
			if why.Owner != "" {
				v.Silent = "node " + why.Owner + " is elected and does not announce it"
			}
		}
		out = append(out, v)
	}
	for _, a := range s.NodeAddresses {
		v := VIP{Address: a.Addr.String(), Pool: a.Pool, Announcers: []string{a.Node + " as its own"}}
		for _, h := range a.Holders {
			v.Services = append(v.Services, h.Ref.String())
		}
		out = append(out, v)
	}
	slices.SortStableFunc(out, func(a, b VIP) int {
		return slices.Compare(a.Announcers, b.Announcers)
	})
	return out
}

// Controls returns who leads the controllers, and whether somebody does.
func (r Report) Controls() (text string, mark explain.Mark) {
	switch {
	case r.LeaderUnread:
		return "which one leads could not be read", explain.Note
	case r.Leader == "":
		return "none leads", explain.Failed
	}
	return fmt.Sprintf("%s leads, renewed its Lease %s ago", r.Leader, r.LeaderSince), explain.OK
}

// State returns the agent's state in a few words.
func (a Agent) State() string {
	switch {
	case a.Silent:
		return "silent"
	case !a.InSync:
		return "not in sync"
	case a.Draining:
		return "draining"
	}
	return "in sync"
}

// direct says that something asks for Direct, and why the node does not do it.
func (a *Agent) direct(whyNot string) {
	a.Forwarding, a.WhyNotDirect = snapshot.Direct, whyNot
	if whyNot != "" {
		a.Forwarding = snapshot.Masquerade
	}
}

// ForwardingText returns how what asks for Direct is forwarded, and why.
func (a Agent) ForwardingText() string {
	if a.WhyNotDirect == "" {
		return string(a.Forwarding)
	}
	return string(a.Forwarding) + ": " + a.WhyNotDirect
}

// Good reports whether the agent runs and its engine is in sync.
func (a Agent) Good() bool { return a.InSync && !a.Silent }

// String returns how much of the family is in use.
func (u PoolUse) String() string {
	return fmt.Sprintf("%d of %d, %d free", u.Assigned, u.Total, u.Free)
}

// Some lists names: the first three, unless all are asked for.
func Some(names []string, all bool) string {
	if n := len(names) - 3; n > 0 && !all {
		names = append(names[:3:3], cluster.Count(n, "other"))
	}
	return strings.Join(names, ", ")
}

// Held returns the Services that hold the address, with their ranges of ports.
func (v VIP) Held(all bool) string {
	text := Some(v.Services, all)
	if v.PortRanges != "" {
		text += " ports " + v.PortRanges
	}
	return text
}

// By returns who announces the address, or why nobody does.
func (v VIP) By(all bool) string {
	if len(v.Announcers) == 0 {
		return "nobody: " + v.Silent
	}
	return Some(v.Announcers, all)
}
