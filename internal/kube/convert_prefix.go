package kube

import (
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// mostPrefixes is how many prefixes a NodeState lists, as the API type has it.
const mostPrefixes = 64

// followPrefix adds to out what p says of the prefix that it follows, and which prefixes
// it knows.
func followPrefix(out *snapshot.Pool, p *v1alpha1.AddressPool) *snapshot.Pool {
	spec := p.Spec.FromPrefix
	out.FromPrefix = &snapshot.FromPrefix{
		Interface: spec.Interface, UniqueLocal: spec.Scope == v1alpha1.PrefixUniqueLocal, Nodes: toSelector(spec.NodeSelector), Grace: snapshot.DefaultGrace,
	}
	if spec.Grace != nil {
		out.FromPrefix.Grace = spec.Grace.Duration
	}
	host, err := parseHost(spec.Host)
	if err != nil {
		out.Bad = append(out.Bad, err.Error())
		return out
	}
	out.FromPrefix.Host = host
	var known []snapshot.PoolPrefix
	for _, k := range p.Status.Prefixes {
		if prefix, ok := toPrefix(k.Prefix); ok {
			known = append(known, snapshot.PoolPrefix{Prefix: prefix, State: snapshot.PrefixState(k.State), Since: k.Since.Time, Until: timeOf(k.Until)})
		}
	}
	slices.SortFunc(known, func(a, b snapshot.PoolPrefix) int { return a.Prefix.Compare(b.Prefix) })
	return out.WithPrefixes(known)
}

// parseHost reads "::10" or "::10-::ff".
func parseHost(text string) (netipx.IPRange, error) {
	r, err := parseRange(text)
	if err != nil {
		return r, fmt.Errorf("spec.fromPrefix.host: %w", err)
	}
	low := netip.PrefixFrom(netip.IPv6Unspecified(), snapshot.PrefixBits)
	switch {
	case !low.Contains(r.From()) || !low.Contains(r.To()):
		return netipx.IPRange{}, fmt.Errorf("spec.fromPrefix.host: %q has more than the last %d bits of an IPv6 address", text, 128-snapshot.PrefixBits)
	case r.Contains(netip.IPv6Unspecified()):
		// RFC 4291 section 2.6.1: all routers of the prefix answer there.
		return netipx.IPRange{}, fmt.Errorf("spec.fromPrefix.host: %q contains ::, which is an address of the routers", text)
	}
	return r, nil
}

// toPrefix reads an IPv6 prefix of 64 bits. It passes over others, which no pool follows.
func toPrefix(text string) (netip.Prefix, bool) {
	p, ok := snapshot.ParsePrefix(text)
	return p, ok && p.Addr().Is6() && p.Bits() == snapshot.PrefixBits && p == p.Masked()
}

// FromPrefixes is the status.prefixes of a pool that knows known.
func FromPrefixes(known []snapshot.PoolPrefix) []v1alpha1.PoolPrefix {
	return each(known, func(k snapshot.PoolPrefix) v1alpha1.PoolPrefix {
		return v1alpha1.PoolPrefix{Prefix: k.Prefix.String(), State: v1alpha1.PrefixState(k.State), Since: metav1.Time{Time: k.Since}, Until: toTime(k.Until)}
	})
}

func toLinkPrefixes(list []v1alpha1.LinkPrefix) (out []snapshot.LinkPrefix) {
	for _, l := range first(list, mostPrefixes) {
		if p, ok := toPrefix(l.Prefix); ok {
			out = append(out, snapshot.LinkPrefix{Link: l.Link, Prefix: p, Deprecated: l.Deprecated})
		}
	}
	return out
}

func fromLinkPrefix(l snapshot.LinkPrefix) v1alpha1.LinkPrefix {
	return v1alpha1.LinkPrefix{Link: l.Link, Prefix: l.Prefix.String(), Deprecated: l.Deprecated}
}
