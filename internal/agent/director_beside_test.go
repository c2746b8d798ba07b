package agent

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// What other programs have on a node, in the words of nft. Pods are 10.1.0.0/16 and fd10::/16.
const (
	// A pod with hostPort 80, as CNI portmap has it, and Docker, whose FORWARD drops what
	// nobody let through.
	hostPortsAndDocker = `table ip hostports { chain c { type nat hook prerouting priority -100; fib daddr type local tcp dport 80 dnat to 10.1.1.4:8080; }; }
		table ip6 hostports { chain c { type nat hook prerouting priority -100; fib daddr type local tcp dport 80 dnat to [fd10:1::4]:8080; }; }
		table ip docker { chain c { type filter hook forward priority 0; policy drop; ct state established,related accept; ip daddr 10.1.0.0/16 accept; ip saddr 10.1.0.0/16 accept; }; }
		table ip6 docker { chain c { type filter hook forward priority 0; policy drop; ct state established,related accept; ip6 daddr fd10::/16 accept; ip6 saddr fd10::/16 accept; }; }`
	// firewalld with a trusted network of pods, and a loose reverse path filter.
	firewalld = `table inet firewalld {
			chain rpfilter { type filter hook prerouting priority -290; icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept; meta nfproto ipv6 fib saddr oif missing drop; }
			chain forward { type filter hook forward priority 10; ct state established,related accept; ct status dnat accept; ct state invalid drop; ip saddr 10.1.0.0/16 accept; ip daddr 10.1.0.0/16 accept; ip6 saddr fd10::/16 accept; ip6 daddr fd10::/16 accept; reject with icmpx admin-prohibited; }
			chain input { type filter hook input priority 10; ct state established,related accept; ct status dnat accept; iifname "lo" accept; ct state invalid drop; meta l4proto { icmp, icmpv6 } accept; reject with icmpx admin-prohibited; }
		}`
	// NodeLocal DNSCache has packets to its addresses not tracked.
	nodeLocalDNS = `table ip dns {
			chain in { type filter hook prerouting priority -300; ip daddr { 169.254.20.10, 10.96.0.10 } udp dport 53 notrack; }
			chain out { type filter hook output priority -300; ip saddr { 169.254.20.10, 10.96.0.10 } udp sport 53 notrack; }
		}`
)

// Packets are passed on unchanged, and open connections live, whatever other programs have on
// the nodes.
func TestDirectBesideOthers(t *testing.T) {
	nstest.NeedRoot(t)
	l := newDirectLab(t)
	l.owner(t, 1)
	l.endpoints(t, "n2.1", "n3.1")
	l.able(t, true, true, true)
	var all []*talk
	try := func(what string) {
		t.Helper()
		for _, vip := range directVIPs {
			all = append(all, l.open(t, vip, 20)...) // which wants the client's address
		}
		live(t, what, all)
	}
	try("nobody else is there")
	for _, c := range []struct{ what, rules, tables string }{
		{"hostPorts and Docker", hostPortsAndDocker, "ip hostports, ip6 hostports, ip docker, ip6 docker"},
		{"firewalld", firewalld, "inet firewalld"},
		{"NodeLocal DNSCache", nodeLocalDNS, "ip dns"},
	} {
		for _, n := range l.nodes {
			n.space.Pipe(t, c.rules, "nft", "-f", "-")
		}
		try("beside " + c.what)
	}
	for _, n := range l.nodes {
		n.otherPrograms(t)
	}
	try("beside other eBPF programs on the link")
	for i := range l.nodes {
		l.tell(t, "node n%d pods=10.9.%d.0/24,fd19:%d::/64", i+1, i+1, i+1)
	}
	l.sync(t)
	try("pods are outside of their nodes' podCIDRs")
	l.otherWay(t)
	try("another Service of the VIP is masqueraded")
	// A table of connections that is full is the machine's, and not a namespace's. The kernel
	// then drops what opens a connection.
	l.nodes[0].space.Pipe(t, `table inet full { chain c { type filter hook prerouting priority -199; ct state new ip daddr 203.0.113.80 drop; ct state new ip6 daddr 2001:db8:2::80 drop; }; }`, "nft", "-f", "-")
	try("the owner's table of connections is full")
}

