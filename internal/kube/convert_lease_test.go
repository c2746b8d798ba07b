package kube

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestFromDHCP: where a pool leases, what cannot be read of that, and what of its status
// counts.
func TestFromDHCP(t *testing.T) {
	p := &v1alpha1.AddressPool{Spec: v1alpha1.AddressPoolSpec{FromDHCP: &v1alpha1.FromDHCP{Interface: "eth0"}}}
	if from := toPool(p).FromDHCP; len(from.Families) != 1 || from.Families[0] != snapshot.IPv4 {
		t.Errorf("the default is %v", from.Families)
	}
	p.Spec.FromDHCP = &v1alpha1.FromDHCP{Interface: "eth0", Families: []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}, Servers: []v1alpha1.IPAddress{"router"}, Subnets: []string{"192.0.2.1/24"}}
	out := toPool(p)
	bad := []string{`spec.fromDHCP.servers: "router" is not an address`, `spec.fromDHCP.subnets: "192.0.2.1/24" is not a CIDR such as 192.0.2.0/24`}
	if !reflect.DeepEqual(out.Bad, bad) || out.CoolDown != 0 || !reflect.DeepEqual(out.FromDHCP.Families, []snapshot.Family{snapshot.IPv4, snapshot.IPv6}) {
		t.Errorf("got %q and %+v", out.Bad, out.FromDHCP)
	}
	until := time.Unix(1_000_000, 0)
	leases := []snapshot.PoolLease{
		{Ref: snapshot.Ref{Namespace: "n", Name: "a"}, Family: snapshot.IPv4, ID: "u", Addr: netip.MustParseAddr("192.0.2.5"), Server: netip.MustParseAddr("192.0.2.1"), Until: until, Message: "m"},
		{Ref: snapshot.Ref{Namespace: "n", Name: "a"}, Family: snapshot.IPv6, ID: "u"},
	}
	p.Status.Leases = FromLeases(leases)
	if got := toPool(p); !reflect.DeepEqual(got.Leases, leases) || len(got.Ranges) != 1 || got.Ranges[0].String() != "192.0.2.5-192.0.2.5" {
		t.Errorf("got %+v and %v", got.Leases, got.Ranges)
	}
	p.Status.Leases[0].Address = "2001:db8::5"
	if got := toPool(p); len(got.Ranges) != 0 {
		t.Errorf("an address of another family counts: %v", got.Ranges)
	}
}

// TestNodeLeases: what a node says of leases is read as it was written.
func TestNodeLeases(t *testing.T) {
	st := snapshot.NodeState{Leases: []snapshot.NodeLease{
		{Pool: "lan", ID: "u", Family: snapshot.IPv4, Addr: netip.MustParseAddr("192.0.2.5"), Server: netip.MustParseAddr("192.0.2.1"), Until: time.Unix(1_000_000, 0), At: time.Unix(999_000, 0)},
		{Pool: "lan", ID: "v", Family: snapshot.IPv6, At: time.Unix(999_000, 0), Message: "no DHCP server answers on eth0"},
	}}
	if got := ToNodeState(&v1alpha1.NodeState{Status: FromNodeState(st)}); !reflect.DeepEqual(got.Leases, st.Leases) {
		t.Errorf("got %+v", got.Leases)
	}
}
