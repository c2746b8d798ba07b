package announcer

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// The times of a lease: a kernel answers for a VIP for Lease after the last
// renewal, and an agent that runs renews every Renew.
const (
	Lease = 30 * time.Second
	Renew = 5 * time.Second
)

// Claim is one VIP on one link.
type Claim struct {
	Addr netip.Addr
	Link string // name
}

// Compare orders Claims by address, then link.
func (c Claim) Compare(o Claim) int {
	return cmp.Or(c.Addr.Compare(o.Addr), strings.Compare(c.Link, o.Link))
}

func (c Claim) String() string { return c.Addr.String() + "@" + c.Link }

// Claims returns a Claim for each VIP on each of its links, sorted.
func Claims(vips []VIP) []Claim {
	var out []Claim
	for _, v := range vips {
		for _, l := range v.Links {
			out = append(out, Claim{v.Addr, l})
		}
	}
	slices.SortFunc(out, Claim.Compare)
	return slices.Compact(out)
}

// Record is what the cluster knows of an address.
type Record struct {
	UID      string // of this assignment
	Probed   bool
	Conflict string // MAC
}

// Set is everything that a node does at layer 2: what it holds, and what it has to know for
// that. An equal Set only renews leases.
type Set struct {
	Claims []Claim // to hold, sorted
	// Disputed are claims that this node would hold if no foreign host had the
	// address. It asks for these now and then.
	Disputed []Claim
	// Orphaned are addresses that the kernel of another node may answer for, and that this
	// node does not know. They are taken when nobody answers any more. The value is this
	// node's turn: those whose turn comes before get the time to take them first.
	Orphaned map[netip.Addr]int
	// Leaving are addresses that another node owns now. They are given up when
	// that node is heard to announce them.
	Leaving map[netip.Addr]bool
	// Refresh is how often an address of Claims is announced again; never if it is not in it.
	Refresh map[netip.Addr]time.Duration
	// Records has the records of all addresses above, as far as there are any.
	Records map[netip.Addr]Record
	Ours    map[string]bool // the MACs of the cluster's nodes
	// Returns is View.Returns. When it grows, what is held is announced again.
	Returns uint64
}

// NewSet returns the Set of one decision: hold is held on its links, and asked for
// p.Disputed. What is known of other nodes is left out.
func NewSet(in Input, p Plan, hold []VIP) Set {
	s := Set{Claims: Claims(hold), Disputed: Claims(p.Disputed), Records: map[netip.Addr]Record{}, Refresh: map[netip.Addr]time.Duration{}}
	for _, v := range hold {
		if v.Refresh > 0 {
			s.Refresh[v.Addr] = v.Refresh
		}
	}
	for _, claims := range [][]Claim{s.Claims, s.Disputed} {
		for _, c := range claims {
			if a := in.Snapshot.Address(c.Addr); a != nil {
				// An address is probed once for each assignment: a take-over cannot wait 0.6 s for it.
				s.Records[c.Addr] = Record{UID: a.UID, Probed: !a.ProbedAt.IsZero(), Conflict: a.Conflict}
			}
		}
	}
	return s
}

// AwaitedOn returns, sorted, the names of the links on which s.Orphaned are waited for.
func (s Set) AwaitedOn() (links []string) {
	if len(s.Orphaned) == 0 {
		return nil
	}
	for _, c := range s.Claims {
		if _, awaited := s.Orphaned[c.Addr]; awaited {
			links = append(links, c.Link)
		}
	}
	slices.Sort(links)
	return slices.Compact(links)
}

// Ours returns the MACs of all nodes that are known: Set.Ours.
func Ours(in Input) map[string]bool {
	out := map[string]bool{}
	ours := func(st snapshot.Electable) {
		for _, l := range st.Links {
			out[l.MAC] = true
		}
	}
	ours(in.Self)
	for _, st := range in.Others {
		ours(st)
	}
	for _, st := range in.Snapshot.NodeStates {
		ours(st.Electable)
	}
	// An agent that starts while it hears nobody would take nodes for foreign hosts.
	for _, mac := range in.MACs {
		out[mac] = true
	}
	return out
}
