package astray

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

func addrs(texts ...string) (out []netip.Addr) {
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// world is two nodes, and a stranger whose packets to VIPs come to the first.
//
//	stranger .9 -- 198.18.1.0/24 -- .1 a .1 -- 198.18.0.0/24 -- .2 b
type world struct{ stranger, a, b nstest.Space }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{stranger: nstest.New(t, "stranger"), a: nstest.New(t, "a"), b: nstest.New(t, "b")}
	for _, s := range []nstest.Space{w.stranger, w.a, w.b} {
		s.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0")
	}
	nstest.Wire(t, w.a, w.b, "198.18.0.1/24", "198.18.0.2/24")
	w.a.Run(t, "ip", "link", "add", "out", "type", "veth", "peer", "name", "eth0", "netns", w.stranger.Name)
	for s, lines := range map[nstest.Space]string{
		w.a:        "addr add fd98::1/64 dev eth0 nodad\naddr add 198.18.1.1/24 dev out\naddr add fd98:1::1/64 dev out nodad\nlink set out up\n",
		w.b:        "addr add fd98::2/64 dev eth0 nodad\nroute add default via 198.18.0.1\nroute add default via fd98::1\n",
		w.stranger: "link set eth0 up\naddr add 198.18.1.9/24 dev eth0\naddr add fd98:1::9/64 dev eth0 nodad\nroute add default via 198.18.1.1\nroute add default via fd98:1::1\n",
	} {
		s.Pipe(t, lines, "ip", "-batch", "-")
	}
	// What the engine does with what is left, and what has come.
	for _, s := range []nstest.Space{w.a, w.b} {
		s.Pipe(t, `table inet seen {
			chain came { type filter hook prerouting priority -400
				icmp type destination-unreachable ip ttl 23 ip saddr 198.18.0.1 ip daddr 198.18.0.2 counter comment "copies"
				icmpv6 type packet-too-big ip6 hoplimit 23 ip6 saddr fd98::1 ip6 daddr fd98::2 counter comment "copies"
			}
			chain left { type filter hook prerouting priority -110
				ct state invalid ip daddr 203.0.113.80 counter drop comment "restored"
				ct state invalid ip6 daddr 2001:db8:2::80 counter drop comment "restored"
			}
			chain through { type filter hook forward priority 0
				ip protocol icmp counter comment "forwarded"
				ip6 nexthdr icmpv6 counter comment "forwarded"
			}
		}`, "nft", "-f", "-")
	}
	return w
}

var counter = regexp.MustCompile(`counter packets (\d+) .*comment "(\w+)"`)

// counts are what the rules of a namespace have counted, by their comments.
func counts(t *testing.T, s nstest.Space) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, m := range counter.FindAllStringSubmatch(s.Run(t, "nft", "list", "table", "inet", "seen"), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		out[m[2]] += n
	}
	return out
}

// tooBig is an error with a header, which says that a packet from inner was too big.
func tooBig(from, to, inner netip.Addr, ttl byte) []byte {
	about := header(inner, netip.MustParseAddr(from.String()), 64, unix.IPPROTO_TCP, 8)
	about = append(about, 0, 80, 0x9c, 0x40, 0, 0, 0, 1)
	m, proto, pseudo := icmp.Message{Type: ipv4.ICMPTypeDestinationUnreachable, Code: 4, Body: &icmp.DstUnreach{Data: about}}, byte(unix.IPPROTO_ICMP), []byte(nil)
	if to.Is6() {
		m = icmp.Message{Type: ipv6.ICMPTypePacketTooBig, Body: &icmp.PacketTooBig{MTU: 1300, Data: about}}
		proto, pseudo = unix.IPPROTO_ICMPV6, icmp.IPv6PseudoHeader(from.AsSlice(), to.AsSlice())
	}
	body, err := m.Marshal(pseudo)
	if err != nil {
		panic(err)
	}
	return append(header(from, to, ttl, proto, len(body)), body...)
}

