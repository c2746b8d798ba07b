package nodeport_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
)

// local is a Service whose health check port is 30500, with two endpoints on
// node a and one on node b.
func local(edit func(*snapshot.Service)) *snapshot.Snapshot {
	svc := &snapshot.Service{
		Ref: snapshot.Ref{Namespace: "default", Name: "web"}, Type: snapshot.LoadBalancer, ExternalTrafficPolicy: snapshot.PolicyLocal,
		HealthCheckNodePort: 30500, ClusterIPs: each("10.96.0.1 2001:db8:96::1", netip.MustParseAddr),
		Endpoints: []snapshot.Endpoint{
			{PortName: "http", Addr: netip.MustParseAddrPort("10.1.1.5:80"), Node: "a", Ready: true, Serving: true},
			{PortName: "https", Addr: netip.MustParseAddrPort("10.1.1.5:443"), Node: "a", Ready: true, Serving: true},
			{PortName: "http", Addr: netip.MustParseAddrPort("10.1.1.6:80"), Node: "a", Ready: true, Serving: true},
			{PortName: "http", Addr: netip.MustParseAddrPort("[2001:db8:1::5]:80"), Node: "a", Ready: true, Serving: true},
			{PortName: "http", Addr: netip.MustParseAddrPort("10.1.2.5:80"), Node: "b", Ready: true, Serving: true},
		},
	}
	if edit != nil {
		edit(svc)
	}
	return &snapshot.Snapshot{Services: []*snapshot.Service{svc}}
}

// spec 51, 52, 54, 55, 56: which Services have a health check port, and how many
// endpoints it counts: addresses, not ports, of this node, ready, a family at a
// time. A Service with one family answers on the node's addresses of both.
func TestChecks(t *testing.T) {
	tests := []struct {
		name string
		node string
		edit func(*snapshot.Service)
		want string
	}{
		{name: "addresses count, not ports", node: "a", want: "IPv4 30500 2, IPv6 30500 1"},
		{name: "on the other node", node: "b", want: "IPv4 30500 1, IPv6 30500 0"},
		{name: "on a node without endpoints", node: "c", want: "IPv4 30500 0, IPv6 30500 0"},
		{name: "endpoints of no node count where there are no others", node: "c", edit: func(s *snapshot.Service) { s.Endpoints[0].Node, s.Endpoints[2].Node = "", "" },
			want: "IPv4 30500 2, IPv6 30500 0"},
		{name: "and nowhere else", node: "b", edit: func(s *snapshot.Service) { s.Endpoints[0].Node, s.Endpoints[2].Node = "", "" },
			want: "IPv4 30500 1, IPv6 30500 0"},
		{name: "one family, asked on addresses of both", node: "a", edit: func(s *snapshot.Service) { s.ClusterIPs = s.ClusterIPs[:1] },
			want: "IPv4 30500 2, IPv6 30500 2"},
		{name: "the other family, asked on addresses of both", node: "a", edit: func(s *snapshot.Service) { s.ClusterIPs = s.ClusterIPs[1:] },
			want: "IPv4 30500 1, IPv6 30500 1"},
		{name: "headless", node: "a", edit: func(s *snapshot.Service) { s.ClusterIPs = nil }},
		{name: "terminating endpoints do not count", node: "a", edit: func(s *snapshot.Service) {
			for i := range s.Endpoints {
				s.Endpoints[i].Ready, s.Endpoints[i].Terminating = false, true
			}
		}, want: "IPv4 30500 0, IPv6 30500 0"},
		{name: "endpoints that the engine refuses do not count", node: "a", edit: func(s *snapshot.Service) {
			s.Endpoints[2].Addr = netip.MustParseAddrPort("169.254.169.254:80")
		}, want: "IPv4 30500 1, IPv6 30500 1"},
		{name: "another port", node: "b", edit: func(s *snapshot.Service) { s.HealthCheckNodePort = 30501 }, want: "IPv4 30501 1, IPv6 30501 0"},
		{name: "policy Cluster", node: "a", edit: func(s *snapshot.Service) { s.ExternalTrafficPolicy = snapshot.PolicyCluster }},
		{name: "type NodePort", node: "a", edit: func(s *snapshot.Service) { s.Type = snapshot.NodePort }},
		{name: "no port", node: "a", edit: func(s *snapshot.Service) { s.HealthCheckNodePort = 0 }},
		{name: "another proxy's", node: "a", edit: func(s *snapshot.Service) {
			s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "other"}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, c := range indexOf(local(tt.edit), tt.node).Checks() {
				got = append(got, fmt.Sprintf("%s %d %d", c.Family, c.Port, c.Local))
			}
			if text := strings.Join(got, ", "); text != tt.want {
				t.Errorf("got %q, want %q", text, tt.want)
			}
		})
	}
}

// spec 56: health checks answer on the addresses on which node ports answer.
func TestListeners(t *testing.T) {
	checks := indexOf(local(nil), "a").Checks()
	const addrs = "198.51.100.1 198.51.100.101 2001:db8::1"
	tests := []struct{ name, addrs, cidrs, want string }{
		{name: "on each address", addrs: addrs, want: "198.51.100.1:30500=2 198.51.100.101:30500=2 [2001:db8::1]:30500=1"},
		{name: "CIDRs that do not match all", addrs: "198.51.100.1", cidrs: "198.51.100.0/24", want: "198.51.100.1:30500=2"},
		{name: "all of one family", addrs: addrs, cidrs: "0.0.0.0/0", want: "0.0.0.0:30500=2 [2001:db8::1]:30500=1"},
		{name: "all of both", addrs: addrs, cidrs: "::/0 0.0.0.0/0", want: "0.0.0.0:30500=2 [::]:30500=1"},
		{name: "no address", want: ""},
		{name: "all of both, on a node with one", addrs: "198.51.100.1", cidrs: "::/0 0.0.0.0/0", want: "0.0.0.0:30500=2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, l := range nodeport.Listeners(checks, each(tt.addrs, netip.MustParseAddr), each(tt.cidrs, netip.MustParsePrefix)) {
				got = append(got, fmt.Sprintf("%s=%d", l.Addr, l.Local))
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("got %q, want %q", text, tt.want)
			}
		})
	}
}

// spec 57: what makes load balancers leave a node.
func TestEligible(t *testing.T) {
	tests := []struct {
		name string
		node *snapshot.Node
		want bool
	}{
		{"a node", &snapshot.Node{}, true},
		{"no node", nil, false},
		{"being deleted", &snapshot.Node{Deleting: true}, false},
		{"about to be taken away", &snapshot.Node{Taints: []string{"a", nodeport.ToBeDeleted}}, false},
		{"unreachable", &snapshot.Node{Taints: []string{"node.kubernetes.io/unreachable"}}, true},
		{"cordoned and not ready", &snapshot.Node{Unschedulable: true, Taints: []string{"node.kubernetes.io/unschedulable"}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := nodeport.Eligible(tt.node); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
