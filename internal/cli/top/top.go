// Package top puts what agents counted beside what the cluster says of each
// external address: the lines of "fairlead top". It is pure.
package top

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/traffic"
)

// Row is one address.
type Row struct {
	Address   string   `json:"address"`
	Services  []string `json:"services"`
	Announcer string   `json:"announcer,omitempty"` // nodes, by name; "": nobody
	// The rates are those of all nodes together; nil if no node has told twice.
	ConnectionsPerSecond *float64 `json:"connectionsPerSecond,omitempty"`
	BytesPerSecond       *float64 `json:"bytesPerSecond,omitempty"`
	Open                 int      `json:"open"` // connections in the nodes' tables
	Ready                int      `json:"ready"`
	Endpoints            int      `json:"endpoints"`
	// Moved is when the last of the announcers began to announce it.
	Moved    time.Time `json:"moved,omitzero"`
	MovedAgo string    `json:"movedAgo,omitempty"`
}

// Table is one look at all addresses, the busiest first.
type Table struct {
	At    time.Time `json:"at"`
	Rows  []Row     `json:"rows"`
	Notes []string  `json:"notes,omitempty"` // what is missing, and why
}

// Counted are the last two different Reports of each node, by its name.
type Counted map[string]Pair

// Pair is an earlier and a later Report of one node; Before is zero at first.
type Pair struct{ Before, Now traffic.Report }

// Add takes in a Report.
func (c Counted) Add(r traffic.Report) {
	p := c[r.Node]
	switch {
	case p.Now.At.Equal(r.At):
		return // the same one again
	case !p.Now.Since.Equal(r.Since):
		p = Pair{Now: r} // it started over
	default:
		p = Pair{Before: p.Now, Now: r}
	}
	c[r.Node] = p
}

// Twice reports whether every node that told anything told twice.
func (c Counted) Twice() bool {
	for _, p := range c {
		if p.Before.At.IsZero() {
			return false
		}
	}
	return true
}

// rate is what all nodes together counted of one address.
type rate struct {
	connections, bytes float64
	open               int
}

// Of makes the Table. unheard says of nodes why they told nothing.
func Of(s *cluster.State, c Counted, unheard map[string]string) Table {
	rates := map[string]*rate{}
	twice, uncounted := false, []string{}
	for _, node := range sorted(c) {
		p := c[node]
		twice = twice || !p.Before.At.IsZero()
		add(rates, p)
		if !p.Now.Counts {
			uncounted = append(uncounted, node)
		}
	}
	t := Table{At: s.Now, Rows: []Row{}}
	for _, a := range s.Addresses {
		if len(a.Holders) == 0 {
			continue // it cools down
		}
		t.Rows = append(t.Rows, row(s, a, rates[a.Addr.String()], twice, len(uncounted) < len(c)))
	}
	slices.SortStableFunc(t.Rows, func(a, b Row) int { return cmp.Compare(perSecond(b), perSecond(a)) })
	t.Notes = append(t.Notes, missing(unheard)...)
	if direct := accelerated(s, unheard); len(direct) > 0 {
		t.Notes = append(t.Notes, "connections that pods make on "+strings.Join(direct, ", ")+" are not counted: eBPF connects them to endpoints directly")
	}
	if len(uncounted) > 0 {
		t.Notes = append(t.Notes, "the kernel does not count bytes on "+strings.Join(uncounted, ", ")+": set the sysctl net.netfilter.nf_conntrack_acct=1")
	}
	return t
}

// missing says which nodes nothing is known of, by reason.
func missing(unheard map[string]string) (notes []string) {
	nodes := map[string][]string{}
	for _, node := range sorted(unheard) {
		nodes[unheard[node]] = append(nodes[unheard[node]], node)
	}
	for _, why := range sorted(nodes) {
		notes = append(notes, "not counted on "+strings.Join(nodes[why], ", ")+": "+why)
	}
	return notes
}

// accelerated are the nodes that told something, and whose own pods' connections
// never come to the table that was counted.
func accelerated(s *cluster.State, unheard map[string]string) (nodes []string) {
	for _, a := range s.NodeStates {
		if _, not := unheard[a.Node]; a.Engine.Accelerator.On() && !not {
			nodes = append(nodes, a.Node)
		}
	}
	return nodes
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func perSecond(r Row) float64 {
	if r.ConnectionsPerSecond == nil {
		return 0
	}
	return *r.ConnectionsPerSecond
}

// add adds what one node counted.
func add(rates map[string]*rate, p Pair) {
	before := map[string]traffic.VIP{}
	for _, v := range p.Before.VIPs {
		before[v.Address] = v
	}
	seconds := p.Now.At.Sub(p.Before.At).Seconds()
	for _, v := range p.Now.VIPs {
		r := rates[v.Address]
		if r == nil {
			r = &rate{}
			rates[v.Address] = r
		}
		r.open += v.Open
		if p.Before.At.IsZero() || seconds <= 0 {
			continue
		}
		was := before[v.Address]
		r.connections += float64(v.Connections-was.Connections) / seconds
		r.bytes += float64(v.Bytes-was.Bytes) / seconds
	}
}

func row(s *cluster.State, a *snapshot.Address, counted *rate, twice, bytes bool) Row {
	r := Row{Address: a.Addr.String()}
	for _, h := range a.Holders {
		r.Services = append(r.Services, h.Ref.String())
		ready, all := endpoints(s.Service(h.Ref), a.Addr)
		r.Ready, r.Endpoints = r.Ready+ready, r.Endpoints+all
	}
	var nodes []string
	for _, by := range s.Announcers(a.Addr) {
		nodes = append(nodes, by.Agent.Node)
		if by.Since.After(r.Moved) {
			r.Moved = by.Since
		}
	}
	r.Announcer = strings.Join(nodes, ", ")
	if !r.Moved.IsZero() {
		r.MovedAgo = cluster.Ago(s.Now, r.Moved)
	}
	if counted == nil {
		counted = &rate{}
	}
	r.Open = counted.open
	if twice {
		r.ConnectionsPerSecond = &counted.connections
		if bytes {
			r.BytesPerSecond = &counted.bytes
		}
	}
	return r
}

// endpoints counts the pods of svc in the family of an address, and those of them
// that are ready.
func endpoints(svc *snapshot.Service, of netip.Addr) (ready, all int) {
	if svc == nil {
		return 0, 0
	}
	seen := map[netip.Addr]bool{}
	for _, ep := range svc.Endpoints {
		ip := ep.Addr.Addr()
		if snapshot.FamilyOf(ip) != snapshot.FamilyOf(of) || seen[ip] {
			continue
		}
		seen[ip] = true
		all++
		if ep.Ready {
			ready++
		}
	}
	return ready, all
}
