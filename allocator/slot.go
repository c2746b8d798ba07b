package allocator

import (
	"fmt"
	"maps"
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
	holders []*service
	blocked bool // its record is on the way out: nobody may have it yet

	// What the holders have in common. Meaningless without holders.
	key, group string
	ports      map[snapshot.HeldPort]struct{} // with a key only
	listed     bool                           // in the ledger's list of key

	firstHolder [1]*service // where holders begins: most addresses have one holder
}

// holdersMax is how many holders the Address kind can store.
const holdersMax = 1024

// sharedPortsMax is how many ports a new holder may bring a shared address to: etcd
// stores objects of up to 1.5 MiB, and a port with its managed fields takes 120 bytes.
const sharedPortsMax = 8192

// fault is why a Service may not share a slot.
type fault uint8

const (
	fits fault = iota
	onItsWayOut
	notShared // one of the two has no key
	otherKey
	otherGroup
	rangesTaken
	portTaken
	noConsent
	tooMany
)

// fault returns why svc may not join the holders of s. Those who share already
// (staying) are not parted by an annotation that cannot be read.
func (s *slot) fault(svc *service, staying bool) fault {
	switch {
	// A holder that joined now would lose the address with the record.
	case s.blocked:
		return onItsWayOut
	case len(s.holders) == 0:
		return fits
	case s.key == "" || svc.key == "":
		return notShared
	case s.key != svc.key:
		return otherKey
	case !s.together(svc, staying):
		return otherGroup
	// The kernel's maps of ranges have address and protocol for a key: nobody else may be there.
	case !staying && (len(svc.ranges) > 0 || s.ranged()):
		return rangesTaken
	case !staying && s.full(svc):
		return tooMany
	}
	// Nothing would tell which of two Services a packet to that port is for.
	for _, p := range svc.ports {
		if _, taken := s.ports[p]; taken {
			return portTaken
		}
	}
	for _, o := range s.holders {
		// Who shares already keeps the address while somebody corrects the annotation.
		if staying && (o.broken != nil || svc.broken != nil) {
			continue
		}
		if !o.consents(svc.Namespace) || !svc.consents(o.Namespace) {
			return noConsent
		}
	}
	return fits
}

// full reports whether the record of s has no room for svc.
func (s *slot) full(svc *service) bool {
	return len(s.holders) >= holdersMax || len(s.ports)+len(svc.ports) > sharedPortsMax ||
		slices.ContainsFunc(s.holders, func(o *service) bool { return len(o.ports) > portsMax })
}

// refusal puts f in words for svc, which may not have s.
func (s *slot) refusal(svc *service, f fault) *snapshot.Refusal {
	if f == onItsWayOut {
		return refuse(AddressInUse, "the record of %s is being deleted", s.addr)
	}
	first := s.first()
	if f == notShared && svc.key == "" {
		return refuse(AddressInUse, "%s is held by %s", s.addr, first)
	}
	why := ""
	switch f {
	case notShared:
		why = "which does not share it"
	case otherKey:
		why = "which shares it with another key"
	case otherGroup:
		why = s.apart(svc)
	case rangesTaken:
		why = "and a Service with ranges of ports (" + AnnotationPorts + ") shares no address"
	case portTaken:
		why = "and a port that this Service needs is taken on it"
	case noConsent:
		why = "and not all holders and this Service name each other's namespace in " + AnnotationShareNamespaces
	case tooMany:
		why = fmt.Sprintf("and has no room: %d Services with %d ports can share an address", holdersMax, sharedPortsMax)
	}
	return refuse(ShareRefused, "%s is held by %s, %s", s.addr, first, why)
}

