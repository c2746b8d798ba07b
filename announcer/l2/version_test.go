package l2

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/arp"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// asVersion01 puts the VIPs on the link as version 0.1 did.
func (l lan) asVersion01(t *testing.T) {
	t.Helper()
	link, err := l.links.LinkByName("eth0")
	for _, vip := range []netip.Addr{vip4, vip6} {
		if err == nil {
			err = l.links.AddrReplace(link, leased(vip, link.Attrs().Index, 30*time.Second))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// member reports whether the node is a member of the group of vip6.
func (l lan) member(t *testing.T) bool {
	t.Helper()
	return strings.Contains(l.node.Run(t, "ip", "-6", "maddr", "show", "dev", "eth0"), "ff02::1:ff00:200")
}

// The leases of version 0.1 are adopted without a question that nobody answers, and
// without an announcement. Then they are addresses of no link.
func TestLeasesOfVersion01AreAdopted(t *testing.T) {
	l := newLAN(t)
	l.asVersion01(t)
	nstest.Eventually(t, "the kernel joins the solicited-node group", func() bool { return l.member(t) })
	p, ls := l.tap(t), l.holder()
	synced, asked := make(chan struct{}), make(chan int)
	go func() {
		pace := time.NewTicker(200 * time.Microsecond)
		defer pace.Stop()
		more := 20 // after the Sync
		for n := 1; ; n++ {
			f, err := arpFrame(arp.OperationRequest, p.mac, netip.MustParseAddr("198.18.0.2"), make(net.HardwareAddr, 6), vip4)
			p.send(t, f, err)
			select {
			case <-synced:
				more--
			default:
			}
			if more == 0 {
				asked <- n
				return
			}
			<-pace.C
		}
	}()
	l.sync(t, ls, on4, on6)
	close(synced)
	for range <-asked {
		p.next(t, "an answer to each question", func(f []byte) bool {
			var got arp.Packet
			return got.UnmarshalBinary(f[etherLen:]) == nil && got.Operation == arp.OperationReply && got.SenderIP == vip4
		})
	}
	if len(ls.bursts) > 0 {
		t.Errorf("%d announcements are due though no address moved", len(ls.bursts))
	}
	if out := l.node.Run(t, "ip", "addr"); strings.Contains(out, vip4.String()+"/") || strings.Contains(out, vip6.String()+"/") {
		t.Errorf("a VIP is still on the link:\n%s", out)
	}
	if !l.member(t) || l.asks(t, vip6) != l.mac {
		t.Error("the VIP of IPv6 is not heard any more")
	}
}

// After a way back, version 0.1 does not take what this version left for a lease of its
// own, and leaves it alone. It does no harm, and ends.
func TestWayBackToVersion01(t *testing.T) {
	l := newLAN(t)
	ls := l.holder()
	ls.answers.lifetime = time.Second
	l.sync(t, ls, on4, on6)
	if found, err := findLeases(l.links); err != nil || len(found) > 0 {
		t.Errorf("version 0.1 would adopt %v, %v", found, err)
	}
	l.asVersion01(t)
	answered := func() {
		t.Helper()
		for _, vip := range []netip.Addr{vip4, vip6} {
			if mac := l.asks(t, vip); mac != l.mac {
				t.Errorf("%s is answered with %q, want %s", vip, mac, l.mac)
			}
		}
	}
	answered()
	nstest.Eventually(t, "ours ends", func() bool {
		now, err := ls.answers.read()
		return err == nil && len(now.ports) == 0 && !strings.Contains(l.node.Run(t, "ip", "addr"), "fe80::fa1e:")
	})
	answered()
	if !l.member(t) {
		t.Error("the group was left with what ended")
	}
}

// What a version with other rules answers for is adopted as well, and gets the rules
// of this one.
func TestOtherRulesAreReplaced(t *testing.T) {
	l := newLAN(t)
	l.sync(t, l.holder(), on4, on6)
	l.node.Run(t, "nft", "flush", "chain", "netdev", "fairlead", "answer-arp")
	next := l.holder()
	if held, err := next.Adopt(); err != nil || len(held) != 2 {
		t.Fatalf("adopted %v, %v", held, err)
	}
	l.sync(t, next, on4, on6)
	if l.asks(t, vip4) != l.mac || l.asks(t, vip6) != l.mac {
		t.Error("a VIP is not answered")
	}
	if len(next.bursts) > 0 {
		t.Error("an announcement is due though no address moved")
	}
	l.node.Run(t, "nft", "flush", "chain", "netdev", "fairlead", "answer-arp")
	if err := next.Withdraw([]announcer.Claim{on4}); err != nil {
		t.Fatal(err)
	}
	if l.asks(t, vip4) != "" || l.asks(t, vip6) != l.mac {
		t.Error("the VIP that was withdrawn is answered, or the other one is not")
	}
}

// Two VIPs with the same last 24 bits are in one group, which is left with the
// second.
func TestGroupIsLeftWithItsLastVIP(t *testing.T) {
	l := newLAN(t)
	ls, twin := l.holder(), on6
	twin.Addr = netip.MustParseAddr("fd98:18::1:0:200")
	l.sync(t, ls, on6, twin)
	l.sync(t, ls, on6)
	if !l.member(t) || l.asks(t, vip6) != l.mac || l.asks(t, twin.Addr) != "" {
		t.Error("the VIP that stays is not answered, or the other one is")
	}
	l.sync(t, ls)
	nstest.Eventually(t, "the link left the group", func() bool { return !l.member(t) })
}

// Nobody is told of a VIP who did not ask on this link: frames of a VLAN are on
// another one, and who asks in the VIP's own name claims it.
func TestKernelIgnoresOthersQuestions(t *testing.T) {
	l := newLAN(t)
	l.sync(t, l.holder(), on4)
	p := l.tap(t)
	ask := func(sender netip.Addr) []byte {
		f, err := arpFrame(arp.OperationRequest, p.mac, sender, make(net.HardwareAddr, 6), vip4)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	tagged := bytes.Clone(ask(netip.MustParseAddr("198.18.0.101")))
	tagged = append(tagged[:12:12], append([]byte{0x81, 0, 0, 7}, tagged[12:]...)...)
	p.send(t, tagged, nil)
	p.send(t, ask(vip4), nil)
	p.send(t, ask(netip.MustParseAddr("198.18.0.102")), nil)
	p.next(t, "the only answer", func(f []byte) bool {
		var got arp.Packet
		is := got.UnmarshalBinary(f[etherLen:]) == nil && got.Operation == arp.OperationReply
		if is && got.TargetIP != netip.MustParseAddr("198.18.0.102") {
			t.Errorf("%s is answered", got.TargetIP)
			return false
		}
		return is
	})
}

// The kernel answers on links of other kinds that may have an address.
func TestKernelAnswersOnLinksOfOtherKinds(t *testing.T) {
	for _, kind := range []string{"bridge", "macvlan"} {
		t.Run(kind, func(t *testing.T) {
			l := newLAN(t)
			l.node.Run(t, "ip", "addr", "flush", "dev", "eth0")
			if kind == "bridge" {
				l.node.Run(t, "ip", "link", "add", "lan0", "type", "bridge")
				l.node.Run(t, "ip", "link", "set", "eth0", "master", "lan0")
			} else {
				l.node.Run(t, "ip", "link", "add", "lan0", "link", "eth0", "type", "macvlan", "mode", "bridge")
			}
			l.node.Run(t, "ip", "link", "set", "lan0", "up")
			l.node.Run(t, "ip", "addr", "add", "198.18.0.1/24", "dev", "lan0")
			l.node.Run(t, "ip", "addr", "add", "fd98:18::1/64", "dev", "lan0", "nodad")
			four, six := on4, on6
			four.Link, six.Link = "lan0", "lan0"
			l.sync(t, l.holder(), four, six)
			link, err := l.links.LinkByName("lan0")
			if err != nil {
				t.Fatal(err)
			}
			for _, vip := range []netip.Addr{vip4, vip6} {
				if mac := l.asks(t, vip); mac != link.Attrs().HardwareAddr.String() {
					t.Errorf("%s is answered with %q, want %s", vip, mac, link.Attrs().HardwareAddr)
				}
			}
		})
	}
}
