package kube

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

func toPool(p *v1alpha1.AddressPool) *snapshot.Pool {
	out := &snapshot.Pool{
		Name: p.Name, UID: string(p.UID), Generation: p.Generation, Created: p.CreationTimestamp.Time, Labels: p.Labels,
		AutoAssign: p.Spec.AutoAssign == nil || *p.Spec.AutoAssign, AvoidBuggyIPs: p.Spec.AvoidBuggyIPs, Disabled: p.Spec.Disabled,
		Priority: snapshot.NoPriority, Namespaces: p.Spec.Namespaces,
		NamespaceSelector: toSelector(p.Spec.NamespaceSelector), ServiceSelector: toSelector(p.Spec.ServiceSelector),
		Status: snapshot.PoolStatus{
			ObservedGeneration: p.Status.ObservedGeneration,
			IPv4:               snapshot.PoolCount(p.Status.IPv4), IPv6: snapshot.PoolCount(p.Status.IPv6),
		},
		Conditions: toConditions(p.Status.Conditions),
	}
	if n := p.Spec.NodeAddresses; n != nil {
		out.Nodes = cmp.Or(toSelector(n.NodeSelector), &snapshot.Selector{})
	}
	if p.Spec.Priority != nil {
		out.Priority = int(*p.Spec.Priority)
	}
	if p.Spec.MaxPerNamespace != nil {
		out.MaxPerNamespace = int(*p.Spec.MaxPerNamespace)
	}
	out.CoolDown = snapshot.DefaultCoolDown
	if p.Spec.CoolDown != nil {
		out.CoolDown = p.Spec.CoolDown.Duration
	}
	for _, r := range p.Spec.Reservations {
		if a, ok := snapshot.ParseAddr(string(r.Address)); ok {
			out.Reservations = append(out.Reservations, snapshot.Reservation{Addr: a, Ref: snapshot.Ref{Namespace: r.Namespace, Name: r.Name}})
		}
	}
	slices.SortFunc(out.Reservations, func(a, b snapshot.Reservation) int { return a.Addr.Compare(b.Addr) })
	for _, text := range p.Spec.Exclude {
		r, err := parseRange(string(text))
		if err != nil {
			out.Bad = append(out.Bad, err.Error())
			continue
		}
		out.Exclude = append(out.Exclude, r)
	}
	for _, text := range p.Spec.Addresses {
		r, err := parseRange(text)
		if err != nil {
			out.Bad = append(out.Bad, err.Error())
			continue
		}
		out.Ranges = append(out.Ranges, r)
	}
	if p.Spec.FromPrefix != nil {
		return followPrefix(out, p)
	}
	if p.Spec.FromDHCP != nil {
		return leasePool(out, p)
	}
	return out
}

// parseRange reads "192.0.2.0/25", "192.0.2.1-192.0.2.9" or "192.0.2.1".
func parseRange(text string) (netipx.IPRange, error) {
	from, to, isRange := strings.Cut(text, "-")
	switch {
	case isRange:
		return parseFromTo(text, from, to)
	case strings.Contains(text, "/"):
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		switch {
		case err != nil:
			return netipx.IPRange{}, fmt.Errorf("%q is not a CIDR", text)
		case p.Addr().Is4In6():
			return netipx.IPRange{}, mapped(text)
		case p != p.Masked():
			return netipx.IPRange{}, fmt.Errorf("%q has host bits set: write %s", text, p.Masked())
		}
		return netipx.RangeOfPrefix(p), nil
	}
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	switch {
	case err != nil || a.Zone() != "":
		return netipx.IPRange{}, fmt.Errorf("%q is not an address, CIDR or range", text)
	case a.Is4In6():
		return netipx.IPRange{}, mapped(text)
	}
	return netipx.IPRangeFrom(a, a), nil
}

func parseFromTo(text, from, to string) (netipx.IPRange, error) {
	a, errA := netip.ParseAddr(strings.TrimSpace(from))
	b, errB := netip.ParseAddr(strings.TrimSpace(to))
	switch {
	case errA != nil || errB != nil || a.Zone() != "" || b.Zone() != "":
		return netipx.IPRange{}, fmt.Errorf("%q is not a range of addresses", text)
	case a.Is4In6() || b.Is4In6():
		return netipx.IPRange{}, mapped(text)
	case a.Is4() != b.Is4():
		return netipx.IPRange{}, fmt.Errorf("%q mixes IPv4 and IPv6", text)
	case b.Less(a):
		return netipx.IPRange{}, fmt.Errorf("%q is reversed", text)
	}
	return netipx.IPRangeFrom(a, b), nil
}

// mapped refuses IPv4 in IPv6's clothes, which no packet carries.
func mapped(text string) error {
	return fmt.Errorf("%q is IPv4 written as IPv6: write it as IPv4", text)
}
