package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// assignment tells how the Service comes to its address.
func (e *explaining) assignment() {
	e.request()
	e.pools()
	e.address()
	if e.FromFiles {
		e.portRanges()
		return
	}
	e.controller()
	if len(e.plan.Addrs) == 0 {
		return
	}
	e.records()
	e.portRanges()
	e.status()
}

// controller reports whether somebody acts on what is decided.
func (e *explaining) controller() {
	l := e.Leader
	switch {
	case e.unread("leases"):
		e.note("controller", "cannot read whether a controller leads")
	case l.Holder == "":
		e.fail("controller", "kubectl -n "+e.Namespace+" get pods -l app.kubernetes.io/component=controller",
			"no controller leads, so nobody acts on the decision")
	case e.Now.Sub(l.Renewed) > l.Lasts:
		e.fail("controller", "kubectl -n "+e.Namespace+" get pods -l app.kubernetes.io/component=controller",
			"%s led, but has not renewed its Lease for %s", l.Holder, cluster.Ago(e.Now, l.Renewed))
	default:
		e.ok("controller", "%s leads, renewed its Lease %s ago", l.Holder, cluster.Ago(e.Now, l.Renewed))
	}
}

func (e *explaining) unread(what string) bool {
	return slices.ContainsFunc(e.Gaps, func(g cluster.Gap) bool { return g.What == what })
}

// request tells what the Service asks for.
func (e *explaining) request() {
	var asks []string
	for _, key := range sortedKeys(e.svc.Annotations) {
		if strings.HasPrefix(key, "fairlead.io/") || strings.HasPrefix(key, "metallb.io/") || strings.HasPrefix(key, "metallb.universe.tf/") {
			asks = append(asks, fmt.Sprintf("%s: %s", key, e.svc.Annotations[key]))
		}
	}
	if e.svc.LoadBalancerIP != "" {
		asks = append(asks, "spec.loadBalancerIP: "+e.svc.LoadBalancerIP)
	}
	text := "asks for any address"
	if len(asks) > 0 {
		text = "asks for " + strings.Join(asks, ", ")
	}
	if e.svc.FamilyPolicy == snapshot.PreferDualStack || e.svc.FamilyPolicy == snapshot.RequireDualStack {
		text += ", " + string(e.svc.FamilyPolicy)
	}
	if r := e.plan.Refusal; r != nil && (r.Reason == allocator.InvalidRequest || r.Reason == allocator.ConflictingRequest) {
		e.fail("request", e.remedy(r), "%s: %s", text, r)
		return
	}
	e.ok("request", "%s", text)
}

// pools tells of every pool whether it may give.
func (e *explaining) pools() {
	verdicts := allocator.Consider(e.Snapshot, e.Allocation, e.svc.Ref)
	step := Step{Name: "pools", Mark: OK}
	gives := 0
	for _, v := range verdicts {
		d := Step{Name: v.Pool, Mark: Note, Text: v.Message}
		switch {
		case v.Reason != "":
			d.Mark, d.Text = Failed, string(v.Reason)+": "+v.Message
		case v.Gives:
			d.Mark = OK
		}
		if d.Mark != Failed {
			gives++
		}
		step.Details = append(step.Details, d)
	}
	step.Text = fmt.Sprintf("%d of %s may give to it", gives, cluster.Count(len(verdicts), "pool"))
	if len(verdicts) == 0 {
		step.Mark, step.Text = Note, "there is none to ask"
	}
	if gives == 0 && len(e.plan.Addrs) == 0 && len(verdicts) > 0 {
		step.Mark = Note // the address says what to do
	}
	e.add(step)
}

// address tells what was decided.
func (e *explaining) address() {
	r := e.plan.Refusal
	switch {
	case len(e.plan.Addrs) == 0 && r != nil:
		e.fail("address", e.remedy(r), "none. %s", r)
	case len(e.plan.Addrs) == 0:
		e.fail("address", e.kubectl("get service %s -o yaml", e.svc.Name), "none: the Service is being deleted")
	case r != nil:
		e.fail("address", e.remedy(r), "keeps %s, but not what it asks for. %s", addrs(e.plan.Addrs), r)
	default:
		from := "from pool " + e.plan.Pool
		if strings.Contains(e.plan.Pool, ",") {
			from = "from pools " + strings.ReplaceAll(e.plan.Pool, ",", ", ")
		}
		if e.plan.Pool == "" {
			from = "from a pool that does not contain it any more"
		}
		e.ok("address", "%s %s", addrs(e.plan.Addrs), from)
	}
	for _, a := range e.plan.Leaving {
		e.note("prefix", "%s", e.leaving(a))
	}
	for _, w := range e.plan.Warnings {
		e.note("warning", "%s", w)
	}
}

// leaving says until when the Service keeps a, of its pool's former prefix.
func (e *explaining) leaving(a netip.Addr) string {
	text := fmt.Sprintf("the network's prefix has changed: %s stays beside the new address for a while", a)
	for _, p := range e.Pools {
		if k, ok := p.InPrefix(snapshot.PrefixLeaving, a); ok && p.Name == e.plan.Pool {
			text += ", until " + k.Until.UTC().Format(time.RFC3339)
		}
	}
	return text
}

