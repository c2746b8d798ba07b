// Package traffic counts what goes through external addresses, for as long as
// somebody asks: it looks into the kernel's connection table at each question and
// costs nothing between them. A connection stays in that table for ten seconds or
// more after its end, so those that begin and end between two questions are
// counted too if the questions come at least that often.
package traffic

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Path is where an agent answers with its Report.
const Path = "/traffic"

// Flow is one connection of the kernel's table, as its client sees it.
type Flow struct {
	Protocol uint8
	From, To netip.AddrPort
	Bytes    uint64 // both ways; 0 if the kernel does not count them
	Kept     bool   // the endpoint sees the client's own address
}

// key is what a Flow is known by again.
type key struct {
	protocol uint8
	from, to netip.AddrPort
}

// VIP is what was counted of one address.
type VIP struct {
	Address     string `json:"address"`
	Connections uint64 `json:"connections"` // begun since Report.Since
	Bytes       uint64 `json:"bytes"`       // since Report.Since
	Open        int    `json:"open"`        // in the kernel's table now
}

// Report is what was counted so far on one node. Counts only grow as long as Since
// is the same.
type Report struct {
	Node  string    `json:"node"`
	Since time.Time `json:"since"`
	At    time.Time `json:"at"`
	// Counts reports whether the kernel counts bytes
	// (net.netfilter.nf_conntrack_acct).
	Counts bool  `json:"counts"`
	VIPs   []VIP `json:"vips"`
}

// forgetAfter is when a question that comes late begins a new count: too much
// would be missing in between.
const forgetAfter = time.Minute

// Meter counts from one look at the kernel's table to the next. It is not safe for
// concurrent use.
type Meter struct {
	seen   map[key]uint64 // bytes of each Flow at the last look
	totals map[netip.Addr]*VIP
	since  time.Time
	at     time.Time
}

// Look takes in the flows of now that go to one of vips.
func (m *Meter) Look(now time.Time, flows []Flow, vips map[netip.Addr]bool) {
	first := m.seen == nil || now.Sub(m.at) > forgetAfter
	if first {
		m.totals, m.since = map[netip.Addr]*VIP{}, now
	}
	seen := make(map[key]uint64, len(m.seen))
	for _, v := range m.totals {
		v.Open = 0
	}
	for _, f := range flows {
		if !vips[f.To.Addr()] {
			continue
		}
		k := key{f.Protocol, f.From, f.To}
		seen[k] = f.Bytes
		v := m.totals[f.To.Addr()]
		if v == nil {
			v = &VIP{Address: f.To.Addr().String()}
			m.totals[f.To.Addr()] = v
		}
		v.Open++
		if first {
			continue
		}
		before, known := m.seen[k]
		if !known || f.Bytes < before { // the same ports once more
			v.Connections++
			before = 0
		}
		v.Bytes += f.Bytes - before
	}
	m.seen, m.at = seen, now
}

// Report returns what was counted, by address.
func (m *Meter) Report() Report {
	r := Report{Since: m.since, At: m.at, VIPs: []VIP{}}
	for _, a := range slices.SortedFunc(maps.Keys(m.totals), netip.Addr.Compare) {
		r.VIPs = append(r.VIPs, *m.totals[a])
	}
	return r
}
