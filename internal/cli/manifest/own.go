package manifest

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
)

// rules collects what is wrong with one object.
type rules []string

// must notes that field is wrong, unless ok.
func (r *rules) must(ok bool, field, format string, args ...any) {
	if !ok {
		*r = append(*r, field+": "+fmt.Sprintf(format, args...))
	}
}

// within notes that a number is not between least and most. Absent ones are fine.
func within[T int32 | int64](r *rules, field string, n *T, least, most int64) {
	if n != nil {
		r.must(int64(*n) >= least && int64(*n) <= most, field, "%d is not between %d and %d", *n, least, most)
	}
}

func pool(p *v1alpha1.AddressPool) []string {
	var r rules
	b := kube.NewBuilder()
	b.Set(p)
	for _, why := range b.Snapshot().Pool(p.Name).Bad {
		if field, text, of := strings.Cut(why, ": "); of && strings.HasPrefix(field, "spec.") {
			r.must(false, field, "%s", text)
			continue
		}
		r.must(false, "spec.addresses", "%s", why)
	}
	n := len(p.Spec.Addresses)
	ofNodes := p.Spec.NodeAddresses != nil
	kinds := 0
	for _, is := range []bool{n > 0 || p.Spec.FromPrefix != nil, ofNodes, p.Spec.FromDHCP != nil} {
		if is {
			kinds++
		}
	}
	r.must(kinds == 1, "spec", "give either addresses, fromPrefix or both of them, or nodeAddresses (nodeAddresses: {} means all nodes), or fromDHCP")
	r = append(r, fromPrefix(p.Spec.FromPrefix)...)
	r = append(r, fromDHCP(&p.Spec)...)
	r.must(n <= 64, "spec.addresses", "there are %d entries, more than 64", n)
	alone := len(p.Spec.Exclude)+len(p.Spec.Reservations) == 0 && p.Spec.MaxPerNamespace == nil && p.Spec.CoolDown == nil
	r.must(!ofNodes || alone, "spec", "exclude, reservations, maxPerNamespace and coolDown are for pools with addresses: Services share the nodes' addresses by port")
	unique := slices.Compact(slices.Sorted(slices.Values(p.Spec.Addresses)))
	r.must(len(unique) == n, "spec.addresses", "an entry appears twice")
	within(&r, "spec.priority", p.Spec.Priority, 0, math.MaxInt32)
	kept := map[v1alpha1.IPAddress]bool{}
	for _, k := range p.Spec.Reservations {
		addr, err := netip.ParseAddr(string(k.Address))
		r.must(err == nil && addr.Zone() == "", "spec.reservations", "%q is not an address", k.Address)
		r.must(len(k.Namespace) > 0 && len(k.Namespace) < 64 && len(k.Name) > 0 && len(k.Name) < 64, "spec.reservations", "%s needs the namespace and the name of a Service", k.Address)
		r.must(!kept[k.Address], "spec.reservations", "%s appears twice", k.Address)
		kept[k.Address] = true
	}
	r.must(len(p.Spec.Reservations) <= 256, "spec.reservations", "there are %d, more than 256", len(p.Spec.Reservations))
	within(&r, "spec.maxPerNamespace", p.Spec.MaxPerNamespace, 1, math.MaxInt32)
	r.must(lasts(p.Spec.CoolDown, 0) <= 24*time.Hour, "spec.coolDown", "it must be at most 24h")
	return r
}

func fromPrefix(f *v1alpha1.FromPrefix) (r rules) {
	if f == nil {
		return nil
	}
	r.must(isLink(f.Interface), "spec.fromPrefix.interface", "%q is not the name of a link, such as eth0", f.Interface)
	known := []v1alpha1.PrefixScope{"", v1alpha1.PrefixGlobal, v1alpha1.PrefixUniqueLocal}
	r.must(slices.Contains(known, f.Scope), "spec.fromPrefix.scope", "%q is neither Global nor UniqueLocal", f.Scope)
	r.must(lasts(f.Grace, 0) <= 168*time.Hour, "spec.fromPrefix.grace", "it must be at most 168h")
	return r
}