// header is one of a packet with n bytes behind it. The kernel adds the checksum of IPv4.
func header(from, to netip.Addr, ttl, proto byte, n int) []byte {
	var b []byte
	if from.Is6() {
		b = append(binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(n)), proto, ttl)
	} else {
		b = append(binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(20+n)), 0, 0, 0, 0, ttl, proto, 0, 0)
	}
	return append(append(b, from.AsSlice()...), to.AsSlice()...)
}

func send(t *testing.T, s nstest.Space, packets ...[]byte) {
	t.Helper()
	s.Do(t, func() error {
		for _, p := range packets {
			domain, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte(p[16:20])})
			if p[0]>>4 == 6 {
				domain, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(p[24:40])}
			}
			fd, err := unix.Socket(domain, unix.SOCK_RAW, unix.IPPROTO_RAW)
			if err != nil {
				return err
			}
			err = unix.Sendto(fd, p, 0, to)
			_ = unix.Close(fd)
			if err != nil {
				return fmt.Errorf("send to %v: %w", to, err)
			}
		}
		return nil
	})
}

var (
	wantsA = Wants{Own: addrs("198.18.0.1", "fd98::1"), Nodes: addrs("198.18.0.2", "fd98::2"), VIPs: addrs("203.0.113.80", "2001:db8:2::80")}
	wantsB = Wants{Own: addrs("198.18.0.2", "fd98::2"), Nodes: addrs("198.18.0.1", "fd98::1"), VIPs: wantsA.VIPs}
)

func sync(t *testing.T, s nstest.Space, w Wants) *Strays {
	t.Helper()
	r := New(int(s.Handle))
	if err := r.Sync(w); err != nil {
		t.Fatal(err)
	}
	return r
}

// An error about a connection of a VIP that the first node does not know comes to the other
// node as it came to the first, and no further. All else is left alone.
func TestErrors(t *testing.T) {
	w := newWorld(t)
	sync(t, w.a, wantsA)
	sync(t, w.b, wantsB)
	for _, v6 := range []bool{false, true} {
		from, b, vip, other := addrs("198.18.1.9", "198.18.0.2", "203.0.113.80", "203.0.113.81"), 1, 2, 3
		if v6 {
			from = addrs("fd98:1::9", "fd98::2", "2001:db8:2::80", "2001:db8:2::81")
		}
		for _, c := range []struct {
			what             string
			to, inner        int
			ttl              byte
			copied, restored int
		}{
			{"from far away", vip, vip, 40, 1, 1},
			{"from a host beside the node", vip, vip, 64, 1, 1},
			{"a node may have sent it", vip, vip, 24, 0, 0},
			{"about somebody else's connection", vip, other, 64, 1, 0},
			{"to an address that is not a VIP", other, other, 64, 0, 0},
			{"to the other node, from a stranger", b, vip, 24, 0, 0},
		} {
			before := counts(t, w.b)
			send(t, w.stranger, tooBig(from[0], from[c.to], from[c.inner], c.ttl))
			// A packet that comes behind it, so that nothing is under way.
			w.stranger.Run(t, "ping", "-qc1", "-W30", from[b].String())
			after := counts(t, w.b)
			if copied, restored := after["copies"]-before["copies"], after["restored"]-before["restored"]; copied != c.copied || restored != c.restored {
				t.Errorf("%s, to %s: copied %d times and restored %d times, want %d and %d", c.what, from[c.to], copied, restored, c.copied, c.restored)
			}
		}
	}
	if passed := w.b.Run(t, "nft", "list", "chain", "ip", Table, chainOthers); !strings.Contains(passed, "counter packets 0 ") {
		t.Errorf("the other node passed errors on:\n%s", passed)
	}
}

