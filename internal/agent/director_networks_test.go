package agent

import (
	"net"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// The nodes have two networks. Packets are passed on over the first. What comes in by the
// second is served by the owner as with Masquerade, and answered there.
func TestDirectOnTwoNetworks(t *testing.T) {
	nstest.NeedRoot(t)
	l := newDirectLab(t)
	second := nstest.New(t, "second")
	batch(t, second, "link add name sw type bridge\nlink set sw up\n")
	join := func(s nstest.Space, number int) {
		batch(t, s, "link add name lan2 type veth peer name port%d netns %s\n", number, second.Name)
		batch(t, second, "link set port%d up master sw\n", number)
		batch(t, s, "addr add 198.18.3.%d/24 dev lan2\naddr add fd98:3::%d/64 dev lan2 nodad\nlink set lan2 up\n", number, number)
	}
	join(l.client, 9)
	for i, n := range l.nodes {
		join(n.space, i+1)
	}
	l.owner(t, 1)
	l.endpoints(t, "n2.1", "n3.1")
	l.able(t, true, true, true)
	for _, vip := range directVIPs {
		l.open(t, vip, 20) // which wants the client's address
	}
	batch(t, l.client, "route replace 203.0.113.80 via 198.18.3.1\nroute replace 2001:db8:2::80 via fd98:3::1\n")
	owner := map[netip.Addr]bool{netip.MustParseAddr("198.18.0.1"): true, netip.MustParseAddr("fd98::1"): true}
	for _, vip := range directVIPs {
		for range 20 {
			var c net.Conn
			l.client.Do(t, func() (err error) {
				c, err = net.DialTimeout("tcp", vip.String(), directPatience)
				return err
			})
			pod, saw, err := (&talk{Conn: c}).ask()
			_ = c.Close()
			if err != nil || !owner[netip.MustParseAddr(saw)] {
				t.Fatalf("by the second network %s saw %s, %v", pod, saw, err)
			}
		}
	}
}
