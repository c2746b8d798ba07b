package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// PoolLabel is the label with its own name that every imported pool gets, because
// an Announcement selects pools by labels and MetalLB by names.
const PoolLabel = "fairlead.io/pool"

func (m *maker) pool(p addressPool) {
	out := &v1alpha1.AddressPool{
		TypeMeta:   typeOf("AddressPool"),
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Labels: map[string]string{PoolLabel: p.Name}},
		Spec:       v1alpha1.AddressPoolSpec{AutoAssign: p.Spec.AutoAssign, AvoidBuggyIPs: p.Spec.AvoidBuggyIPs},
	}
	for k, v := range p.Labels {
		if m.selected(k) {
			out.Labels[k] = v
		}
	}
	var notes []string
	for _, text := range p.Spec.Addresses {
		entry, why := poolEntry(text)
		if why != "" {
			notes = append(notes, why)
		}
		out.Spec.Addresses = append(out.Spec.Addresses, entry)
	}
	if a := p.Spec.ServiceAllocation; a != nil {
		if a.Priority != 0 {
			out.Spec.Priority = &a.Priority
		}
		out.Spec.Namespaces = a.Namespaces
		out.Spec.NamespaceSelector = m.only(anyOf(a.NamespaceSelectors), "namespaceSelectors", &notes)
		out.Spec.ServiceSelector = m.only(anyOf(a.ServiceSelectors), "serviceSelectors", &notes)
	}
	if !m.advertised(p) {
		notes = append(notes, "no advertisement selects this pool: MetalLB does not announce it, fairlead announces it over layer 2 on every suitable link")
	}
	m.put(out, "IPAddressPool/"+p.Name, notes...)
}

// selected reports whether an advertisement selects pools by the label key. Other labels
// stay behind: by those of Argo CD or Helm, the new pool would be theirs, and be pruned.
func (m *maker) selected(key string) bool {
	inPools := func(s pools) bool {
		return slices.ContainsFunc(s.IPAddressPoolSelectors, func(l metav1.LabelSelector) bool {
			_, named := l.MatchLabels[key]
			return named || slices.ContainsFunc(l.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool { return r.Key == key })
		})
	}
	return slices.ContainsFunc(m.l2s, func(a l2Advertisement) bool { return inPools(a.Spec.pools) }) ||
		slices.ContainsFunc(m.bgps, func(a bgpAdvertisement) bool { return inPools(a.Spec.pools) })
}

// only returns the one selector that there may be. Of several that cannot be
// merged, none is taken.
func (m *maker) only(all []*metav1.LabelSelector, field string, notes *[]string) *metav1.LabelSelector {
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	*notes = append(*notes, fmt.Sprintf("%s: %d selectors cannot be one if any of them is enough. The first is taken: make a pool for each, with addresses of its own", field, len(all)))
	return all[0]
}

// poolEntry writes an entry of a pool as fairlead wants it, and says what it
// changed.
func poolEntry(text string) (entry, note string) {
	entry = strings.ReplaceAll(text, " ", "")
	if p, err := netip.ParsePrefix(entry); err == nil && p != p.Masked() {
		return p.Masked().String(), fmt.Sprintf("%s has host bits set: MetalLB reads it as %s", text, p.Masked())
	}
	if from, to, isRange := strings.Cut(entry, "-"); isRange {
		a, errA := netip.ParseAddr(from)
		b, errB := netip.ParseAddr(to)
		if errA != nil || errB != nil || b.Less(a) {
			return entry, fmt.Sprintf("%q is not a range of addresses", text)
		}
	}
	return entry, ""
}