// otherPrograms attaches eBPF programs to the node's link, which leave each packet to the next
// one: before the director where the kernel has tcx, and behind it at clsact.
func (n *directNode) otherPrograms(t *testing.T) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	n.space.Do(t, func() error {
		lan, err := net.InterfaceByName("lan")
		if err != nil {
			return err
		}
		first, err := link.AttachTCX(link.TCXOptions{Interface: lan.Index, Program: prog, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
		if err == nil {
			t.Cleanup(func() { _ = first.Close() })
		} else {
			t.Logf("no program before the director: %v", err)
		}
		qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: lan.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
		if err := netlink.QdiscReplace(qdisc); err != nil {
			return fmt.Errorf("clsact: %w", err)
		}
		return netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: lan.Index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: 50000, Protocol: unix.ETH_P_ALL},
			Fd:          prog.FD(), Name: "other", DirectAction: true,
		})
	})
}

// otherWay has another Service hold the VIPs too, which is masqueraded: its pods see the owner.
func (l *directLab) otherWay(t *testing.T) {
	t.Helper()
	l.tell(t, `address 203.0.113.80 holder=default/other,default/web key=k
address 2001:db8:2::80 holder=default/other,default/web key=k
service default/other type=LoadBalancer ip=10.96.0.2,fd96::2 families=4,6 policy=Require ports=tcp/81
endpoint default/other 10.1.2.2:8080 node=n2
endpoint default/other [fd10:2::2]:8080 node=n2`)
	l.sync(t)
	for _, vip := range directVIPs {
		owner := "198.18.0.1"
		if vip.Addr().Is6() {
			owner = "fd98::1"
		}
		for range 10 {
			var c net.Conn
			l.client.Do(t, func() (err error) {
				c, err = net.DialTimeout("tcp", netip.AddrPortFrom(vip.Addr(), 81).String(), directPatience)
				return err
			})
			pod, saw, err := (&talk{Conn: c}).ask()
			_ = c.Close()
			if err != nil || saw != owner {
				t.Errorf("port 81 of %s: %s saw %s, not %s: %v", vip.Addr(), pod, saw, owner, err)
			}
		}
	}
}

// Thousands of connections live while a node that others find them by leaves, and comes back.
func TestDirectThousands(t *testing.T) {
	nstest.NeedRoot(t)
	l := newDirectLab(t)
	l.owner(t, 1)
	l.endpoints(t, "n1.1", "n2.1")
	l.able(t, true, true, true)
	var all []*talk
	for range 10 {
		l.sync(t) // or the lease of the maps may end meanwhile
		for _, vip := range directVIPs {
			all = append(all, l.open(t, vip, 100)...)
		}
	}
	l.nodes[2].gone = true
	l.sync(t)
	live(t, "a node has left", all)
	l.nodes[2].gone = false
	l.endpoints(t, "n1.1", "n2.1", "n3.1", "n3.2")
	l.sync(t)
	live(t, "it is back, with pods", all)
	l.endpoints(t, "n1.1", "n2.1")
	l.nodes[2].gone = true
	l.sync(t)
	live(t, "it has left with its pods", all)
}

// Each node is an owner: a router spreads the packets over them. 200 connections live when the
// router adds and removes next hops, and when it hashes by something else.
func TestDirectRouterChanges(t *testing.T) {
	nstest.NeedRoot(t)
	l := newDirectLab(t)
	far := l.behindRouter(t)
	l.owners(t, 1, 2)
	l.endpoints(t, "n1.1", "n2.1", "n3.1")
	l.able(t, true, true, true)
	var all []*talk
	for i := range 100 {
		for _, vip := range directVIPs {
			all = append(all, farTalk(t, far, i%farClients, vip))
		}
	}
	for _, owners := range [][]int{{1, 2, 3}, {2, 3}, {3, 1}, {2}, {3, 2, 1}} {
		l.owners(t, owners...)
		live(t, fmt.Sprintf("the router has the nodes %v", owners), all)
	}
	for _, policy := range []string{"0", "1", "2"} {
		l.client.Run(t, "sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy="+policy, "net.ipv6.fib_multipath_hash_policy="+policy)
		live(t, "the router hashes by policy "+policy, all)
	}
}