// records tells of the objects that make the addresses the Service's own.
func (e *explaining) records() {
	var names []string
	for _, a := range e.plan.Addrs {
		record := cmp.Or(e.Snapshot.Address(a), e.NodeAddress(a))
		if record == nil || !record.Held(e.svc.Ref, e.svc.UID) {
			e.fail("record", "look at it again in a few seconds; if it stays, read the controller's log: kubectl -n "+e.Namespace+" logs "+e.Leader.Holder,
				"the Address object of %s does not name this Service yet: the controller has not acted", a)
			return
		}
		text := fmt.Sprintf("Address %s names this Service", a)
		if made := e.Made(a); !made.IsZero() {
			text += fmt.Sprintf(" (made %s ago)", cluster.Ago(e.Now, made))
		}
		switch others := len(record.Holders) - 1; {
		case others > 0 && record.Node != "":
			text += fmt.Sprintf(" and %s, by port", cluster.Count(others, "other"))
		case others > 0:
			text += fmt.Sprintf(" and %s, share key %q", cluster.Count(others, "other"), record.ShareKey)
		}
		names = append(names, text)
	}
	e.ok("record", "%s", strings.Join(names, "; "))
}

// status reports whether clients can read the address from the Service.
func (e *explaining) status() {
	var have []netip.Addr
	for _, in := range e.svc.Ingress {
		if in.IP.IsValid() {
			have = append(have, in.IP)
		}
	}
	if !slices.Equal(have, e.plan.Addrs) {
		text := "nothing"
		if len(have) > 0 {
			text = addrs(have)
		}
		e.fail("status", "look at it again in a few seconds; if it stays, read the Service's Events: "+e.kubectl("describe service %s", e.svc.Name),
			"status.loadBalancer says %s instead of %s: the controller has not acted yet, or somebody changed it", text, addrs(e.plan.Addrs))
		return
	}
	e.ok("status", "status.loadBalancer says %s", addrs(have))
}

// remedy is what to do about a refusal of an address.
func (e *explaining) remedy(r *snapshot.Refusal) string {
	annotate := e.kubectl("annotate --overwrite service %s ", e.svc.Name)
	switch r.Reason {
	case allocator.NoPool:
		if len(e.Pools) == 0 {
			return "make an AddressPool with addresses of the nodes' network that nothing else uses (docs/troubleshooting.md, FL0201)"
		}
		return "ask for one of the pools: " + annotate + "fairlead.io/pool=" + e.Pools[0].Name + ", or set autoAssign: true in it"
	case allocator.PoolExhausted:
		return "add addresses to a pool (kubectl edit addresspool NAME), or delete Services of type LoadBalancer that are not needed"
	case allocator.PoolNotFound:
		return "name a pool that exists (kubectl get addresspool): " + annotate + "fairlead.io/pool=NAME"
	case allocator.PoolConflicting, allocator.PoolInvalid, allocator.PoolDisabled:
		return "repair the pool: kubectl describe addresspool, then kubectl edit addresspool NAME"
	case allocator.NoPrefix:
		return "see why the nodes see no prefix: kubectl describe addresspool NAME, and docs/dynamic.md"
	case allocator.NoLease:
		return "see what the pool waits for: kubectl describe addresspool NAME, and docs/dynamic.md"
	case allocator.NotSelected:
		return "let the pool select this Service: its spec.namespaces, namespaceSelector and serviceSelector (kubectl edit addresspool NAME)"
	case allocator.OutsidePools:
		return "ask for an address of a pool (kubectl get addresspool -o wide): " + annotate + "fairlead.io/addresses=ADDRESS"
	case allocator.NamespaceLimit:
		return "delete a Service of type LoadBalancer in " + e.svc.Namespace + " that is not needed, or raise spec.maxPerNamespace (kubectl edit addresspool NAME)"
	case allocator.TooLarge:
		return "split the Service into several"
	case allocator.PortInUse, allocator.PortOfNode:
		return "choose another port: " + e.kubectl("edit service %s", e.svc.Name) + "; or ask for another pool: " + annotate + "fairlead.io/pool=NAME"
	case allocator.AddressReserved:
		return "ask for another address: " + annotate + "fairlead.io/addresses=ADDRESS; or change the pool's spec.reservations (kubectl edit addresspool NAME)"
	case allocator.AddressInUse:
		return "ask for another address: " + annotate + "fairlead.io/addresses=ADDRESS; or share it: the same fairlead.io/share-key on both Services, with different ports"
	case allocator.ShareRefused:
		if e.svc.Annotations[allocator.AnnotationPorts] != "" {
			return "give the Service an address of its own: take away its share key (" + annotate + allocator.AnnotationShareKey + "-), or " + allocator.AnnotationPorts
		}
		return "make the two fit (same fairlead.io/share-key, different ports, same externalTrafficPolicy; across namespaces fairlead.io/share-namespaces on both), or ask for another address"
	case allocator.WrongFamily:
		return "make the pool's families and the Service's spec.ipFamilies and spec.ipFamilyPolicy fit"
	case allocator.InvalidRequest, allocator.ConflictingRequest:
		return "correct the annotation: " + e.kubectl("edit service %s", e.svc.Name)
	case allocator.NoClusterIP:
		return "wait: the API server gives the cluster IP; if it stays, the Service range is used up"
	}
	return e.kubectl("describe service %s", e.svc.Name)
}
