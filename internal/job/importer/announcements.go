package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

func (m *maker) l2(a l2Advertisement) {
	spec := v1alpha1.AnnouncementSpec{L2: &v1alpha1.L2Announcement{Interfaces: a.Spec.Interfaces}}
	m.announce("L2Advertisement/"+a.Name, a.Name, spec, a.Spec.pools, a.Spec.NodeSelectors, a.Spec.ServiceSelectors, nil)
}

func (m *maker) bgp(a bgpAdvertisement) {
	b := &v1alpha1.BGPAnnouncement{AggregationLength: a.Spec.AggregationLength, AggregationLengthV6: a.Spec.AggregationLengthV6}
	if a.Spec.LocalPref != 0 {
		b.LocalPref = &a.Spec.LocalPref
	}
	var notes []string
	for _, text := range a.Spec.Communities {
		if alias, ok := m.communities[text]; ok {
			text = alias
		}
		if large, ok := strings.CutPrefix(text, "large:"); ok {
			b.LargeCommunities = append(b.LargeCommunities, v1alpha1.LargeCommunity(large))
			continue
		}
		if !strings.Contains(text, ":") && !slices.Contains([]string{"no-export", "no-advertise", "local-as", "graceful-shutdown"}, text) {
			notes = append(notes, fmt.Sprintf("community %s has no Community that defines it and is left out", text))
			continue
		}
		b.Communities = append(b.Communities, v1alpha1.Community(text))
	}
	for _, p := range a.Spec.Peers {
		if len(m.peerNames[p]) == 0 {
			notes = append(notes, "there is no BGPPeer "+p)
			b.Peers = append(b.Peers, p)
		}
		b.Peers = append(b.Peers, m.peerNames[p]...)
	}
	m.announce("BGPAdvertisement/"+a.Name, a.Name, v1alpha1.AnnouncementSpec{BGP: b}, a.Spec.pools, a.Spec.NodeSelectors, a.Spec.ServiceSelectors, notes)
}

// announce writes one Announcement for every way to select pools, Services and
// nodes: MetalLB's lists mean any of their members.
func (m *maker) announce(id, name string, spec v1alpha1.AnnouncementSpec, p pools, nodes, services []metav1.LabelSelector, notes []string) {
	var poolSelectors []*metav1.LabelSelector
	if len(p.IPAddressPools) > 0 {
		poolSelectors = append(poolSelectors, byName(p.IPAddressPools))
	}
	poolSelectors = append(poolSelectors, anyOf(p.IPAddressPoolSelectors)...)
	n := 0
	for _, poolSelector := range orNone(poolSelectors) {
		for _, nodeSelector := range orNone(anyOf(nodes)) {
			for _, serviceSelector := range orNone(anyOf(services)) {
				n++
				out := &v1alpha1.Announcement{TypeMeta: typeOf("Announcement"), ObjectMeta: metav1.ObjectMeta{Name: unique(name, n)}, Spec: spec}
				out.Spec.PoolSelector, out.Spec.NodeSelector, out.Spec.ServiceSelector = poolSelector, nodeSelector, serviceSelector
				m.put(out, id, notes...)
				notes = nil // said once
			}
		}
	}
}

// byName selects pools by the label with their name.
func byName(names []string) *metav1.LabelSelector {
	if len(names) == 1 {
		return &metav1.LabelSelector{MatchLabels: map[string]string{PoolLabel: names[0]}}
	}
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: PoolLabel, Operator: metav1.LabelSelectorOpIn, Values: slices.Sorted(slices.Values(names))},
	}}
}

// advertised reports whether any advertisement selects p.
func (m *maker) advertised(p addressPool) bool {
	for _, a := range m.l2s {
		if a.Spec.pools.selects(p) {
			return true
		}
	}
	return slices.ContainsFunc(m.bgps, func(a bgpAdvertisement) bool { return a.Spec.pools.selects(p) })
}

func (s pools) selects(p addressPool) bool {
	if len(s.IPAddressPools) == 0 && len(s.IPAddressPoolSelectors) == 0 || slices.Contains(s.IPAddressPools, p.Name) {
		return true
	}
	return slices.ContainsFunc(s.IPAddressPoolSelectors, func(l metav1.LabelSelector) bool {
		sel, err := metav1.LabelSelectorAsSelector(&l)
		return err == nil && sel.Matches(labels.Set(p.Labels))
	})
}

// address reports whether text is an address without a zone.
func address(text string) bool {
	a, err := netip.ParseAddr(text)
	return err == nil && a.Zone() == ""
}
