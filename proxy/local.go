package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Local says how a packet of one of this node's pods is known, so that its source
// is kept where it can be. The zero value knows it by the node's PodCIDRs.
type Local struct {
	CIDRs []netip.Prefix // sources of all pods of the cluster
	Link  string         // the link that packets come in from; "cali*" is any that begins so
}

// longestLink is how many bytes a link's name has at most.
const longestLink = 15

// ParseLocal reads "node-cidr", "cluster-cidr=CIDR,CIDR", "interface-prefix=cali"
// or "bridge=cni0".
func ParseLocal(text string) (Local, error) {
	var l Local
	mode, value, _ := strings.Cut(text, "=")
	switch {
	case text == "node-cidr":
		return l, nil
	case mode == "cluster-cidr":
		for c := range strings.SplitSeq(value, ",") {
			p, err := netip.ParsePrefix(c)
			if err != nil {
				return Local{}, fmt.Errorf("%q is no CIDR", c)
			}
			l.CIDRs = append(l.CIDRs, p.Masked())
		}
		return l, nil
	case mode == "interface-prefix" || mode == "bridge":
		if value == "" || len(value) > longestLink || strings.ContainsAny(value, "*/ \t") {
			return l, fmt.Errorf("%q is no name of a link", value)
		}
		l.Link = value
		if mode == "interface-prefix" {
			l.Link += "*"
		}
		return l, nil
	}
	return l, fmt.Errorf("%q is none of node-cidr, cluster-cidr=CIDR,..., interface-prefix=NAME, bridge=NAME", text)
}

// pods returns what a Table knows the pods of node, which may be nil, by.
func (l Local) pods(node *snapshot.Node) (sources []netip.Prefix, links []string) {
	switch {
	case l.Link != "":
		return nil, []string{l.Link}
	case len(l.CIDRs) > 0:
		return merged(l.CIDRs), nil
	case node != nil:
		return merged(node.PodCIDRs), nil
	}
	return nil, nil
}

// fromPod tells whether p comes from a local pod, and whether local pods of its
// family are known at all.
func (t *Table) fromPod(p Packet) (pod, known bool) {
	pod = contains(t.LocalPods, p.Src) || slices.ContainsFunc(t.LocalLinks, func(name string) bool {
		prefix, any := strings.CutSuffix(name, "*")
		return p.Link == name || any && strings.HasPrefix(p.Link, prefix)
	})
	return pod, len(t.LocalLinks) > 0 ||
		slices.ContainsFunc(t.LocalPods, func(r netip.Prefix) bool { return r.Addr().Is4() == p.Src.Is4() })
}
