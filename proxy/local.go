package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
// "interface-prefix=cali" or "bridge=cni0".
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

// KnownPods returns what the pods of the node called name are known by in the Table that
// Compile makes of the same arguments.
func KnownPods(s *snapshot.Snapshot, name string, opt Options) Known {
	var endpoints []netip.Addr
	for _, svc := range s.Services {
		if svc.Served() {
			endpoints = append(endpoints, here(svc, name)...)
		}
	}
	node := s.Node(name)
	if node == nil {
		node = opt.Self
	}
	return opt.Local.known(node, opt.Routed, sorted(endpoints), opt.Own)
}

// known returns what a Table knows the pods of node, which may be nil, by. The node
// has routes to pods at routed; endpoints are those that EndpointSlices place on the
// node, and own are the addresses of its links. routed and endpoints are sorted.
func (l Local) known(node *snapshot.Node, routed, endpoints, own []netip.Addr) (k Known) {
	switch {
	case l.Link != "":
		k.Links = []string{l.Link}
	case len(l.CIDRs) > 0:
		k.CIDRs = merged(l.CIDRs)
	case node != nil:
		k.CIDRs = merged(node.PodCIDRs)
	}
	if !l.Auto() {
		return k
	}
	if node != nil {
		own = slices.Concat(own, node.InternalIPs, node.ExternalIPs)
	}
	for _, a := range routed {
		if !k.Has(a) && !slices.Contains(own, a) {
			k.Routes = append(k.Routes, a)
		}
	}
	// Slices alone are not a list of the node's pods: those that only connect to others
	// are not in them. If they counted, these pods would be masqueraded.
	routes := Known{CIDRs: k.CIDRs, Routes: k.Routes}
	for _, a := range endpoints {
		if routes.any(snapshot.FamilyOf(a)) && !routes.Has(a) && !slices.Contains(own, a) {
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

// any reports whether k names pods of a family by CIDRs or routes.
func (k Known) any(family snapshot.Family) bool {
	return slices.ContainsFunc(k.CIDRs, func(p netip.Prefix) bool { return snapshot.FamilyOf(p.Addr()) == family }) ||
		slices.ContainsFunc(k.Routes, func(a netip.Addr) bool { return snapshot.FamilyOf(a) == family })
}

// sources returns the prefixes of all that k names, sorted. None contains another.
func (k Known) sources() []netip.Prefix {
	if len(k.Routes)+len(k.Endpoints) == 0 {
		return k.CIDRs
	}
	out := slices.Clone(k.CIDRs)
	for _, a := range slices.Concat(k.Routes, k.Endpoints) {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	slices.SortFunc(out, netip.Prefix.Compare)
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
