package agent

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/astray"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// Errors are passed on between the nodes that may announce, about addresses that are held. Of
// too many nodes, each has those that follow it.
func TestStrayWants(t *testing.T) {
	ip := netip.MustParseAddr
	s := &snapshot.Snapshot{
		Nodes: []*snapshot.Node{
			{Name: "a", InternalIPs: []netip.Addr{ip("192.0.2.1"), ip("2001:db8::1")}},
			{Name: "b", InternalIPs: []netip.Addr{ip("192.0.2.2")}},
			{Name: "c", InternalIPs: []netip.Addr{ip("192.0.2.3")}, Labels: map[string]string{"edge": "yes"}},
		},
		Addresses: []*snapshot.Address{
			{Addr: ip("203.0.113.1"), Holders: []snapshot.Holder{{}}},
			{Addr: ip("203.0.113.2")},
		},
	}
	for _, c := range []struct {
		what, self, want string
		edge             bool
	}{
		{"nobody says who announces", "b", "{[192.0.2.2] [192.0.2.3 192.0.2.1 2001:db8::1] [203.0.113.1]}", false},
		{"one node announces", "b", "{[192.0.2.2] [192.0.2.3] [203.0.113.1]}", true},
		{"the Node was deleted", "gone", "{[192.0.2.9] [192.0.2.1 2001:db8::1 192.0.2.2 192.0.2.3] [203.0.113.1]}", false},
		{"no Node is known yet", "", "{[] [] []}", false},
	} {
		self := s.Node(c.self)
		if c.self == "gone" {
			self = &snapshot.Node{Name: "gone", InternalIPs: []netip.Addr{ip("192.0.2.9")}}
		}
		if s.Announcements = nil; c.edge {
			s.Announcements = []*snapshot.Announcement{{NodeSelector: &snapshot.Selector{MatchLabels: map[string]string{"edge": "yes"}}}}
		}
		if got := fmt.Sprint(strayWants(s, self)); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
	s.Nodes, s.Announcements = nil, nil
	for i := range 100 {
		s.Nodes = append(s.Nodes, &snapshot.Node{Name: fmt.Sprintf("n%02d", i), InternalIPs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}})
	}
	got := strayWants(s, s.Nodes[90]).Nodes
	if len(got) != astray.MostNodes || got[0] != ip("192.0.2.91") || !slices.Contains(got, ip("192.0.2.53")) {
		t.Errorf("of 100 nodes: %d, %v", len(got), got)
	}
}

// A router spreads the packets of a VIP over three nodes, and sends all errors to the first of
// them. Downloads that meet a link of a smaller MTU end, whichever node has the connection.
func TestErrorsReachTheirConnection(t *testing.T) {
	nstest.NeedRoot(t)
	for _, policy := range []string{"Cluster", "Local"} {
		t.Run(policy, func(t *testing.T) {
			l := newDirectLab(t)
			l.tell(t, "service default/web forwarding=Masquerade external=%s", policy)
			l.endpoints(t, "n1.1", "n2.1", "n3.1")
			l.sync(t)
			far := l.behindRouter(t)
			l.owners(t, 1, 2, 3)
			l.errorsTo(t, 1)
			l.passErrors(t)
			ended := 0
			for i := range farClients {
				for _, vip := range directVIPs {
					n, err := downloadFrom(t, far, i, vip, 100_000)
					if err != nil {
						t.Errorf("%s from %s: %d bytes, %v", vip, farAddr(i, vip.Addr().Is6()), n, err)
						continue
					}
					ended++
				}
			}
			t.Logf("%d of %d downloads end", ended, 2*farClients)
			for _, family := range []string{"ip", "ip6"} {
				for i, n := range l.nodes {
					rules := n.space.Run(t, "nft", "list", "chain", family, astray.Table, "others")
					if none := strings.Contains(rules, "counter packets 0 "); none != (i > 0) {
						t.Errorf("%s, which errors come to first: %v; its rules of %s:\n%s", n.name, i == 0, family, rules)
					}
				}
			}
		})
	}
}

// errorsTo has the router send ICMP to a node, whatever node the connection is with.
func (l *directLab) errorsTo(t *testing.T, n int) {
	t.Helper()
	batch(t, l.client, "route add 203.0.113.80 via 198.18.0.%d table 100\nroute add 2001:db8:2::80 via fd98::%d table 100\n", n, n)
	l.client.Run(t, "ip", "rule", "add", "ipproto", "icmp", "lookup", "100", "pref", "10")
	l.client.Run(t, "ip", "-6", "rule", "add", "to", "2001:db8:2::80", "ipproto", "ipv6-icmp", "lookup", "100", "pref", "10")
}

// passErrors has the nodes pass errors on, as their agents do.
func (l *directLab) passErrors(t *testing.T) {
	t.Helper()
	s, err := l.world.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range l.nodes {
		if err := astray.New(int(n.space.Handle)).Sync(strayWants(s, s.Node(n.name))); err != nil {
			t.Fatal(err)
		}
	}
}

// downloadFrom has a pod send so many bytes to an address of the host behind the router. It
// returns how many came.
func downloadFrom(t *testing.T, far nstest.Space, i int, vip netip.AddrPort, size int64) (n int64, err error) {
	t.Helper()
	var c net.Conn
	far.Do(t, func() (err error) {
		from := netip.AddrPortFrom(farAddr(i, vip.Addr().Is6()), 0)
		d := net.Dialer{Timeout: directPatience, LocalAddr: net.TCPAddrFromAddrPort(from)}
		c, err = d.DialContext(t.Context(), "tcp", vip.String())
		return err
	})
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(directPatience))
	if _, err := fmt.Fprintf(c, "bytes %d\n", size); err != nil {
		return 0, err
	}
	return io.CopyN(io.Discard, c, size)
}
