// Package controller makes the allocator's Plan true in the API: Address
// records, finalizers, Service status and conditions, pool counters, Events.
// One of its replicas, the leader, acts.
package controller

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// recordWrite is one write of an Address record.
type recordWrite struct {
	want   *allocator.AddressWant // nil: delete
	have   *snapshot.Address      // nil: create
	losers []snapshot.Holder      // who holds it now and is not to any more
}

func (w recordWrite) addr() netip.Addr {
	if w.want != nil {
		return w.want.Addr
	}
	return w.have.Addr
}

// recordWrites compares the wanted records with those in the snapshot and
// returns what differs, by address.
func recordWrites(plan *allocator.Plan, s *snapshot.Snapshot) map[netip.Addr]recordWrite {
	out := map[netip.Addr]recordWrite{}
	have := make(map[netip.Addr]*snapshot.Address, len(s.Addresses))
	for _, a := range s.Addresses {
		have[a.Addr] = a
	}
	for i := range plan.Addresses {
		want := &plan.Addresses[i]
		old := have[want.Addr]
		delete(have, want.Addr)
		if old == nil || !sameRecord(*want, old) {
			out[want.Addr] = recordWrite{want: want, have: old, losers: losers(*want, old)}
		}
	}
	for addr, old := range have {
		if !old.Deleting {
			out[addr] = recordWrite{have: old, losers: old.Holders}
		}
	}
	return out
}

func sameRecord(want allocator.AddressWant, have *snapshot.Address) bool {
	return want.Pool == have.Pool && want.ShareKey == have.ShareKey && want.Backend == have.Backend &&
		slices.EqualFunc(want.Holders, have.Holders, func(a, b snapshot.Holder) bool {
			return a.Ref == b.Ref && a.UID == b.UID && slices.Equal(a.Ports, b.Ports)
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

// finalizer is the one that svc gets while it holds addresses.
func finalizer(svc *snapshot.Service) string {
	if svc.Class == "" {
		return v1alpha1.FinalizerClassless
	}
	return v1alpha1.FinalizerClassed
}

// toClean returns the Services that carry our finalizer but are no longer
// ours to serve: deleted ones, and those of another type. Kubernetes' own
// finalizer is ours only on a class-less Service that we serve by default and
// that we marked.
func toClean(s *snapshot.Snapshot, opt allocator.Options) []*snapshot.Service {
	var out []*snapshot.Service
	for _, svc := range s.Services {
		if allocator.Ours(svc, opt) && !svc.Deleting {
			continue
		}
		_, marked := svc.Conditions[v1alpha1.ConditionAddressAssigned]
		own := slices.Contains(svc.Finalizers, v1alpha1.FinalizerClassed)
		common := slices.Contains(svc.Finalizers, v1alpha1.FinalizerClassless) && svc.Class == "" && opt.DefaultClass && marked
		if own || common || marked && svc.Class == "" && svc.Type != snapshot.LoadBalancer {
			out = append(out, svc)
		}
	}
	return out
}

// announcers lists, for every address, who announces it according to the
// NodeStates, in the order of their names.
func announcers(s *snapshot.Snapshot) map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	for _, n := range s.NodeStates {
		for _, a := range n.Announces {
			out[a.Addr] = append(out[a.Addr], fmt.Sprintf("%s by %s on %s (%s)", a.Addr, n.Node, a.Link, a.MAC))
		}
	}
	return out
}

// announced is the condition fairlead.io/Announced of a Service that holds addrs.
func announced(by map[netip.Addr][]string, addrs []netip.Addr) snapshot.Condition {
	var loud, silent []string
	for _, addr := range addrs {
		loud = append(loud, by[addr]...)
		if len(by[addr]) == 0 {
			silent = append(silent, addr.String())
		}
	}
	if len(silent) > 0 {
		return snapshot.Condition{Status: "False", Reason: "NotAnnounced", Message: "no node announces " + strings.Join(silent, ", ")}
	}
	return snapshot.Condition{Status: "True", Reason: "Announced", Message: strings.Join(loud, "; ")}
}

// assigned is the condition fairlead.io/AddressAssigned of an outcome.
func assigned(o allocator.Outcome) snapshot.Condition {
	texts := make([]string, len(o.Addrs))
	for i, a := range o.Addrs {
		texts[i] = a.String()
	}
	held := strings.Join(texts, ", ")
	switch {
	case len(o.Addrs) == 0 && o.Refusal != nil:
		return snapshot.Condition{Status: "False", Reason: string(o.Refusal.Reason), Message: o.Refusal.Message}
	case o.Refusal != nil:
		return snapshot.Condition{Status: "True", Reason: string(o.Refusal.Reason), Message: "keeps " + held + ": " + o.Refusal.Message}
	case outside(o) != nil:
		return snapshot.Condition{Status: "True", Reason: string(allocator.OutsidePools), Message: outside(o).Message}
	}
	return snapshot.Condition{Status: "True", Reason: "Assigned", Message: held + " from pool " + o.Pool}
}

func outside(o allocator.Outcome) *snapshot.Refusal {
	for i := range o.Warnings {
		if o.Warnings[i].Reason == allocator.OutsidePools {
			return &o.Warnings[i]
		}
	}
	return nil
}
