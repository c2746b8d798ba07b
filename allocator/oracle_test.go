package allocator_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// violations checks a Plan against what must hold of every Plan, in the dumbest
// way: by looking at everything.
func violations(s *snapshot.Snapshot, opt allocator.Options, p *allocator.Plan) []string {
	var out []string
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for i := range p.Services {
		for j := range p.Services[:i] {
			for _, a := range p.Services[i].Addrs {
				if slices.Contains(p.Services[j].Addrs, a) && !mayShare(s, p, p.Services[i].Ref, p.Services[j].Ref) {
					bad("%s is held by %s and %s", a, p.Services[i].Ref, p.Services[j].Ref)
				}
			}
		}
	}
	for _, o := range p.Services {
		out = append(out, outcomeViolations(s, opt, p, o)...)
		out = append(out, loss(s, p, o)...)
		out = append(out, missed(s, p, o)...)
	}
	for _, pool := range p.Pools {
		for _, c := range []snapshot.PoolCount{pool.Status.IPv4, pool.Status.IPv6} {
			if c.Total < 0 || c.Assigned < 0 || c.Free < 0 || c.Free > c.Total {
				bad("pool %s counts %+v", pool.Name, c)
			}
		}
	}
	again := allocator.Decide(applied(s, p), opt)
	for i, o := range again.Services {
		if !o.Kept {
			bad("deciding again moves %s: %v, then %v", o.Ref, p.Services[i].Addrs, o.Addrs)
		}
		if a, b := reason(p.Services[i].Refusal), reason(o.Refusal); a != b {
			bad("deciding again gives %s another reason: %s, then %s", o.Ref, a, b)
		}
	}
	if len(again.Releases) > 0 {
		bad("deciding again releases %v", again.Releases)
	}
	if a, b := lines(p.Addresses), lines(again.Addresses); a != b {
		bad("deciding again writes other records:\n%s-- then --\n%s", a, b)
	}
	if a, b := lines(p.Pools), lines(again.Pools); a != b {
		bad("deciding again writes other counters:\n%s-- then --\n%s", a, b)
	}
	return out
}

func reason(r *snapshot.Refusal) string {
	if r == nil {
		return ""
	}
	return r.String()
}

func outcomeViolations(s *snapshot.Snapshot, opt allocator.Options, p *allocator.Plan, o allocator.Outcome) []string {
	var out []string
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	svc := find(s, o.Ref)
	if svc.Type != snapshot.LoadBalancer || svc.Headless || svc.Class != opt.Class && (svc.Class != "" || !opt.DefaultClass) {
		bad("%s is not ours", o.Ref)
	}
	if len(o.Addrs) == 0 && o.Refusal == nil && !svc.Deleting {
		bad("%s holds nothing without a reason", o.Ref)
	}
	for _, a := range o.Addrs {
		if svc.Deleting || len(svc.ClusterIPs) == 0 {
			bad("%s holds %s", o.Ref, a)
		}
		rec := record(s, a)
		if rec != nil && rec.Held(o.Ref, o.UID) {
			continue
		}
		if rec != nil && rec.Deleting {
			bad("%s gets %s, whose record is being deleted", o.Ref, a)
		}
		if o.OfNodes {
			out = append(out, nodeViolations(s, o, a)...)
			continue
		}
		if !gives(s, a, svc) {
			bad("%s gets %s, which no pool gives it", o.Ref, a)
		}
	}
	return out
}

// loss checks that a Service that held an address alone still holds one, and
// the same one if it asks for nothing in particular.
func loss(s *snapshot.Snapshot, p *allocator.Plan, o allocator.Outcome) []string {
	svc := find(s, o.Ref)
	var had []netip.Addr
	for _, a := range s.Addresses {
		if !a.Held(o.Ref, o.UID) {
			continue
		}
		if len(a.Holders) > 1 {
			return nil
		}
		had = append(had, a.Addr)
	}
	if len(had) == 0 || svc.Deleting || len(svc.ClusterIPs) == 0 || slices.ContainsFunc(had, func(a netip.Addr) bool { return record(s, a).Lease != "" }) {
		return nil // a lease may end
	}
	if len(o.Addrs) == 0 {
		return []string{fmt.Sprintf("%s lost %v and holds nothing", o.Ref, had)}
	}
	plain := len(svc.Annotations) == 0 && svc.LoadBalancerIP == "" && svc.FamilyPolicy == snapshot.SingleStack
	if plain && len(had) == 1 && !former(s, had[0]) && snapshot.FamilyOf(had[0]) == svc.Families[0] && !slices.Equal(had, o.Addrs) {
		return []string{fmt.Sprintf("%s was moved from %v to %v", o.Ref, had, o.Addrs)}
	}
	return nil
}

