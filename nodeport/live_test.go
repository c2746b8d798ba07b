package nodeport_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/nodeport"
)

// spec 26: an address that a node gets, or loses, while the agent runs is served
// from then on, or no longer, if a CIDR holds it.
func TestAddressesAreFollowed(t *testing.T) {
	node, peer := nstest.New(t, "node"), nstest.New(t, "peer")
	nstest.Wire(t, node, peer, "198.18.0.1/24", "198.18.0.2/24")
	ctx, cancel := context.WithCancel(t.Context())
	events, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		node.Do(t, func() error {
			return link.Watch(ctx, func() {
				select {
				case events <- struct{}{}:
				default:
				}
			})
		})
	}()
	defer func() { cancel(); <-done }()
	follow := func(want string, change ...string) {
		t.Helper()
		nstest.Eventually(t, "node ports answer on "+want, func() bool {
			node.Run(t, change...) // again and again: the first may come before Watch listens
			select {
			case <-events:
			default:
				return false
			}
			var st link.State
			node.Do(t, func() (err error) { st, err = link.Read(); return err })
			in := &snapshot.Node{InternalIPs: each("198.18.0.1", netip.MustParseAddr)}
			return join(nodeport.Resolve(in, st.Addrs, each("198.18.0.0/16", netip.MustParsePrefix))) == want
		})
	}
	const flap = "ip link set lo down; ip link set lo up; "
	follow("198.18.0.1 198.18.5.1", "sh", "-c", flap+"ip addr replace 198.18.5.1/24 dev eth0")
	follow("198.18.0.1", "sh", "-c", flap+"ip addr del 198.18.5.1/24 dev eth0 2>/dev/null || true")
}

func TestParseAddresses(t *testing.T) {
	tests := []struct {
		name, in, want string
		fails          bool
		localhost      bool
	}{
		{name: "nothing"},
		{name: "primary", in: "primary"},
		{name: "CIDRs, with host bits", in: "198.51.100.7/24 ::/0", want: "198.51.100.0/24 ::/0"},
		{name: "primary and a CIDR", in: "primary 198.51.100.0/24", fails: true},
		{name: "a CIDR and primary", in: "198.51.100.0/24 primary", fails: true},
		{name: "an address", in: "198.51.100.1", fails: true},
		{name: "localhost", in: "localhost", localhost: true},
		{name: "localhost and primary", in: "localhost primary", localhost: true},
		{name: "localhost and CIDRs", in: "198.51.100.7/24 localhost ::/0", want: "198.51.100.0/24 ::/0", localhost: true},
		{name: "localhost, primary and a CIDR", in: "localhost primary ::/0", fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, localhost, err := nodeport.ParseAddresses(each(tt.in, func(s string) string { return s }))
			if (err != nil) != tt.fails {
				t.Fatalf("error %v", err)
			}
			if localhost != tt.localhost {
				t.Errorf("localhost %v", localhost)
			}
			want := each(tt.want, netip.MustParsePrefix)
			if len(got) != len(want) || len(got) > 0 && (got[0] != want[0] || got[1] != want[1]) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// spec 27: a CIDR that names loopback alone is a mistake that is told.
func TestUnserved(t *testing.T) {
	got := nodeport.Unserved(each("127.0.0.0/8 0.0.0.0/0 ::1/128 198.51.100.0/24 fe80::/10 ::/0", netip.MustParsePrefix))
	if len(got) != 3 || got[0].String() != "127.0.0.0/8" || got[1].String() != "::1/128" || got[2].String() != "fe80::/10" {
		t.Errorf("got %v", got)
	}
}
