package kube

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// mostNodeLeases is how many leases a NodeState lists, as the API type has it.
const mostNodeLeases = 256

// leasePool adds to out what p says of where its addresses are leased, and its leases.
func leasePool(out *snapshot.Pool, p *v1alpha1.AddressPool) *snapshot.Pool {
	spec := p.Spec.FromDHCP
	out.FromDHCP = &snapshot.FromDHCP{Interface: spec.Interface, Nodes: toSelector(spec.NodeSelector)}
	out.CoolDown = 0 // the server has the address again
	for _, f := range spec.Families {
		out.FromDHCP.Families = append(out.FromDHCP.Families, toFamily(f))
	}
	if slices.Sort(out.FromDHCP.Families); len(spec.Families) == 0 {
		out.FromDHCP.Families = []snapshot.Family{snapshot.IPv4}
	}
	for _, text := range spec.Servers {
		a, ok := snapshot.ParseAddr(string(text))
		if !ok {
			out.Bad = append(out.Bad, fmt.Sprintf("spec.fromDHCP.servers: %q is not an address", text))
		}
		out.FromDHCP.Servers = append(out.FromDHCP.Servers, a)
	}
	for _, text := range spec.Subnets {
		n, err := netip.ParsePrefix(text)
		if err != nil || n != n.Masked() || n.Addr().Is4In6() {
			out.Bad = append(out.Bad, fmt.Sprintf("spec.fromDHCP.subnets: %q is not a CIDR such as 192.0.2.0/24", text))
		}
		out.FromDHCP.Subnets = append(out.FromDHCP.Subnets, n)
	}
	var leases []snapshot.PoolLease
	for _, l := range first(p.Status.Leases, snapshot.MostLeases) {
		leases = append(leases, toLease(l))
	}
	slices.SortFunc(leases, snapshot.PoolLease.Compare)
	return out.WithLeases(leases)
}

func toFamily(f corev1.IPFamily) snapshot.Family {
	if f == corev1.IPv6Protocol {
		return snapshot.IPv6
	}
	return snapshot.IPv4
}

func toLease(l v1alpha1.PoolLease) snapshot.PoolLease {
	out := snapshot.PoolLease{Ref: snapshot.Ref{Namespace: l.Namespace, Name: l.Name}, Family: toFamily(l.Family), ID: l.Client, Message: l.Message}
	if a, ok := snapshot.ParseAddr(l.Address); ok && snapshot.FamilyOf(a) == out.Family {
		out.Addr, out.Until = a, timeOf(l.Until)
		out.Server, _ = snapshot.ParseAddr(l.Server)
	}
	return out
}

// FromLeases is the status.leases of a pool with leases.
func FromLeases(leases []snapshot.PoolLease) []v1alpha1.PoolLease {
	return each(leases, func(l snapshot.PoolLease) v1alpha1.PoolLease {
		return v1alpha1.PoolLease{
			Namespace: l.Namespace, Name: l.Name, Family: corev1.IPFamily(l.Family.String()), Client: l.ID,
			Address: textOf(l.Addr), Server: textOf(l.Server), Until: toTime(l.Until), Message: plain.Cut(l.Message, shortMessage),
		}
	})
}

func toNodeLeases(list []v1alpha1.NodeLease) (out []snapshot.NodeLease) {
	for _, l := range first(list, mostNodeLeases) {
		n := snapshot.NodeLease{Pool: l.Pool, ID: l.Client, Family: toFamily(l.Family), At: l.At.Time, Message: l.Message}
		if a, ok := snapshot.ParseAddr(l.Address); ok {
			n.Addr, n.Until = a, timeOf(l.Until)
			n.Server, _ = snapshot.ParseAddr(l.Server)
		}
		out = append(out, n)
	}
	return out
}

func fromNodeLease(l snapshot.NodeLease) v1alpha1.NodeLease {
	return v1alpha1.NodeLease{
		Pool: l.Pool, Client: l.ID, Family: corev1.IPFamily(l.Family.String()), Address: textOf(l.Addr), Server: textOf(l.Server),
		Until: toTime(l.Until), At: metav1.Time{Time: l.At}, Message: plain.Cut(l.Message, shortMessage),
	}
}

// textOf prints an address, and none as "".
func textOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