// former reports whether a is of a prefix that its pool does not give any more.
func former(s *snapshot.Snapshot, a netip.Addr) bool {
	return slices.ContainsFunc(s.Pools, func(p *snapshot.Pool) bool {
		return slices.ContainsFunc(p.Prefixes, func(k snapshot.PoolPrefix) bool { return k.State != snapshot.PrefixCurrent && k.Prefix.Contains(a) })
	})
}

// missed checks that there is no pool with a free address of each family for a
// Service that was told that there is none, by trying every address.
func missed(s *snapshot.Snapshot, p *allocator.Plan, o allocator.Outcome) []string {
	if o.Refusal == nil || o.Refusal.Reason != allocator.PoolExhausted || len(o.Addrs) > 0 {
		return nil
	}
	svc := find(s, o.Ref)
	asked := svc.Annotations[allocator.AnnotationPool]
	for i, pool := range s.Pools {
		if p.Pools[i].Ready.Status != "True" || asked != "" && asked != pool.Name || asked == "" && !pool.AutoAssign {
			continue
		}
		if pool.NamespaceSelector != nil || pool.ServiceSelector != nil || len(pool.Namespaces) > 0 && !slices.Contains(pool.Namespaces, svc.Namespace) {
			continue
		}
		free := 0
		for _, f := range svc.Families {
			free += anyFree(s, p, pool, f)
		}
		if free == len(svc.Families) || free > 0 && svc.FamilyPolicy == snapshot.PreferDualStack {
			return []string{fmt.Sprintf("%s waits although pool %s has free addresses", o.Ref, pool.Name)}
		}
	}
	return nil
}

// anyFree returns 1 if pool has a free address of family f that it may give.
func anyFree(s *snapshot.Snapshot, p *allocator.Plan, pool *snapshot.Pool, f snapshot.Family) int {
	for _, r := range pool.Ranges {
		for a := r.From(); snapshot.FamilyOf(a) == f && r.Contains(a); a = a.Next() {
			last := a.AsSlice()[len(a.AsSlice())-1]
			held := slices.ContainsFunc(p.Addresses, func(w allocator.AddressWant) bool { return w.Addr == a })
			rec := record(s, a)
			excluded := pool.MaxPerNamespace > 0 || slices.ContainsFunc(pool.Exclude, func(r netipx.IPRange) bool { return r.Contains(a) }) ||
				slices.ContainsFunc(pool.Reservations, func(r snapshot.Reservation) bool { return r.Addr == a })
			if !held && !excluded && !former(s, a) && !ofNode(s, a) && (rec == nil || !rec.Deleting) && !(pool.AvoidBuggyIPs && a.Is4() && (last == 0 || last == 255)) {
				return 1
			}
		}
	}
	return 0
}

// ofNode reports whether a is an address of a node, which no pool gives.
func ofNode(s *snapshot.Snapshot, a netip.Addr) bool {
	return slices.ContainsFunc(s.Nodes, func(n *snapshot.Node) bool { return slices.Contains(n.InternalIPs, a) })
}

// gives reports whether some pool may give a to svc. Conflicts between pools are
// left to the stories.
func gives(s *snapshot.Snapshot, a netip.Addr, svc *snapshot.Service) bool {
	if ofNode(s, a) {
		return false
	}
	for _, st := range s.NodeStates {
		if slices.ContainsFunc(st.Leases, func(l snapshot.NodeLease) bool { return l.Addr == a }) {
			return true
		}
	}
	for _, p := range s.Pools {
		for _, r := range p.Ranges {
			last := a.AsSlice()[len(a.AsSlice())-1]
			if r.Contains(a) && len(p.Bad) == 0 && (!p.Disabled || len(svc.Ingress) > 0) &&
				!(p.AvoidBuggyIPs && a.Is4() && (last == 0 || last == 255)) &&
				(len(p.Namespaces) == 0 || slices.Contains(p.Namespaces, svc.Namespace) || p.NamespaceSelector != nil) {
				return true
			}
		}
	}
	return false
}

// nodeViolations checks one address of nodes that a Service gets: it is one of a node
// that is up, and none of its ports is the node's own.
func nodeViolations(s *snapshot.Snapshot, o allocator.Outcome, a netip.Addr) (out []string) {
	up := slices.ContainsFunc(s.Nodes, func(n *snapshot.Node) bool {
		return n.Ready && !n.Unheard && slices.Contains(slices.Concat(n.InternalIPs, n.ExternalIPs), a)
	})
	if !up {
		out = append(out, fmt.Sprintf("%s gets %s of no node that is up", o.Ref, a))
	}
	for _, p := range find(s, o.Ref).Ports {
		if p.Protocol == snapshot.TCP && slices.Contains([]uint16{22, 6443, 10250}, p.Port) {
			out = append(out, fmt.Sprintf("%s gets port %d of a node", o.Ref, p.Port))
		}
	}
	return out
}

