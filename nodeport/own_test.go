package nodeport_test

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
)

// The owner of a Service hears of it when its VIP is an address of a node.
func TestOwned(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.10")
	tests := []struct {
		name string
		own  string
		edit func(*snapshot.Service, *snapshot.Address)
		want string
	}{
		{name: "its VIP", own: "192.0.2.10", want: "192.0.2.10 is an address of this node, which does not forward it to the Service"},
		{name: "another address", own: "192.0.2.11"},
		{name: "none"},
		{name: "the record of an earlier Service of this name", own: "192.0.2.10", edit: func(s *snapshot.Service, _ *snapshot.Address) { s.UID = "2" }},
		{name: "no longer a load balancer", own: "192.0.2.10", edit: func(s *snapshot.Service, _ *snapshot.Address) { s.Type = snapshot.NodePort }},
		{name: "a record that is being deleted", own: "192.0.2.10", edit: func(_ *snapshot.Service, a *snapshot.Address) { a.Deleting = true }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := local(func(svc *snapshot.Service) { svc.UID = "1" })
			record := &snapshot.Address{Addr: addr, Holders: []snapshot.Holder{{Ref: s.Services[0].Ref, UID: "1"}}}
			if tt.edit != nil {
				tt.edit(s.Services[0], record)
			}
			s.Addresses = []*snapshot.Address{record}
			var got string
			for _, p := range nodeport.Owned(s, each(tt.own, netip.MustParseAddr)) {
				got += p.Message
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
