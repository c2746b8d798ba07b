package allocator

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Options is what the operator chose.
type Options struct {
	Class        string // the loadBalancerClass that is ours
	DefaultClass bool   // Services without a class are ours too
	// APIServers are addresses of the API server. No pool gives them.
	APIServers []netip.Addr
	Now        time.Time // whether a pool's cool-down is over depends on it; zero: no cool-downs
}

// Plan is the decision: everything that should be true, sorted.
type Plan struct {
	Services  []Outcome     // one for every Service of ours, by name
	Addresses []AddressWant // every record that is to exist, by address; others are to be deleted
	Releases  []Release     // who holds an address by a record and is to lose it, by address
	Pools     []PoolOutcome // one for every pool, by name
	Again     time.Time     // when to decide again even if nothing happens, as an address has cooled down, a prefix is to go or a lease ends; zero: not at all
}

// Outcome is what one Service gets.
type Outcome struct {
	Ref     snapshot.Ref
	UID     string
	Addrs   []netip.Addr // what it is to hold, primary family first; none if refused
	OfNodes bool         // Addrs are the nodes' own addresses, any number of them: nobody announces them
	Pool    string       // of Addrs; several have commas; "" if outside all pools or none
	Kept    bool         // its records name just Addrs: no news
	Leaving []netip.Addr // those of Addrs, the last ones, that it keeps for a while yet: of its pool's former prefixes
	Adopted bool         // it had Addrs in its status, and gets the record for it

	Refusal  *snapshot.Refusal  // why it holds nothing, or not what it now asks for; nil if all is well
	Warnings []snapshot.Refusal // what else its owner should know
}

// AddressWant is one record as it should be.
type AddressWant struct {
	Addr       netip.Addr
	Pool       string // that it was given from last; it may have lost the address since, or be gone
	Lease      string // the ID of the lease by which Pool has it, and gives it no longer than that lasts; "": by none
	Node       string // whose own address it is; "" if it is of a pool's ranges
	ShareKey   string
	ShareGroup string            // what the holders of a shared address have in common; see snapshot.Address
	Holders    []snapshot.Holder // by name; none while the address cools down
	Freed      snapshot.Freed    // without holders: who held it last
}

// Release is one holder that a record loses.
type Release struct {
	Addr netip.Addr
	snapshot.Holder
}

// PoolOutcome is what one pool's status should say. Free counts what the pool can still
// give: 0 while it gives nothing.
type PoolOutcome struct {
	Name        string
	Status      snapshot.PoolStatus
	Ready       snapshot.Condition
	Conflicting snapshot.Condition
	Prefix      snapshot.Condition // zero if the pool follows no prefix
	Prefixes    []snapshot.PoolPrefix
	Leasing     snapshot.Condition // zero if the pool leases nothing
	Leases      []snapshot.PoolLease
}

// String prints one line for each Service and each release. The words are keep,
// adopt, assign, move (it held another), wait (nothing to hold) and refuse.
func (p *Plan) String() string {
	var b strings.Builder
	lost := map[snapshot.Ref]bool{}
	for _, r := range p.Releases {
		lost[r.Ref] = true
	}
	for i := range p.Services {
		b.WriteString(p.Services[i].line(lost[p.Services[i].Ref]))
	}
	for _, r := range p.Releases {
		fmt.Fprintf(&b, "release %s %s\n", r.Ref, r.Addr)
	}
	return b.String()
}

func (o *Outcome) line(lost bool) string {
	var b strings.Builder
	switch {
	case len(o.Addrs) == 0 && o.Refusal != nil:
		fmt.Fprintf(&b, "refuse %s %s", o.Ref, o.Refusal.Reason)
	case len(o.Addrs) == 0:
		fmt.Fprintf(&b, "leave %s", o.Ref)
	default:
		verb := "assign"
		switch {
		case o.Kept:
			verb = "keep"
		case o.Adopted:
			verb = "adopt"
		case lost:
			verb = "move"
		}
		fmt.Fprintf(&b, "%s %s %s", verb, o.Ref, join(o.Addrs))
		if o.Pool != "" {
			b.WriteString(" pool=" + o.Pool)
		}
		if o.Refusal != nil {
			b.WriteString(" refused=" + string(o.Refusal.Reason))
		}
	}
	for _, w := range o.Warnings {
		b.WriteString(" warning=" + string(w.Reason))
	}
	b.WriteString("\n")
	return b.String()
}

