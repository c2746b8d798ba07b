package allocator

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// keepHolders lets the holders of the records keep their addresses. Who edited itself
// out of a shared address loses it; the others stay.
func (d *decision) keepHolders() {
	live := make([]*service, 0, len(d.services)) // the holders that are left, record by record
	ends := make([]int, len(d.recorded))
	for i := range d.recorded {
		live = d.living(d.recorded[i].record, live)
		ends[i] = len(live)
	}
	start := 0
	for i := range d.recorded {
		s := &d.recorded[i]
		d.admit(s, live[start:ends[i]])
		// Without a holder it would be given again, and deleted under the next one (story deleting-record).
		if s.record.Deleting && start == ends[i] {
			d.block(s)
		}
		start = ends[i]
	}
}

// living appends the holders of a that may still hold something.
func (d *decision) living(a *snapshot.Address, to []*service) []*service {
	for _, h := range a.Holders {
		svc := d.byRef[h.Ref]
		// A Service that was made again has another UID: it is another holder.
		if svc == nil || svc.UID != h.UID {
			continue
		}
		if svc.before == nil {
			svc.before = svc.beforeBuf[:0]
		}
		// Also of a Service that is to hold nothing: its release has to be told.
		svc.before = append(svc.before, a.Addr)
		if svc.idle {
			continue
		}
		// An annotation that cannot be read changes nothing: the record has what it said last.
		if svc.broken != nil && svc.key == "" {
			svc.key = a.ShareKey
		}
		if svc.broken != nil && svc.ranges == nil {
			svc.ranges = a.Ranges(svc.Ref, svc.UID) // the last ones that could be read
		}
		// A controller that was stopped in the middle of a move leaves two records.
		svc.double = svc.double || len(svc.before) > 2 || len(svc.before) == 2 && svc.before[0].Is4() == svc.before[1].Is4()
		to = append(to, svc)
	}
	return to
}

// admit gives s to those of live that may keep it.
func (d *decision) admit(s *slot, live []*service) {
	if len(live) > 1 {
		d.rankHolders(s.record, live)
	}
	for _, svc := range live {
		if svc.double && !d.keeps(svc, s.addr) {
			continue
		}
		if s.leaseEnded() || s.fault(svc, true) != fits {
			// It goes before those who wait, though it may be younger (spec 39).
			svc.displaced = true
			continue
		}
		d.assign(svc, s)
	}
}

// rankHolders sorts the holders of a shared address: who is as the record says,
// then who can share with more of the others, then by age.
func (d *decision) rankHolders(a *snapshot.Address, live []*service) {
	type group struct{ key, backend string }
	peers := map[group]int{}
	for _, svc := range live {
		peers[group{svc.key, svc.group}]++
	}
	// Who edited itself out of a shared address leaves, though it is the oldest (spec 39).
	slices.SortFunc(live, func(x, y *service) int {
		return cmp.Or(cmp.Compare(index(x.edited(a)), index(y.edited(a))),
			cmp.Compare(peers[group{y.key, y.group}], peers[group{x.key, x.group}]), compareServices(x, y))
	})
}

// edited reports whether svc is no longer the holder that the record describes.
func (svc *service) edited(a *snapshot.Address) bool {
	// A record of several groups does not say which one its holder had.
	if svc.key != a.ShareKey || svc.group != a.ShareGroup && a.ShareGroup != severalGroups {
		return true
	}
	for _, h := range a.Holders {
		if h.UID == svc.UID {
			return !slices.Equal(h.Ports, svc.ports)
		}
	}
	return true
}

// adopt makes holders of Services whose status names an address of a pool that
// nobody holds: records that were wiped, or Services of another allocator.
func (d *decision) adopt() {
	for _, svc := range d.ranked {
		// One that has just lost a shared address still names it in its status.
		if len(svc.Ingress) == 0 || svc.displaced || svc.nodePool != nil || len(svc.nodesBefore) > 0 || len(svc.held) >= svc.seats() {
			continue
		}
		d.adoptOne(svc)
	}
}

func (d *decision) adoptOne(svc *service) {
	var found []netip.Addr
	var why *snapshot.Refusal
	for _, in := range svc.Ingress {
		ip := in.IP.Unmap()
		f := snapshot.FamilyOf(ip)
		// An address of a former prefix has its own way to stay: see keepLeavers.
		if !ip.IsValid() || d.isLeaver(ip) || !svc.wants(f) || slices.Contains(found, ip) || svc.holds(ip) || svc.heldOfFamily(f)+countFamily(found, f) >= svc.room(f) {
			continue
		}
		if no := d.adoptable(svc, ip, found); no != nil {
			why = cmp.Or(why, no)
			continue
		}
		found = append(found, ip)
	}
	// RequireDualStack: both addresses are adopted, or none.
	if len(svc.held) == 0 && familiesOf(found) < len(svc.families) && !svc.prefer {
		found = nil
	}
	if len(found) > 0 {
		d.takeAll(svc, found)
		svc.adopted = true
		return
	}
	// Without any pool the status stays as it is: a later pool may adopt the address.
	if why != nil && len(svc.held) == 0 && len(d.pools.all) > 0 {
		svc.warnings = append(slices.Clip(svc.warnings), snapshot.Refusal{Reason: StatusIgnored,
			Message: fmt.Sprintf("the status names an address without a record, which cannot be adopted: %s", why.Message)})
	}
}

// adoptable tells why svc cannot have addr for its status; nil if it can. A
// disabled pool keeps holders, so it lets them be adopted too.
func (d *decision) adoptable(svc *service, addr netip.Addr, found []netip.Addr) *snapshot.Refusal {
	p := d.pools.giving(addr)
	// A status does not lock: what may not be asked for may not be adopted (story adopt-not-everything).
	if why := d.mayGive(svc, addr); why != nil && !(why.Reason == PoolDisabled && p.serves(svc.Service, svc.ns)) {
		return why
	}
	if why := d.mayJoin(svc, addr); why != nil {
		return why
	}
	beside := slices.Clone(found)
	for _, s := range svc.held {
		beside = append(beside, s.addr)
	}
	for _, a := range beside {
		if !d.fitsBeside(svc, p, addr, a) {
			return refuse(ConflictingRequest, "%s is not in the pool of %s", addr, a)
		}
	}
	return nil
}
