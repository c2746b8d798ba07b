package record

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Write is one write of an Address record.
type Write struct {
	Want   *allocator.AddressWant // nil: delete
	Have   *snapshot.Address      // nil: create
	Losers []snapshot.Holder      // who holds it now and is not to any more
}

// Addr is the address whose record is written.
func (w Write) Addr() netip.Addr {
	if w.Want != nil {
		return w.Want.Addr
	}
	return w.Have.Addr
}

// Blockers returns those of Losers whose new addresses the other holders wait for. A
// node's own address is shared by port: who has another port is not in the way there.
func (w Write) Blockers() []snapshot.Holder {
	if w.Want == nil || w.Want.Node == "" || w.Have == nil || w.Have.Node == "" {
		return w.Losers
	}
	return slices.DeleteFunc(slices.Clone(w.Losers), func(l snapshot.Holder) bool {
		return !slices.ContainsFunc(w.Want.Holders, func(h snapshot.Holder) bool {
			return slices.ContainsFunc(h.Ports, func(p snapshot.HeldPort) bool { return slices.Contains(l.Ports, p) })
		})
	})
}

// Takes reports whether uid is one of those that the write takes the address from.
func (w Write) Takes(uid string) bool {
	return slices.ContainsFunc(w.Losers, func(l snapshot.Holder) bool { return l.UID == uid })
}

// Writes compares the wanted records with those in the snapshot and returns what
// differs, by address.
func Writes(plan *allocator.Plan, s *snapshot.Snapshot) map[netip.Addr]Write {
	out := map[netip.Addr]Write{}
	have := make(map[netip.Addr]*snapshot.Address, len(s.Addresses))
	for _, a := range slices.Concat(s.Addresses, s.NodeAddresses) {
		have[a.Addr] = a
	}
	for i := range plan.Addresses {
		want := &plan.Addresses[i]
		old := have[want.Addr]
		delete(have, want.Addr)
		if old == nil || !same(*want, old) {
			out[want.Addr] = Write{Want: want, Have: old, Losers: losers(*want, old)}
		}
	}
	for addr, old := range have {
		if !old.Deleting {
			out[addr] = Write{Have: old, Losers: old.Holders}
		}
	}
	return out
}

func same(want allocator.AddressWant, have *snapshot.Address) bool {
	return want.Pool == have.Pool && want.Lease == have.Lease && want.Node == have.Node && want.ShareKey == have.ShareKey && want.ShareGroup == have.ShareGroup &&
		want.Freed.Namespace == have.Freed.Namespace && want.Freed.At.Equal(have.Freed.At) &&
		slices.EqualFunc(want.Holders, have.Holders, func(a, b snapshot.Holder) bool {
			return a.Ref == b.Ref && a.UID == b.UID && a.Pool == b.Pool && slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Ranges, b.Ranges)
		})
}

func losers(want allocator.AddressWant, have *snapshot.Address) []snapshot.Holder {
	if have == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(have.Holders), func(h snapshot.Holder) bool {
		return slices.ContainsFunc(want.Holders, func(w snapshot.Holder) bool { return w.Ref == h.Ref && w.UID == h.UID })
	})
}
