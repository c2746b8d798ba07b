package allocator

import (
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// slot is one address and who holds it while one decision is made.
type slot struct {
	addr    netip.Addr
	record  *snapshot.Address // nil if there is none
	pool    *pool             // nil: outside all pools
	claims  []*claim
	blocked bool // its record is on the way out: nobody may have it yet

	// What the holders have in common. Meaningless while there are none.
	key, backend string
	ports        map[snapshot.HeldPort]struct{} // with a key only
	listed       bool                           // in the ledger's list of key

	one [1]*claim // where claims begins: most addresses have one holder
}

// holdersMax is how many holders the Address kind can store.
const holdersMax = 1024

// fault is why a claim may not share a slot.
type fault uint8

const (
	fits fault = iota
	onItsWayOut
	notShared // one of the two has no key
	otherKey
	otherBackend
	portTaken
	noConsent
	tooMany
)

// fault tells whether c may join the holders of s. Those who share already
// (staying) are not parted by an annotation that cannot be read.
func (s *slot) fault(c *claim, staying bool) fault {
	switch {
	case s.blocked:
		return onItsWayOut
	case len(s.claims) == 0:
		return fits
	case s.key == "" || c.key == "":
		return notShared
	case s.key != c.key:
		return otherKey
	case s.backend != c.backend:
		return otherBackend
	case len(s.claims) >= holdersMax:
		return tooMany
	}
	for _, p := range c.ports {
		if _, taken := s.ports[p]; taken {
			return portTaken
		}
	}
	for _, o := range s.claims {
		if staying && (o.broken != nil || c.broken != nil) {
			continue
		}
		if !o.consents(c.svc.Namespace) || !c.consents(o.svc.Namespace) {
			return noConsent
		}
	}
	return fits
}

// refusal puts f in words for c, which may not have s.
func (s *slot) refusal(c *claim, f fault) *snapshot.Refusal {
	if f == onItsWayOut {
		return refuse(AddressInUse, "the record of %s is being deleted", s.addr)
	}
	first := s.first()
	if f == notShared && c.key == "" {
		return refuse(AddressInUse, "%s is held by %s", s.addr, first)
	}
	why := ""
	switch f {
	case notShared:
		why = "which does not share it"
	case otherKey:
		why = "which shares it with another key"
	case otherBackend:
		why = "which has another externalTrafficPolicy or, with Local, other pods"
	case portTaken:
		why = "and a port that this Service needs is taken on it"
	case noConsent:
		why = "and not all holders and this Service name each other's namespace in " + AnnotationShareNamespaces
	case tooMany:
		why = "and " + strconv.Itoa(holdersMax-1) + " others: it is full"
	}
	return refuse(ShareRefused, "%s is held by %s, %s", s.addr, first, why)
}

// first returns the holder whose name sorts first.
func (s *slot) first() snapshot.Ref {
	least := s.claims[0].svc.Ref
	for _, c := range s.claims[1:] {
		if c.svc.Ref.Compare(least) < 0 {
			least = c.svc.Ref
		}
	}
	return least
}

// ledger is who holds what while one decision is made. All changes go through
// take and drop, which keep the pools' free sets true.
type ledger struct {
	recorded []slot // one for each record, by address
	fresh    map[netip.Addr]*slot
	pools    *pools
	shared   map[string]*sharers
	released []*slot // by drop, since somebody last emptied the list
}

// sharers lists the slots of one share key in the order in which they got it.
// skip is how many of them, from the first, refuse all claims that look alike.
type sharers struct {
	slots []*slot
	skip  map[string]int
	// sorted by address, which spoils the order and so comes last
	sorted bool
}

func newLedger(ps *pools, records []*snapshot.Address) *ledger {
	l := &ledger{recorded: make([]slot, len(records)), fresh: map[netip.Addr]*slot{}, pools: ps, shared: map[string]*sharers{}}
	for i, a := range records {
		l.recorded[i] = slot{addr: a.Addr, record: a, pool: ps.of(a.Addr)}
	}
	return l
}

// find returns the slot of addr, or nil.
func (l *ledger) find(addr netip.Addr) *slot {
	if s := l.fresh[addr]; s != nil {
		return s
	}
	i := sort.Search(len(l.recorded), func(i int) bool { return !l.recorded[i].addr.Less(addr) })
	if i < len(l.recorded) && l.recorded[i].addr == addr {
		return &l.recorded[i]
	}
	return nil
}

// slot returns the slot of addr and makes it if need be.
func (l *ledger) slot(addr netip.Addr) *slot {
	s := l.find(addr)
	if s == nil {
		s = &slot{addr: addr, pool: l.pools.of(addr)}
		l.fresh[addr] = s
	}
	return s
}

// held returns all slots that somebody holds, by address.
func (l *ledger) held() []*slot {
	out := make([]*slot, 0, len(l.recorded)+len(l.fresh))
	for i := range l.recorded {
		if s := &l.recorded[i]; len(s.claims) > 0 {
			out = append(out, s)
		}
	}
	sorted := len(out)
	for _, s := range l.fresh {
		if len(s.claims) > 0 {
			out = append(out, s)
		}
	}
	if len(out) > sorted {
		slices.SortFunc(out, func(a, b *slot) int { return a.addr.Compare(b.addr) })
	}
	return out
}

// block keeps s from everybody.
func (l *ledger) block(s *slot) {
	s.blocked = true
	if s.pool != nil {
		s.pool.block(snapshot.FamilyOf(s.addr)).free.take(numOf(s.addr))
	}
}

func (l *ledger) take(c *claim, s *slot) {
	if len(s.claims) == 0 {
		s.claims = s.one[:0]
		s.key, s.backend, s.ports = c.key, c.backend, nil
		if s.pool != nil {
			b := s.pool.block(snapshot.FamilyOf(s.addr))
			b.free.take(numOf(s.addr))
			b.assigned++
		}
	}
	if c.key != "" {
		l.list(c, s)
	}
	if c.held == nil {
		c.held = c.heldBuf[:0]
	}
	s.claims = append(s.claims, c)
	c.held = append(c.held, s)
}

// list notes the ports of c, and s among those that share its key.
func (l *ledger) list(c *claim, s *slot) {
	if s.ports == nil {
		s.ports = make(map[snapshot.HeldPort]struct{}, len(c.ports))
	}
	for _, p := range c.ports {
		s.ports[p] = struct{}{}
	}
	if s.listed {
		return
	}
	s.listed = true
	sh := l.shared[c.key]
	if sh == nil {
		sh = &sharers{skip: map[string]int{}}
		l.shared[c.key] = sh
	}
	sh.slots = append(sh.slots, s)
}

func (l *ledger) drop(c *claim, s *slot) {
	s.claims = slices.DeleteFunc(s.claims, func(o *claim) bool { return o == c })
	c.held = slices.DeleteFunc(c.held, func(o *slot) bool { return o == s })
	l.released = append(l.released, s)
	if sh := l.shared[s.key]; sh != nil {
		clear(sh.skip)
	}
	if len(s.claims) > 0 {
		for _, p := range c.ports {
			delete(s.ports, p)
		}
		return
	}
	s.listed = false
	if s.pool != nil {
		b := s.pool.block(snapshot.FamilyOf(s.addr))
		b.free.give(numOf(s.addr))
		b.assigned--
	}
}

// joinable returns the first slot of family f with the key of c that c may
// join, in a pool that ok allows; nil if there is none.
func (l *ledger) joinable(c *claim, f snapshot.Family, ok func(*pool) bool) *slot {
	sh := l.shared[c.key]
	if c.key == "" || sh == nil {
		return nil
	}
	look := c.look(f)
	start, prefix := sh.skip[look], true
	for i := start; i < len(sh.slots); i++ {
		s := sh.slots[i]
		if snapshot.FamilyOf(s.addr) != f || len(s.claims) == 0 || s.fault(c, false) != fits {
			if prefix {
				sh.skip[look] = i + 1
			}
			continue
		}
		prefix = false
		if s.pool != nil && ok(s.pool) {
			return s
		}
	}
	return nil
}

// look is what decides which slots of its key refuse c. It is empty for the
// same claims for which fault gives the same answer.
func (c *claim) look(f snapshot.Family) string {
	var b strings.Builder
	b.WriteString(f.String())
	b.WriteString("\n" + c.svc.Namespace + "\n" + strings.Join(c.req.consent, ",") + "\n" + c.backend)
	for _, p := range c.ports {
		b.WriteString("\n" + p.Protocol.String() + strconv.Itoa(int(p.Port)))
	}
	return b.String()
}

// least returns the lowest address that others hold with the key of c and that
// c may not share; nil if there is none.
func (sh *sharers) least(c *claim) *slot {
	if !sh.sorted {
		sh.sorted = true
		slices.SortFunc(sh.slots, func(a, b *slot) int { return a.addr.Compare(b.addr) })
	}
	for _, s := range sh.slots {
		if len(s.claims) > 0 && s.key == c.key && c.wants(snapshot.FamilyOf(s.addr)) && !slices.Contains(s.claims, c) {
			if s.fault(c, false) != fits {
				return s
			}
		}
	}
	return nil
}
