package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Local says how a packet of one of this node's pods is known, so that its source
// is kept where it can be. The zero value finds the pods by itself: see Known.
type Local struct {
	NodeCIDR bool           // by the node's PodCIDRs alone
	CIDRs    []netip.Prefix // sources of all pods of the cluster
	Link     string         // the link that packets come in from; "cali*" is any that begins so
}

// Auto reports whether the pods are found by what the node shows.
func (l Local) Auto() bool { return !l.NodeCIDR && len(l.CIDRs) == 0 && l.Link == "" }

// Known is what the packets of this node's pods are known by. It names a pod once:
// by the first field that has it.
type Known struct {
	CIDRs     []netip.Prefix // of the Node, or of all pods of the cluster; merged
	Routes    []netip.Addr   // to which the node has a route over a pod's link; sorted
	Endpoints []netip.Addr   // of EndpointSlices that name the node; sorted
	Links     []string       // from which every packet is a pod's: see Table.LocalLinks
}

// longestLink is how many bytes a link's name has at most.
const longestLink = 15

// ParseLocal reads "auto", "node-cidr", "cluster-cidr=CIDR,CIDR",
// "interface-prefix=cali" or "bridge=cni0". It refuses any other text, and names of links with
// more than 15 bytes.
func ParseLocal(text string) (Local, error) {
	var l Local
	mode, value, _ := strings.Cut(text, "=")
	switch {
	case text == "auto":
		return l, nil
	case text == "node-cidr":
		return Local{NodeCIDR: true}, nil
	case mode == "cluster-cidr":
		for c := range strings.SplitSeq(value, ",") {
			p, err := netip.ParsePrefix(c)
			if err != nil {
				return Local{}, fmt.Errorf("%q is not a CIDR", c)
			}
			l.CIDRs = append(l.CIDRs, p.Masked())
		}
		return l, nil
	case mode == "interface-prefix" || mode == "bridge":
		if value == "" || len(value) > longestLink || strings.ContainsAny(value, "*/ \t") {
			return l, fmt.Errorf("%q is not the name of a link", value)
		}
		l.Link = value
		if mode == "interface-prefix" {
			l.Link += "*"
		}
		return l, nil
	}
	return l, fmt.Errorf("%q is not one of auto, node-cidr, cluster-cidr=CIDR,..., interface-prefix=NAME, bridge=NAME", text)
}

// traces are all that a Known depends on. The lists are sorted, but for own.
type traces struct {
	local     Local
	node      *snapshot.Node // may be nil
	routed    []netip.Addr   // to which the node has a route over a pod's link
	endpoints []netip.Addr   // that EndpointSlices place on the node
	own       []netip.Addr   // of the node's links
}

func (t traces) equal(o traces) bool {
	return t.local.NodeCIDR == o.local.NodeCIDR && t.local.Link == o.local.Link && slices.Equal(t.local.CIDRs, o.local.CIDRs) && t.node == o.node &&
		slices.Equal(t.routed, o.routed) && slices.Equal(t.endpoints, o.endpoints) && slices.Equal(t.own, o.own)
}

// KnownPods returns, by node, what the node's pods are known by in the Table that Compile
// makes for it with the Options that of returns. It leaves out nodes that s lacks.
func KnownPods(s *snapshot.Snapshot, of func(node string) Options) map[string]Known {
	endpoints := map[string][]netip.Addr{}
	for _, svc := range s.Services {
		if !svc.Served() {
			continue
		}
		for _, ep := range svc.Endpoints {
			if ep.Node != "" && dialable(ep.Addr.Addr()) {
				endpoints[ep.Node] = append(endpoints[ep.Node], ep.Addr.Addr())
			}
		}
	}
	out := make(map[string]Known, len(s.Nodes))
	for _, n := range s.Nodes {
		opt := of(n.Name)
		out[n.Name] = traces{opt.Local, n, opt.Routed, sorted(endpoints[n.Name]), opt.Own}.known()
	}
	return out
}

