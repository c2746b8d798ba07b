package nodeport_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
)

// A process of the node that listens on a node port is found, if its
// address, family and protocol are those that the Service answers on.
func TestClaims(t *testing.T) {
	const both = "198.51.100.1 2001:db8::1"
	tests := []struct {
		name, sockets, addrs string
		edit                 func(*snapshot.Service)
		want                 string // where, of port 30080/tcp
	}{
		{name: "every address", sockets: "tcp/0.0.0.0:30080", addrs: both, want: "198.51.100.1"},
		{name: "every address of IPv6 alone", sockets: "tcp/[::]:30080", addrs: both, want: "2001:db8::1"},
		{name: "every address of both", sockets: "both/[::]:30080", addrs: both, want: "198.51.100.1, 2001:db8::1"},
		{name: "one address", sockets: "tcp/198.51.100.1:30080", addrs: both, want: "198.51.100.1"},
		{name: "an address that node ports do not answer on", sockets: "tcp/198.51.100.2:30080", addrs: both},
		{name: "loopback", sockets: "tcp/127.0.0.1:30080 tcp/[::1]:30080", addrs: both},
		{name: "another port", sockets: "tcp/0.0.0.0:30081", addrs: both},
		{name: "another protocol", sockets: "udp/0.0.0.0:30080", addrs: both},
		{name: "a family that the Service has not", sockets: "both/[::]:30080", addrs: both,
			edit: func(s *snapshot.Service) { s.ClusterIPs = s.ClusterIPs[:1] }, want: "198.51.100.1"},
		{name: "two sockets, one address each", sockets: "tcp/198.51.100.1:30080 tcp/[2001:db8::1]:30080", addrs: both, want: "198.51.100.1, 2001:db8::1"},
		{name: "no node port", sockets: "tcp/0.0.0.0:0", addrs: both, edit: func(s *snapshot.Service) { s.Ports[0].NodePort = 0 }},
		{name: "type ClusterIP", sockets: "tcp/0.0.0.0:30080", addrs: both, edit: func(s *snapshot.Service) { s.Type = snapshot.ClusterIP }},
		{name: "another proxy's", sockets: "tcp/0.0.0.0:30080", addrs: both, edit: func(s *snapshot.Service) { s.Headless = true }},
		{name: "many addresses", sockets: "tcp/0.0.0.0:30080", addrs: "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5 192.0.2.6 192.0.2.7 192.0.2.8 192.0.2.9",
			want: "192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4, 192.0.2.5, 192.0.2.6, 192.0.2.7, 192.0.2.8 and others"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := local(func(svc *snapshot.Service) {
				svc.Ports = []snapshot.Port{{Protocol: snapshot.TCP, Port: 80, NodePort: 30080}, {Name: "dns", Protocol: snapshot.UDP, Port: 53, NodePort: 30053}}
				if tt.edit != nil {
					tt.edit(svc)
				}
			})
			var want string
			if tt.want != "" {
				want = "node port 30080/tcp: a process listens on it at " + tt.want + " and gets no connection from outside, because the Service does"
			}
			var got string
			for _, p := range indexOf(s, "a").Occupied(each(tt.addrs, netip.MustParseAddr), each(tt.sockets, socket)) {
				got += p.Message
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// socket reads PROTOCOL/ADDRESS:PORT; both is TCP of both families.
func socket(text string) nodeport.Socket {
	protocol, addr, _ := strings.Cut(text, "/")
	s := nodeport.Socket{Protocol: snapshot.TCP, Addr: netip.MustParseAddrPort(addr), Both: protocol == "both"}
	if protocol == "udp" {
		s.Protocol = snapshot.UDP
	}
	return s
}