func fromDHCP(spec *v1alpha1.AddressPoolSpec) (r rules) {
	f := spec.FromDHCP
	if f == nil {
		return nil
	}
	r.must(isLink(f.Interface), "spec.fromDHCP.interface", "%q is not the name of a link, such as eth0", f.Interface)
	for _, family := range f.Families {
		r.must(family == corev1.IPv4Protocol || family == corev1.IPv6Protocol, "spec.fromDHCP.families", "%q is neither IPv4 nor IPv6", family)
	}
	r.must(len(f.Families) <= 2, "spec.fromDHCP.families", "there are %d, more than 2", len(f.Families))
	r.must(len(f.Servers) <= 16, "spec.fromDHCP.servers", "there are %d, more than 16", len(f.Servers))
	r.must(len(f.Subnets) <= 16, "spec.fromDHCP.subnets", "there are %d, more than 16", len(f.Subnets))
	r.must(len(spec.Exclude)+len(spec.Reservations) == 0 && spec.CoolDown == nil, "spec", "exclude, reservations and coolDown are for pools with addresses: the DHCP server chooses what it leases")
	return r
}

func isLink(name string) bool {
	return len(name) > 0 && len(name) < 16 && !strings.ContainsAny(name, "/: \t")
}

// lasts returns d, or the default.
func lasts(d *metav1.Duration, or time.Duration) time.Duration {
	if d == nil {
		return or
	}
	return d.Duration
}

func announcement(a *v1alpha1.Announcement) []string {
	var r rules
	r.must((a.Spec.L2 == nil) != (a.Spec.BGP == nil), "spec", "give exactly one of l2 and bgp (l2: {} means every suitable link)")
	for _, p := range a.Spec.PreferredNodes {
		within(&r, "spec.preferredNodes.weight", &p.Weight, 1, 100)
	}
	if b := a.Spec.BGP; b != nil {
		within(&r, "spec.bgp.localPref", b.LocalPref, 0, math.MaxUint32)
		within(&r, "spec.bgp.aggregationLength", b.AggregationLength, 1, 32)
		within(&r, "spec.bgp.aggregationLengthV6", b.AggregationLengthV6, 1, 128)
	}
	return r
}

func peer(p *v1alpha1.BGPPeer) []string {
	var r rules
	s := p.Spec
	addr, err := netip.ParseAddr(string(s.Address))
	r.must(err == nil && addr.Zone() == "" && !addr.Is4In6(), "spec.address", "%q is not an IPv4 or IPv6 address", s.Address)
	within(&r, "spec.peerASN", &s.PeerASN, 1, math.MaxUint32)
	within(&r, "spec.localASN", &s.LocalASN, 1, math.MaxUint32)
	if s.Port != 0 {
		within(&r, "spec.port", &s.Port, 1, math.MaxUint16)
	}
	within(&r, "spec.ebgpMultihop", s.EBGPMultihop, 2, 255)
	within(&r, "spec.ttlSecurity", s.TTLSecurity, 1, 254)
	r.must(s.EBGPMultihop == nil || s.PeerASN != s.LocalASN, "spec.ebgpMultihop", "it needs a peer in another AS")
	r.must(s.EBGPMultihop == nil || s.TTLSecurity == nil, "spec.ebgpMultihop", "it and ttlSecurity exclude each other")
	hold := lasts(s.HoldTime, 90*time.Second)
	r.must(hold == 0 || hold >= 3*time.Second && hold <= 65535*time.Second, "spec.holdTime", "it must be 0s, or from 3s to 65535s")
	r.must(s.KeepaliveTime == nil || hold == 0 || s.KeepaliveTime.Duration < hold, "spec.keepaliveTime", "it must be shorter than holdTime")
	return r
}