// first returns the holder whose name sorts first.
func (s *slot) first() snapshot.Ref {
	least := s.holders[0].Ref
	for _, svc := range s.holders[1:] {
		if svc.Ref.Compare(least) < 0 {
			least = svc.Ref
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
	cools    bool    // pools' cool-downs count
}

// sharers lists the slots of one share key in the order in which they got it.
// skip is how many of them, from the first, refuse all Services that look alike.
type sharers struct {
	slots []*slot
	skip  map[string]int
	// sorted by address, which spoils the order and so comes last
	sorted bool
}

func newLedger(ps *pools, records []*snapshot.Address) *ledger {
	l := &ledger{recorded: make([]slot, len(records)), fresh: map[netip.Addr]*slot{}, pools: ps, shared: map[string]*sharers{}}
	for i, a := range records {
		l.recorded[i] = slot{addr: a.Addr, record: a, pool: ps.giving(a.Addr)}
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
		s = &slot{addr: addr, pool: l.pools.giving(addr)}
		l.fresh[addr] = s
	}
	return s
}

// held returns all slots that somebody holds, by address.
func (l *ledger) held() []*slot {
	out := make([]*slot, 0, len(l.recorded)+len(l.fresh))
	for i := range l.recorded {
		if s := &l.recorded[i]; len(s.holders) > 0 {
			out = append(out, s)
		}
	}
	sorted := len(out)
	for _, s := range l.fresh {
		if len(s.holders) > 0 {
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
		s.pool.block(snapshot.FamilyOf(s.addr)).free.remove(numOf(s.addr))
	}
}

func (l *ledger) assign(svc *service, s *slot) {
	if len(s.holders) == 0 {
		s.holders = s.firstHolder[:0]
		s.key, s.group, s.ports = svc.key, svc.group, nil
		if s.pool != nil {
			b := s.pool.block(snapshot.FamilyOf(s.addr))
			if _, kept := s.pool.reserved[s.addr]; kept {
				// It counts as assigned now: what a pool has free would be too little by one.
				b.reserved--
			}
			b.take(numOf(s.addr))
			b.assigned++
		}
	}
	if svc.key != "" {
		l.list(svc, s)
	}
	if svc.held == nil {
		svc.held = svc.heldBuf[:0]
	}
	if s.ofNamespace(svc.Namespace) == 0 {
		s.pool.note(svc.Namespace, 1)
	}
	s.holders = append(s.holders, svc)
	if s.group != svc.group {
		s.group = severalGroups
	}
	svc.held = append(svc.held, s)
}

// list notes the ports of svc, and s among those that share its key.
func (l *ledger) list(svc *service, s *slot) {
	if s.ports == nil {
		s.ports = make(map[snapshot.HeldPort]struct{}, len(svc.ports))
	}
	for _, p := range svc.ports {
		s.ports[p] = struct{}{}
	}
	if s.listed {
		return
	}
	s.listed = true
	sh := l.shared[svc.key]
	if sh == nil {
		sh = &sharers{skip: map[string]int{}}
		l.shared[svc.key] = sh
	}
	sh.slots = append(sh.slots, s)
}

func (l *ledger) release(svc *service, s *slot) {
	s.holders = slices.DeleteFunc(s.holders, func(o *service) bool { return o == svc })
	svc.held = slices.DeleteFunc(svc.held, func(o *slot) bool { return o == s })
	if s.ofNamespace(svc.Namespace) == 0 {
		s.pool.note(svc.Namespace, -1)
	}
	l.released = append(l.released, s)
	if sh := l.shared[s.key]; sh != nil {
		// The slots that refused may fit now.
		clear(sh.skip)
	}
	if len(s.holders) > 0 {
		for _, p := range svc.ports {
			delete(s.ports, p)
		}
		if s.group == severalGroups {
			s.group = groupOf(s.holders)
		}
		return
	}
	s.listed = false
	if s.pool != nil {
		b := s.pool.block(snapshot.FamilyOf(s.addr))
		b.assigned--
		// It goes back to the Service that the pool keeps it for, and to no other.
		if _, kept := s.pool.reserved[s.addr]; kept {
			b.reserved++
			return
		}
		// Clients know it from DNS for a while, and reached the Service of another tenant.
		if l.cools && s.pool.CoolDown > 0 && s.record != nil {
			b.keepFor(svc.Namespace, numOf(s.addr))
		} else {
			b.free.putBack(numOf(s.addr))
		}
	}
}

// joinable returns the first slot of family f with the key of svc that svc may
// join, in a pool that ok allows; nil if there is none.
func (l *ledger) joinable(svc *service, f snapshot.Family, ok func(*pool) bool) *slot {
	sh := l.shared[svc.key]
	if svc.key == "" || sh == nil {
		return nil
	}
	traits := svc.shareTraits(f)
	start, prefix := sh.skip[traits], true
	for i := start; i < len(sh.slots); i++ {
		s := sh.slots[i]
		if snapshot.FamilyOf(s.addr) != f || len(s.holders) == 0 || s.fault(svc, false) != fits {
			if prefix {
				sh.skip[traits] = i + 1
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

// shareTraits returns everything about svc by which slots of its key refuse it:
// fault gives the same answer for all Services with equal traits.
func (svc *service) shareTraits(f snapshot.Family) string {
	var b strings.Builder
	b.WriteString(f.String())
	b.WriteString("\n" + svc.Namespace + "\n" + strings.Join(svc.req.consent, ",") + "\n" + svc.group)
	// With policy Local, whether two can share depends on where their pods are.
	for _, n := range slices.Sorted(maps.Keys(svc.servedOn(f))) {
		b.WriteString(" " + n)
	}
	if len(svc.ranges) > 0 {
		b.WriteString("\nranges")
	}
	for _, p := range svc.ports {
		b.WriteString("\n" + p.Protocol.String() + strconv.Itoa(int(p.Port)))
	}
	return b.String()
}

// least returns the lowest address that others hold with the key of svc and that
// svc may not share; nil if there is none.
func (sh *sharers) least(svc *service) *slot {
	if !sh.sorted {
		sh.sorted = true
		// By address: a message must not change from one decision to the next.
		slices.SortFunc(sh.slots, func(a, b *slot) int { return a.addr.Compare(b.addr) })
	}
	for _, s := range sh.slots {
		if len(s.holders) > 0 && s.key == svc.key && svc.wants(snapshot.FamilyOf(s.addr)) && !slices.Contains(s.holders, svc) {
			if s.fault(svc, false) != fits {
				return s
			}
		}
	}
	return nil
}