// known is the decision.
func (t traces) known() (k Known) {
	switch {
	case t.local.Link != "":
		k.Links = []string{t.local.Link}
	case len(t.local.CIDRs) > 0:
		k.CIDRs = merged(t.local.CIDRs)
	case t.node != nil:
		k.CIDRs = merged(t.node.PodCIDRs)
	}
	if !t.local.Auto() {
		return k
	}
	own := map[netip.Addr]bool{}
	for _, a := range t.own {
		own[a] = true
	}
	if t.node != nil {
		for _, a := range slices.Concat(t.node.InternalIPs, t.node.ExternalIPs) {
			own[a] = true
		}
	}
	for _, a := range t.routed {
		// On IPv6, a route like that of a pod leads to the node's own address.
		if !own[a] && !contains(k.CIDRs, a) {
			k.Routes = append(k.Routes, a)
		}
	}
	k.Routes = slices.Compact(k.Routes)
	// Slices alone are not a list of the node's pods: those that only connect to others
	// are not in them. If they counted, these pods would be masqueraded.
	some := map[snapshot.Family]bool{snapshot.IPv4: k.some(snapshot.IPv4), snapshot.IPv6: k.some(snapshot.IPv6)}
	for _, a := range t.endpoints {
		_, routed := slices.BinarySearchFunc(k.Routes, a, netip.Addr.Compare)
		if some[snapshot.FamilyOf(a)] && !own[a] && !routed && !contains(k.CIDRs, a) {
			k.Endpoints = append(k.Endpoints, a)
		}
	}
	return k
}

// Has reports whether a is the address of a pod by k, which may know pods by Links as
// well.
func (k Known) Has(a netip.Addr) bool {
	_, routed := slices.BinarySearchFunc(k.Routes, a, netip.Addr.Compare)
	_, endpoint := slices.BinarySearchFunc(k.Endpoints, a, netip.Addr.Compare)
	return routed || endpoint || contains(k.CIDRs, a)
}

// some reports whether k names pods of a family by CIDRs or routes.
func (k Known) some(family snapshot.Family) bool {
	return slices.ContainsFunc(k.CIDRs, func(p netip.Prefix) bool { return snapshot.FamilyOf(p.Addr()) == family }) ||
		slices.ContainsFunc(k.Routes, func(a netip.Addr) bool { return snapshot.FamilyOf(a) == family })
}

// sources returns the prefixes of all that k names, sorted. None contains another.
func (k Known) sources() []netip.Prefix {
	if len(k.Routes)+len(k.Endpoints) == 0 {
		return k.CIDRs
	}
	out := k.CIDRs
	for _, addrs := range [][]netip.Addr{k.Routes, k.Endpoints} {
		pods := make([]netip.Prefix, len(addrs))
		for i, a := range addrs {
			pods[i] = netip.PrefixFrom(a, a.BitLen())
		}
		out = diff.Apply(out, nil, pods, netip.Prefix.Compare)
	}
	return out
}

// fromPod reports whether p comes from a local pod, and whether local pods of its
// family are known at all.
func (t *Table) fromPod(p Packet) (pod, known bool) {
	pod = contains(t.LocalPods, p.Src) || slices.ContainsFunc(t.LocalLinks, func(name string) bool {
		prefix, any := strings.CutSuffix(name, "*")
		return p.Link == name || any && strings.HasPrefix(p.Link, prefix)
	})
	return pod, len(t.LocalLinks) > 0 ||
		slices.ContainsFunc(t.LocalPods, func(r netip.Prefix) bool { return r.Addr().Is4() == p.Src.Is4() })
}

// uplinks are the names of links, sorted, without those that lead to endpoints of this
// node as well. An endpoint that has the link's own address is the node.
func uplinks(links []snapshot.Link, here []netip.Addr) (out []string) {
	for _, l := range links {
		bridged := slices.ContainsFunc(here, func(a netip.Addr) bool {
			return l.Contains(a) && !slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr() == a })
		})
		if !bridged {
			out = append(out, l.Name)
		}
	}
	slices.Sort(out)
	return out
}
