package nodeport_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// The TCP node ports of a Service answer at the loopback address of each of its families that
// the node has an address of.
func TestRelays(t *testing.T) {
	ports := func(s *snapshot.Service) {
		s.Ports = []snapshot.Port{{Protocol: snapshot.TCP, NodePort: 30080}, {Protocol: snapshot.UDP, NodePort: 30080}, {Protocol: snapshot.TCP}}
	}
	tests := []struct {
		name, addrs, want string
		edit              func(*snapshot.Service)
	}{
		{name: "both families", addrs: "198.51.100.1 198.51.100.2 2001:db8::1", want: "127.0.0.1:30080>198.51.100.1 [::1]:30080>2001:db8::1"},
		{name: "a node of one family", addrs: "198.51.100.1", want: "127.0.0.1:30080>198.51.100.1"},
		{name: "a Service of one family", addrs: "198.51.100.1 2001:db8::1", want: "[::1]:30080>2001:db8::1", edit: func(s *snapshot.Service) { s.ClusterIPs = s.ClusterIPs[1:] }},
		{name: "no node ports", addrs: "198.51.100.1", edit: func(s *snapshot.Service) { s.Type = snapshot.ClusterIP }},
		{name: "another proxy's", addrs: "198.51.100.1", edit: func(s *snapshot.Service) {
			s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "other"}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := local(func(s *snapshot.Service) {
				ports(s)
				if tt.edit != nil {
					tt.edit(s)
				}
			})
			var got []string
			for _, r := range indexOf(s, "a").Relays(each(tt.addrs, netip.MustParseAddr)) {
				got = append(got, fmt.Sprintf("%s>%s", r.At, r.To))
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("got %s, want %s", text, tt.want)
			}
		})
	}
}