func mayShare(s *snapshot.Snapshot, p *allocator.Plan, a, b snapshot.Ref) bool {
	x, y := find(s, a), find(s, b)
	for _, xp := range x.Ports {
		for _, yp := range y.Ports {
			if xp.Protocol == yp.Protocol && xp.Port == yp.Port {
				return false
			}
		}
	}
	if slices.ContainsFunc(p.Services, func(o allocator.Outcome) bool { return o.Ref == a && o.OfNodes }) {
		return true
	}
	local := func(v *snapshot.Service) bool {
		return v.ExternalTrafficPolicy == snapshot.PolicyLocal && len(v.Endpoints) > 0
	}
	stay := slices.ContainsFunc(s.Addresses, func(r *snapshot.Address) bool { return r.Held(x.Ref, x.UID) && r.Held(y.Ref, y.UID) })
	if !stay && local(x) && local(y) && fmt.Sprint(x.Selector) != fmt.Sprint(y.Selector) {
		return slices.ContainsFunc(x.Endpoints, func(e snapshot.Endpoint) bool {
			return slices.ContainsFunc(y.Endpoints, func(o snapshot.Endpoint) bool { return e.Node == o.Node })
		})
	}
	if refused(p, a, allocator.InvalidRequest) || refused(p, b, allocator.InvalidRequest) ||
		refused(p, a, allocator.WrongFamily) || refused(p, b, allocator.WrongFamily) ||
		refused(p, a, allocator.ConflictingRequest) || refused(p, b, allocator.ConflictingRequest) {
		return true
	}
	key := func(v *snapshot.Service) string {
		for _, k := range []string{"fairlead.io/share-key", "metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"} {
			if v.Annotations[k] != "" {
				return v.Annotations[k]
			}
		}
		return ""
	}
	return key(x) != "" && key(x) == key(y) && consents(x, y) && consents(y, x)
}

// consents reports whether x lets a Service of y's namespace beside it.
func consents(x, y *snapshot.Service) bool {
	return x.Namespace == y.Namespace || slices.Contains(strings.Split(x.Annotations[allocator.AnnotationShareNamespaces], ","), y.Namespace)
}

func refused(p *allocator.Plan, ref snapshot.Ref, reason snapshot.Reason) bool {
	return slices.ContainsFunc(p.Services, func(o allocator.Outcome) bool {
		return o.Ref == ref && o.Refusal != nil && o.Refusal.Reason == reason
	})
}

func find(s *snapshot.Snapshot, ref snapshot.Ref) *snapshot.Service {
	for _, v := range s.Services {
		if v.Ref == ref {
			return v
		}
	}
	return nil
}

func record(s *snapshot.Snapshot, a netip.Addr) *snapshot.Address {
	for _, r := range slices.Concat(s.Addresses, s.NodeAddresses) {
		if r.Addr == a {
			return r
		}
	}
	return nil
}

// applied is s with the Plan made true: records and statuses.
func applied(s *snapshot.Snapshot, p *allocator.Plan) *snapshot.Snapshot {
	out := *s
	out.Addresses, out.NodeAddresses, out.Services, out.Pools = nil, nil, nil, nil
	for i, pool := range s.Pools {
		if pool.FromDHCP != nil {
			pool = pool.WithLeases(p.Pools[i].Leases)
		}
		out.Pools = append(out.Pools, pool)
	}
	for _, a := range p.Addresses {
		rec := &snapshot.Address{Addr: a.Addr, Pool: a.Pool, Lease: a.Lease, Node: a.Node, ShareKey: a.ShareKey, ShareGroup: a.ShareGroup, Holders: a.Holders}
		if a.Node != "" {
			out.NodeAddresses = append(out.NodeAddresses, rec)
			continue
		}
		out.Addresses = append(out.Addresses, rec)
	}
	for _, a := range s.Addresses {
		if a.Deleting && record(&out, a.Addr) == nil {
			out.Addresses = append(out.Addresses, a)
		}
	}
	for _, v := range s.Services {
		c := *v
		for _, o := range p.Services {
			if o.Ref != v.Ref {
				continue
			}
			c.Ingress = nil
			for _, a := range o.Addrs {
				c.Ingress = append(c.Ingress, snapshot.Ingress{IP: a})
			}
		}
		out.Services = append(out.Services, &c)
	}
	return &out
}