// String prints the record on one line.
func (w AddressWant) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s pool=%s", w.Addr, w.Pool)
	if w.Node != "" {
		fmt.Fprintf(&b, " node=%s", w.Node)
	}
	if w.ShareKey != "" {
		fmt.Fprintf(&b, " key=%s", w.ShareKey)
	}
	for _, h := range w.Holders {
		b.WriteString(" " + h.Ref.String())
		for i, p := range h.Ports {
			fmt.Fprintf(&b, "%c%s/%d", ":,"[min(i, 1)], p.Protocol, p.Port)
		}
		if len(h.Ranges) > 0 {
			b.WriteString(" ports " + snapshot.PortRangesText(h.Ranges))
		}
	}
	return b.String()
}

// String prints the counters and conditions on one line.
func (p PoolOutcome) String() string {
	var b strings.Builder
	b.WriteString(p.Name)
	for _, f := range []struct {
		name string
		snapshot.PoolCount
	}{{"ipv4", p.Status.IPv4}, {"ipv6", p.Status.IPv6}} {
		if f.PoolCount != (snapshot.PoolCount{}) {
			fmt.Fprintf(&b, " %s=%d/%d/%d", f.name, f.Total, f.Assigned, f.Free)
		}
	}
	b.WriteString(" " + p.Ready.Reason)
	if p.Conflicting.Status == "True" {
		b.WriteString(" " + p.Conflicting.Reason)
	}
	if p.Prefix.Reason != "" {
		b.WriteString(" " + p.Prefix.Reason)
	}
	for _, k := range p.Prefixes {
		fmt.Fprintf(&b, " %s=%s", k.State, k.Prefix)
	}
	if p.Leasing.Reason != "" {
		b.WriteString(" " + p.Leasing.Reason)
	}
	for _, l := range p.Leases {
		fmt.Fprintf(&b, " %s=", l.Ref)
		if l.Addr.IsValid() {
			b.WriteString(l.Addr.String())
		} else {
			b.WriteString(l.Family.String() + "?")
		}
	}
	return b.String()
}

// plan writes the decision down.
func (d *decision) plan() *Plan {
	held := d.held()
	p := &Plan{Services: make([]Outcome, 0, len(d.services)), Addresses: make([]AddressWant, 0, len(held))}
	n := 0
	for _, s := range held {
		n += len(s.holders)
	}
	// One buffer for all: 10,000 Services have 50 ms of CPU time (make bench WHAT=allocator).
	addrs, holders := make([]netip.Addr, 0, n), make([]snapshot.Holder, 0, n)
	for i := range d.services {
		p.Services = append(p.Services, d.outcome(&d.services[i], &addrs))
	}
	for _, s := range held {
		p.Addresses = append(p.Addresses, s.want(&holders))
	}
	d.planCooling(p)
	d.planNodes(p)
	for i := range d.recorded {
		s := &d.recorded[i]
		for _, h := range s.record.Holders {
			if !s.heldBy(h) {
				p.Releases = append(p.Releases, Release{s.addr, h})
			}
		}
	}
	d.planLeavers(p)
	slices.SortFunc(p.Releases, func(a, b Release) int {
		return cmp.Or(a.Addr.Compare(b.Addr), a.Ref.Compare(b.Ref), cmp.Compare(a.UID, b.UID))
	})
	// No event tells that a lease ended.
	if !d.leased.IsZero() && !d.now.IsZero() && (p.Again.IsZero() || d.leased.Before(p.Again)) {
		p.Again = d.leased
	}
	for _, pl := range d.pools.all {
		out := pl.outcome()
		if f := d.followed[pl.Name]; f != nil {
			out.Prefix, out.Prefixes = f.condition, f.known
			if !f.again.IsZero() && (p.Again.IsZero() || f.again.Before(p.Again)) {
				p.Again = f.again
			}
		}
		if pl.FromDHCP != nil {
			d.planLeases(pl, &out)
		}
		p.Pools = append(p.Pools, out)
	}
	return p
}

