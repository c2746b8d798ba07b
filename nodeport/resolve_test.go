package nodeport_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
)

func TestResolve(t *testing.T) {
	const links = "127.0.0.1 ::1 198.51.100.1 198.51.100.101 203.0.113.5 2001:db8::1 2001:db8::101 fe80::1"
	tests := []struct {
		name              string
		internal          string // the Node's InternalIPs, in their order
		links, cidr, want string
	}{
		{name: "the primary address of each family", internal: "198.51.100.1 198.51.100.101 2001:db8::1 2001:db8::101", links: links,
			want: "198.51.100.1 2001:db8::1"},
		{name: "primary is the first, not the lowest", internal: "198.51.100.101 198.51.100.1", links: links, want: "198.51.100.101"},
		{name: "one family", internal: "2001:db8::1", links: links, want: "2001:db8::1"},
		{name: "a node without addresses", links: links},
		{name: "a primary address that is loopback", internal: "127.0.0.1", links: links},
		{name: "a primary address that is link-local", internal: "fe80::1 169.254.0.5", links: links},
		{name: "a CIDR of a secondary address", internal: "198.51.100.1", links: links, cidr: "198.51.100.96/27", want: "198.51.100.101"},
		{name: "a CIDR of one family closes the other", internal: "198.51.100.1 2001:db8::1", links: links, cidr: "198.51.100.0/24",
			want: "198.51.100.1 198.51.100.101"},
		{name: "overlapping CIDRs", internal: "198.51.100.1", links: links, cidr: "198.51.100.0/24 198.51.100.0/25",
			want: "198.51.100.1 198.51.100.101"},
		{name: "all addresses, but for loopback and link-local ones", internal: "198.51.100.1", links: links, cidr: "0.0.0.0/0 ::/0",
			want: "198.51.100.1 198.51.100.101 203.0.113.5 2001:db8::1 2001:db8::101"},
		{name: "loopback is never served", internal: "198.51.100.1", links: links, cidr: "127.0.0.0/8 ::1/128"},
		{name: "sorted, each once", internal: "198.51.100.101", links: links, cidr: "198.51.100.0/24", want: "198.51.100.1 198.51.100.101"},
		{name: "an InternalIP that no link has", internal: "192.0.2.1", links: links, cidr: "192.0.2.0/24", want: "192.0.2.1"},
		{name: "CIDRs that match nothing", internal: "198.51.100.1", links: links, cidr: "192.0.2.0/24"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			node := &snapshot.Node{Name: "a", InternalIPs: each(tt.internal, netip.MustParseAddr)}
			got := nodeport.Resolve(node, each(tt.links, netip.MustParseAddr), each(tt.cidr, netip.MustParsePrefix))
			if text := join(got); text != tt.want {
				t.Errorf("got %q, want %q", text, tt.want)
			}
		})
	}
}

func TestResolveWithoutNode(t *testing.T) {
	if got := nodeport.Resolve(nil, each("198.51.100.1", netip.MustParseAddr), each("0.0.0.0/0", netip.MustParsePrefix)); got != nil {
		t.Errorf("a node that is not in the cluster answers on %v", got)
	}
}

// TestResolveLeavesItsInput: the addresses of a Snapshot are shared.
func TestResolveLeavesItsInput(t *testing.T) {
	node := &snapshot.Node{InternalIPs: each("198.51.100.9 127.0.0.1 198.51.100.1", netip.MustParseAddr)}
	nodeport.Resolve(node, nil, each("0.0.0.0/0", netip.MustParsePrefix))
	nodeport.Resolve(node, nil, nil)
	if got := join(node.InternalIPs); got != "198.51.100.9 127.0.0.1 198.51.100.1" {
		t.Errorf("InternalIPs became %s", got)
	}
}

func each[T any](text string, parse func(string) T) []T {
	var out []T
	for _, w := range strings.Fields(text) {
		out = append(out, parse(w))
	}
	return out
}

func join(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}
