package dataplanetest

import (
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/proxy"
)

// Normal returns t as a Dump gives it back: without what no kernel holds
// (Service, PortName, the affinity of a Frontend without endpoints, fields that
// its kind does not have), with prefixes merged (but for LocalPods) and empty lists nil.
func Normal(t *proxy.Table) *proxy.Table {
	out := &proxy.Table{
		NodePortAddrs: clip(t.NodePortAddrs),
		ServiceCIDRs:  merge(t.ServiceCIDRs),
		LocalPods:     clip(t.LocalPods),
		LocalLinks:    clip(t.LocalLinks),
		Uplinks:       clip(t.Uplinks),
		Ways:          clip(t.Ways),
		Hairpin:       clip(t.Hairpin),
		KeepPorts:     clip(t.KeepPorts),
	}
	for _, f := range t.Frontends {
		out.Frontends = append(out.Frontends, normalFrontend(f))
	}
	return out
}

func normalFrontend(f *proxy.Frontend) *proxy.Frontend {
	n := &proxy.Frontend{Key: f.Key, Ranges: clip(f.Ranges), Cluster: clip(f.Cluster), Empty: f.Empty}
	if f.Kind != proxy.ClusterIP && f.LocalOnly {
		n.LocalOnly, n.Local = true, clip(f.Local)
	}
	if f.Directed {
		n.Directed, n.Local = true, clip(f.Local)
	}
	if len(n.Cluster)+len(n.Local) > 0 {
		if n.AllPorts = f.AllPorts; !f.AllPorts {
			n.Affinity = f.Affinity.Truncate(time.Second)
		}
	}
	if (f.Kind == proxy.VIP || f.Kind == proxy.ExternalIP) && f.Sources != nil {
		n.Sources = append([]netip.Prefix{}, merge(f.Sources)...)
	}
	return n
}

func clip[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return slices.Clone(s)
}

// merge returns the fewest prefixes that hold the same addresses, sorted.
func merge(prefixes []netip.Prefix) []netip.Prefix {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		b.AddPrefix(p)
	}
	set, err := b.IPSet()
	if err != nil {
		return nil
	}
	return clip(set.Prefixes())
}
