package allocator

import (
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Considered is what a decision makes of one pool for one Service.
type Considered struct {
	Pool    string
	Reason  snapshot.Reason // why it gives nothing to the Service; "" if it gives, or could
	Gives   bool            // the Service holds an address of it
	Message string          // in words that follow the pool's name
}

// Consider tells of every pool, in the order in which they are asked, whether
// the Service may have an address of it. nil if the Service is none of ours.
func Consider(s *snapshot.Snapshot, opt Options, ref snapshot.Ref) []Considered {
	d := decide(s, opt)
	svc := d.byRef[ref]
	if svc == nil || svc.idle {
		return nil
	}
	out := make([]Considered, 0, len(d.pools.order))
	for _, p := range d.pools.order {
		out = append(out, d.consider(svc, p))
	}
	return out
}

func (d *decision) consider(svc *service, p *pool) Considered {
	if p.Nodes != nil {
		return d.considerNodes(svc, p)
	}
	out := Considered{Pool: p.Name, Reason: d.reject(svc, p)}
	if has := append(svc.heldIn(p), svc.leavingIn(p)...); len(has) > 0 {
		out.Gives, out.Reason, out.Message = true, "", "gives "+join(has)
		return out
	}
	if out.Reason == "" && len(svc.req.addrs) > 0 {
		if why := d.withholds(svc, p); why != nil {
			out.Reason, out.Message = why.Reason, why.Message
			return out
		}
	} else if out.Reason == "" && d.pickFamilies(svc, []*pool{p}, svc.families) == nil {
		out.Reason = d.lacks(svc, p)
	}
	out.Message = p.explain(out.Reason, svc)
	if f := d.followed[p.Name]; f != nil && out.Reason == NoPrefix {
		out.Message += ": " + f.condition.Message
	}
	if out.Reason == NoLease {
		out.Message += ": " + svc.waitsFor(p)
	}
	return out
}

// withholds tells why p does not give svc what it asks for; nil if it does, or
// could.
func (d *decision) withholds(svc *service, p *pool) *snapshot.Refusal {
	if !slices.ContainsFunc(svc.req.addrs, p.contains) {
		return refuse(OutsidePools, "does not contain the requested %s", join(svc.req.addrs))
	}
	for _, a := range svc.req.addrs {
		if !p.contains(a) {
			continue
		}
		why := d.mayGive(svc, a)
		if why == nil {
			why = d.mayJoin(svc, a)
		}
		if why == nil {
			why = d.namespaceLimit(svc, p, d.pools.givenBy(p, svc.req.addrs))
		}
		if why != nil {
			return refuse(why.Reason, "does not give it: %s", why.Message)
		}
	}
	return nil
}

// explain puts the verdict on p into words that follow its name.
func (p *pool) explain(reason snapshot.Reason, svc *service) string {
	switch reason {
	case "":
		return "could give one"
	case PoolNotFound:
		return "is not the requested pool " + svc.req.poolText()
	case NoPool:
		return "gives only on request (autoAssign is false)"
	case NotSelected:
		return "does not select this Service or its namespace"
	case WrongFamily:
		return fmt.Sprintf("has no %s addresses", familyText(svc))
	case NoPrefix:
		return "has no prefix yet"
	case NoLease:
		return "has no lease for this Service"
	case NamespaceLimit:
		return fmt.Sprintf("gives at most %d addresses to a namespace, and %s has %d", p.MaxPerNamespace, svc.Namespace, p.byNamespace[svc.Namespace])
	case PoolExhausted:
		return fmt.Sprintf("has no free %s address", familyText(svc))
	case PoolConflicting:
		return p.clash.Message
	}
	return "gives nothing: " + p.ready().Message
}
