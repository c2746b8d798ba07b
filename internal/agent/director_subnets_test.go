package agent

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/direct"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/proxy/director"
	engines "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

// newRoutedLab is a directLab with a router between all nodes and the client.
func newRoutedLab(t *testing.T) *directLab {
	t.Helper()
	l := &directLab{client: nstest.New(t, "client"), bridge: nstest.New(t, "router"), world: storytest.NewWorld(), has: map[string]bool{}, routed: true}
	l.bridge.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0")
	// Of a narrow way the sender of a large question would be told, and not ask: this one is silent.
	l.bridge.Pipe(t, `table inet closed { chain c { type filter hook forward priority 0; udp dport 7949 drop; }; }`, "nft", "-f", "-")
	l.begin(t, false)
	return l
}

// route connects a namespace with the router, which has routes to its pods.
func (l *directLab) route(t *testing.T, s nstest.Space, number int) {
	t.Helper()
	batch(t, l.bridge, `link set port%[1]d up
addr add 198.18.1.%[1]d/32 dev port%[1]d
addr add fd98:1::%[1]d/128 dev port%[1]d nodad
route add 198.18.0.%[1]d dev port%[1]d
route add fd98::%[1]d dev port%[1]d
route add 10.1.%[1]d.0/24 via 198.18.0.%[1]d
route add fd10:%[1]d::/64 via fd98::%[1]d
`, number)
	batch(t, s, `addr add 198.18.0.%[1]d/32 dev lan
addr add fd98::%[1]d/128 dev lan nodad
link set lan up
route add 198.18.1.%[1]d dev lan
route add fd98:1::%[1]d dev lan
route add default via 198.18.1.%[1]d
route add default via fd98:1::%[1]d
`, number)
}

// Each node is alone in its subnet. While a router between them drops what they would send each
// other, the owner translates. Once it lets that through, pods see the client, and connections
// outlive the owner. A client's forged header is not believed.
func TestDirectSubnets(t *testing.T) {
	nstest.NeedRoot(t)
	l := newRoutedLab(t)
	l.owner(t, 1)
	l.endpoints(t, "n2.1", "n3.1")
	l.able(t, true, true, true)
	why := l.nodes[0].engine.director.Status().Why
	if !strings.HasPrefix(why, "n2, n3 in other subnets did not answer at UDP port 7949") {
		t.Errorf("n1 says %q", why)
	}
	for _, vip := range directVIPs {
		if _, saw := l.once(t, vip); saw == "198.18.0.9" || saw == "fd98::9" {
			t.Errorf("%s: not masqueraded: the pod saw %s", vip, saw)
		}
	}
	l.open7949(t)
	if got := l.nodes[0].engine.director.Status().Reaches; !slices.Equal(got, []string{"n2", "n3"}) {
		t.Errorf("n1 reaches %v", got)
	}
	var all []*talk
	for _, vip := range directVIPs {
		all = append(all, l.open(t, vip, 20)...) // which wants the client's address
	}
	for _, k := range all {
		k.download(t, 100_000)
	}
	if out := l.nodes[1].space.Run(t, "nft", "list", "table", "ip", "fairlead-director"); !strings.Contains(out, "maxseg size set 1432") {
		t.Errorf("segments are not lowered:\n%s", out)
	}
	l.forge(t)
	l.endpoints(t, "n1.1", "n1.2", "n2.1", "n2.2", "n3.1", "n3.2")
	l.sync(t)
	live(t, "with 6 endpoints", all)
	l.endpoints(t, "n2.1", "n3.1")
	l.sync(t)
	live(t, "with 2 endpoints", all)
	// Another agent starts on each node, and has not asked anybody yet.
	for _, n := range l.nodes {
		n.engine.director.program.Close()
		n.engine.director.hush()
		n.engine.cfg.Dataplane.(*engines.Engine).Close()
		n.start(t)
		l.sync(t)
		live(t, n.name+" has another agent", all)
	}
	l.able(t, true, true, true)
	live(t, "all have other agents", all)
	l.ownerDies(t, all)
}

// open7949 has the router let through what nodes send each other, and waits until all have ways.
func (l *directLab) open7949(t *testing.T) {
	t.Helper()
	l.bridge.Run(t, "nft", "delete", "table", "inet", "closed")
	nstest.Eventually(t, "all nodes to have ways to the others", func() bool {
		l.sync(t)
		for _, n := range l.nodes {
			if d := n.engine.director; d.state == nil || len(direct.Missing(d.state)) > 0 || d.Status().Why != "" {
				return false
			}
		}
		return true
	})
}

// once opens a connection, and returns which pod answers, and whom it saw.
func (l *directLab) once(t *testing.T, vip netip.AddrPort) (pod, saw string) {
	t.Helper()
	var c net.Conn
	l.client.Do(t, func() (err error) {
		c, err = net.DialTimeout("tcp", vip.String(), directPatience)
		return err
	})
	defer c.Close()
	pod, saw, err := (&talk{Conn: c}).ask()
	if err != nil {
		t.Fatal(err)
	}
	return pod, saw
}

// forge has the client send node n2 a packet with the director's header, as a node would.
func (l *directLab) forge(t *testing.T) {
	t.Helper()
	forged := func() uint64 {
		c, err := l.nodes[1].engine.director.program.Counters(l.nodes[1].engine.director.state)
		if err != nil {
			t.Fatal(err)
		}
		return c.Forged
	}
	before := forged()
	for i, vip := range directVIPs {
		from := netip.MustParseAddrPort([]string{"198.51.100.1:4000", "[2001:db8:9::1]:4000"}[i])
		b := packetOf(from, vip, stray(from, vip, 1), 0)
		l.client.Do(t, func() error {
			c, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr([]string{"198.18.0.2", "fd98::2"}[i]), director.Port).String())
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(b)
			return err
		})
	}
	nstest.Eventually(t, "n2 not to believe what the client forged", func() bool { return forged() == before+2 })
}
