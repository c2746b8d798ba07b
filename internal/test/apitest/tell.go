package apitest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// Tell tells one of the allocator's stories. Whenever it wants a Plan, act is
// called to bring the server there, and what the server then holds is compared
// with the Plan: the addresses in statuses, the reasons in conditions, the
// records, the pools' counters.
func (a *API) Tell(t *testing.T, s *storytest.Story, act func(allocator.Options) error) {
	t.Helper()
	w := storytest.NewWorld()
	for i, sec := range s.Sections {
		switch sec.Kind() {
		case "cluster", "then":
			if err := w.Do(sec.Text); err != nil {
				t.Fatal(err)
			}
		case "want":
			snap, err := w.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			a.Sync(snap)
			plan := allocator.Decide(snap, w.Options())
			if err := act(w.Options()); err != nil {
				t.Fatalf("section %d: %v", i+1, err)
			}
			if got, want := a.held(snap, w.Options()), planned(plan); got != want {
				t.Errorf("section %d: the server holds\n%swant\n%s", i+1, got, want)
			}
			w.Apply(plan)
		}
	}
}

// held is what the server holds, in the words of planned.
func (a *API) held(s *snapshot.Snapshot, opt allocator.Options) string {
	var b strings.Builder
	for _, svc := range s.Services {
		if obj := a.services.all[svc.Namespace+"/"+svc.Name]; allocator.Ours(svc, opt) && !svc.Deleting {
			var list []string
			for _, in := range obj.Status.LoadBalancer.Ingress {
				list = append(list, in.IP+in.Hostname)
			}
			reason := "none"
			if c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionAddressAssigned); c != nil {
				reason = c.Reason
			}
			status(&b, svc.Ref, list, reason)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.addresses.all)) {
		if obj := a.addresses.all[id]; obj.DeletionTimestamp == nil {
			var holders []string
			for _, h := range obj.Spec.Holders {
				holders = append(holders, h.Namespace+"/"+h.Name)
			}
			fmt.Fprintf(&b, "record %s pool=%s key=%s %v\n", obj.Name, obj.Spec.Pool, obj.Spec.ShareKey, holders)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.pools.all)) {
		st := a.pools.all[id].Status
		fmt.Fprintf(&b, "pool %s %v %v\n", a.pools.all[id].Name, snapshot.PoolCount(st.IPv4), snapshot.PoolCount(st.IPv6))
	}
	return b.String()
}

func planned(p *allocator.Plan) string {
	var b strings.Builder
	for _, o := range p.Services {
		if o.Refusal == nil && len(o.Addrs) == 0 {
			continue // being deleted
		}
		status(&b, o.Ref, texts(o.Addrs), record.Assigned(o).Reason)
	}
	records := slices.Clone(p.Addresses)
	slices.SortFunc(records, func(x, y allocator.AddressWant) int {
		return strings.Compare(v1alpha1.AddressName(x.Addr), v1alpha1.AddressName(y.Addr))
	})
	for _, w := range records {
		var holders []string
		for _, h := range w.Holders {
			holders = append(holders, h.Ref.String())
		}
		fmt.Fprintf(&b, "record %s pool=%s key=%s %v\n", v1alpha1.AddressName(w.Addr), w.Pool, w.ShareKey, holders)
	}
	for _, o := range p.Pools {
		fmt.Fprintf(&b, "pool %s %v %v\n", o.Name, o.Status.IPv4, o.Status.IPv6)
	}
	return b.String()
}

// status writes one Service. Without any pool a status stays as it is, whatever
// it names.
func status(b *strings.Builder, ref snapshot.Ref, addrs []string, reason string) {
	if reason == string(allocator.NoPool) {
		addrs = nil
	}
	fmt.Fprintf(b, "service %s %v %s\n", ref, addrs, reason)
}
