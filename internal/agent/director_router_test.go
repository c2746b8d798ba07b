package agent

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// farClients is how many addresses a host behind the router has of each family. A kernel
// remembers the MTU of a way, so each download needs an address of its own.
const farClients = 15

// behindRouter makes the client a router, and returns a host behind it. The link between
// them takes 1,300 bytes, which the host does not know: its end takes 1,500.
func (l *directLab) behindRouter(t *testing.T) nstest.Space {
	t.Helper()
	far := nstest.New(t, "far")
	batch(t, l.client, "link add name far type veth peer name eth0 netns %s\nlink set far mtu 1300 up\naddr add 198.51.100.254/24 dev far\naddr add 2001:db8:9::fe/64 dev far nodad\n", far.Name)
	far.Run(t, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
	batch(t, far, "link set lo up\nlink set eth0 up\n")
	for i := range farClients {
		batch(t, far, "addr add %s/24 dev eth0\naddr add %s/64 dev eth0 nodad\n", farAddr(i, false), farAddr(i, true))
	}
	batch(t, far, "route add default via 198.51.100.254\nroute add default via 2001:db8:9::fe\n")
	l.client.Run(t, "sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1", "net.ipv6.fib_multipath_hash_policy=1")
	l.client.Pipe(t, `table inet told { chain c { type filter hook output priority 0;
		ip daddr 203.0.113.80 icmp type destination-unreachable counter
		ip6 daddr 2001:db8:2::80 icmpv6 type packet-too-big counter
	}; }`, "nft", "-f", "-")
	return far
}

func farAddr(i int, v6 bool) netip.Addr {
	if v6 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:9::%x", i+1))
	}
	return netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})
}

// owners has the router spread the packets to the VIPs over nodes, as by BGP.
func (l *directLab) owners(t *testing.T, nodes ...int) {
	t.Helper()
	var v4, v6 strings.Builder
	for _, n := range nodes {
		fmt.Fprintf(&v4, " nexthop via 198.18.0.%d", n)
		fmt.Fprintf(&v6, " nexthop via fd98::%d", n)
	}
	batch(t, l.client, "route replace 203.0.113.80%s\nroute replace 2001:db8:2::80%s\n", &v4, &v6)
}

// farTalk opens a connection to a VIP from an address of the host behind the router.
func farTalk(t *testing.T, far nstest.Space, i int, vip netip.AddrPort) *talk {
	t.Helper()
	from := farAddr(i, vip.Addr().Is6())
	k := &talk{}
	far.Do(t, func() (err error) {
		d := net.Dialer{Timeout: directPatience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		k.Conn, err = d.DialContext(t.Context(), "tcp", vip.String())
		return err
	})
	t.Cleanup(func() { k.Close() })
	pod, saw, err := k.ask()
	if k.pod = pod; err != nil || saw != from.String() {
		t.Fatalf("%s, with %q: the pod saw %q, %v", from, pod, saw, err)
	}
	return k
}

// Where a router spreads the packets over all nodes, connections go on when it spreads them
// otherwise. A router that cannot pass on a large answer tells the VIP, wherever that
// packet goes: the pod learns of it, and the download ends.
func TestDirectBehindRouter(t *testing.T) {
	for name, asking := range map[string]bool{"program": false, "nftables": true} {
		t.Run("connections looked for by "+name, func(t *testing.T) { testBehindRouter(t, asking) })
	}
}

func testBehindRouter(t *testing.T, asking bool) {
	nstest.NeedRoot(t)
	l := newDirectLabOf(t, asking)
	far := l.behindRouter(t)
	l.owners(t, 1, 2, 3)
	l.endpoints(t, "n1.1", "n2.1", "n3.1")
	l.able(t, true, true, true)
	var all []*talk
	for i := range farClients {
		for _, vip := range directVIPs {
			all = append(all, farTalk(t, far, i, vip))
		}
	}
	nodes := map[string]bool{}
	for _, k := range all {
		nodes[strings.TrimPrefix(strings.TrimPrefix(k.pod, "10.1."), "fd10:")[:1]] = true
		k.download(t, 100_000)
	}
	if len(nodes) < 3 {
		t.Errorf("connections with pods of the nodes %v alone", nodes)
	}
	if out := l.client.Run(t, "nft", "list", "table", "inet", "told"); strings.Contains(out, "counter packets 0 ") {
		t.Errorf("the router never said that a packet is too big:\n%s", out)
	}
	for _, owners := range [][]int{{2, 3}, {3}, {1, 3}, {1}, {1, 2, 3}} {
		l.owners(t, owners...)
		live(t, fmt.Sprintf("the router has the nodes %v", owners), all)
	}
}

// download has the pod send so many bytes.
func (k *talk) download(t *testing.T, size int64) {
	t.Helper()
	_ = k.SetDeadline(time.Now().Add(directPatience))
	if _, err := fmt.Fprintf(k, "bytes %d\n", size); err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, k, size); err != nil {
		t.Errorf("%s, with %s: %d of %d bytes: %v", k.LocalAddr(), k.pod, n, size, err)
	}
}