func (s *slot) heldBy(h snapshot.Holder) bool {
	return slices.ContainsFunc(s.holders, func(svc *service) bool { return svc.Ref == h.Ref && svc.UID == h.UID })
}

// want returns the record of s, with its holders at the end of buf.
func (s *slot) want(buf *[]snapshot.Holder) AddressWant {
	w := AddressWant{Addr: s.addr, ShareKey: s.key}
	if s.key != "" {
		w.ShareGroup = s.group
	}
	switch {
	case s.pool != nil:
		w.Pool = s.pool.Name
		// When that lease ends, the server may give the address to others.
		if l, ok := s.pool.LeaseOf(s.addr); ok {
			w.Lease = l.ID
		}
	case s.record != nil:
		// A pool that shrinks or goes moves nobody: the record still says where the address came from.
		w.Pool = s.record.Pool
	}
	start := len(*buf)
	for _, svc := range s.holders {
		*buf = append(*buf, snapshot.Holder{Ref: svc.Ref, UID: svc.UID, Ports: svc.ports[:min(len(svc.ports), portsMax)], Ranges: s.rangesOf(svc)})
	}
	w.Holders = (*buf)[start:len(*buf):len(*buf)]
	slices.SortFunc(w.Holders, func(a, b snapshot.Holder) int {
		return cmp.Or(a.Ref.Compare(b.Ref), cmp.Compare(a.UID, b.UID))
	})
	return w
}

func (d *decision) outcome(svc *service, buf *[]netip.Addr) Outcome {
	o := Outcome{Ref: svc.Ref, UID: svc.UID, Addrs: svc.addrs(buf), Refusal: svc.refusal, Warnings: svc.warnings}
	if svc.nodePool != nil {
		return svc.nodeOutcome(o)
	}
	if len(o.Addrs) == 0 && len(svc.leaving) == 0 {
		// A Service that had something and has nothing now is news.
		o.Kept = len(svc.before)+len(svc.nodesBefore)+len(svc.left) == 0
		return o
	}
	o.Kept = len(svc.nodesBefore)+len(svc.left) == 0 && len(svc.before) == len(o.Addrs) && !slices.ContainsFunc(o.Addrs, func(a netip.Addr) bool { return !slices.Contains(svc.before, a) })
	o.Adopted = svc.adopted && !o.Kept && len(svc.before) == 0
	if len(svc.held) == 0 {
		o.Pool = svc.leaving[0].pool
	} else {
		o.Pool = svc.poolsOf(o.Addrs)
	}
	for _, l := range svc.leaving {
		o.Leaving = append(o.Leaving, l.Addr)
	}
	o.Addrs = slices.Concat(o.Addrs, o.Leaving)
	if more := d.warnings(svc); more != nil {
		o.Warnings = append(slices.Clip(o.Warnings), more...)
	}
	return o
}

// warnings tells what is wrong with the addresses that svc keeps.
func (d *decision) warnings(svc *service) []snapshot.Refusal {
	var out []snapshot.Refusal
	for _, s := range svc.held {
		if why, lapsing := s.lapsing(); lapsing {
			out = append(out, why)
		}
		switch {
		case s.pool == nil:
			out = append(out, snapshot.Refusal{Reason: OutsidePools, Message: d.outside(s.addr)})
		case s.pool.off == PoolInvalid || s.pool.off == PoolConflicting:
			out = append(out, snapshot.Refusal{Reason: s.pool.off, Message: fmt.Sprintf("%s is kept, but %s", s.addr, s.pool.why())})
		case !s.pool.serves(svc.Service, svc.ns):
			out = append(out, snapshot.Refusal{Reason: NotSelected, Message: fmt.Sprintf("%s is kept, but pool %s no longer selects this Service", s.addr, s.pool.Name)})
		}
	}
	return out
}

func (d *decision) outside(addr netip.Addr) string {
	if why := d.pools.skipping(addr); why != "" {
		return fmt.Sprintf("%s is kept, but it %s", addr, why)
	}
	if p := d.pools.containing(addr); p != nil {
		return fmt.Sprintf("%s is kept, but pool %s avoids addresses that end in .0 or .255", addr, p.Name)
	}
	return fmt.Sprintf("%s is kept, but no pool contains it", addr)
}