// A flood of forged errors makes no more copies than the limit lets through.
func TestFloodOfErrors(t *testing.T) {
	w := newWorld(t)
	sync(t, w.a, wantsA)
	sync(t, w.b, wantsB)
	var flood [][]byte
	for range 2000 {
		flood = append(flood, tooBig(addrs("198.18.1.9")[0], wantsA.VIPs[0], wantsA.VIPs[0], 64))
	}
	began := time.Now()
	send(t, w.stranger, flood...)
	most := burst + int(time.Since(began).Seconds()+1)*perSecond
	w.stranger.Run(t, "ping", "-qc1", "-W30", "198.18.0.2")
	if got := counts(t, w.b)["copies"]; got < burst || got > most {
		t.Errorf("%d copies of 2000 errors, want %d to %d", got, burst, most)
	}
}

// The tables are as nft shows them, and stay as long as nobody changes them. VIPs come and go
// one by one.
func TestTables(t *testing.T) {
	space := nstest.New(t, "node")
	wants := wantsA
	r := sync(t, space, wants)
	text := space.Run(t, "nft", "-s", "list", "ruleset")
	for _, line := range []string{
		"icmp type destination-unreachable ip saddr @nodes ip ttl <= 24 fib daddr type local goto restore",
		"ip daddr set @th,160,32", "ip6 daddr set @th,128,128",
		"ip6 daddr set fd98::2 dup to fd98::2", "ip saddr set 198.18.0.1", "ip ttl set 24", "ip6 hoplimit set 24",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no rule %q in\n%s", line, text)
		}
	}
	space.Run(t, "nft", "flush", "ruleset")
	space.Pipe(t, text, "nft", "-f", "-") // others may save the tables, and load them again
	handle := func() string { return space.Run(t, "nft", "-a", "list", "chain", "ip", Table, chainPass) }
	if err := r.Sync(wants); err != nil {
		t.Fatal(err)
	}
	was := handle()
	wants.VIPs = addrs("203.0.113.81", "2001:db8:2::80")
	for range 2 {
		if err := r.Sync(wants); err != nil {
			t.Fatal(err)
		}
	}
	if vips := space.Run(t, "nft", "list", "set", "ip", Table, setVIPs); !strings.Contains(vips, "{ 203.0.113.81 }") || handle() != was {
		t.Errorf("the table was written again, or has other VIPs:\n%s", vips)
	}
	space.Run(t, "nft", "flush", "chain", "ip", Table, chainOthers)
	if err := r.Sync(wants); err != nil {
		t.Fatal(err)
	}
	if rules := space.Run(t, "nft", "list", "chain", "ip", Table, chainOthers); !strings.Contains(rules, "dup to 198.18.0.2") {
		t.Errorf("not repaired:\n%s", rules)
	}
	wants.Nodes = addrs("fd98::2") // the last one of IPv4 went
	if err := r.Sync(wants); err != nil {
		t.Fatal(err)
	}
	if left := space.Run(t, "nft", "list", "tables"); strings.Contains(left, "table ip "+Table) || !strings.Contains(left, "table ip6 "+Table) {
		t.Errorf("tables %q", left)
	}
	for range 2 {
		if err := New(int(space.Handle)).Cleanup(); err != nil {
			t.Fatal(err)
		}
	}
	if left := space.Run(t, "nft", "list", "ruleset"); left != "" {
		t.Errorf("left is\n%s", left)
	}
}

// Many VIPs are more than one message can hold.
func TestManyVIPs(t *testing.T) {
	space := nstest.New(t, "node")
	wants := wantsA
	for a := netip.MustParseAddr("10.0.0.0"); len(wants.VIPs) < 5000; a = a.Next() {
		wants.VIPs = append(wants.VIPs, a)
	}
	slices.SortFunc(wants.VIPs, netip.Addr.Compare)
	r := sync(t, space, wants)
	if n := strings.Count(space.Run(t, "nft", "list", "set", "ip", Table, setVIPs), "10.0."); n != 4998 {
		t.Errorf("%d VIPs", n)
	}
	wants.VIPs = wantsA.VIPs
	if err := r.Sync(wants); err != nil {
		t.Fatal(err)
	}
	if vips := space.Run(t, "nft", "list", "set", "ip", Table, setVIPs); strings.Contains(vips, "10.0.") {
		t.Errorf("left are %s", vips)
	}
}
