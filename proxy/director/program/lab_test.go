package program

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy/director"
)

const testSeed director.Seed = 7

var testMarks = Marks{Serve: 0x100, Reset: 0x200, Masquerade: 0x400}

// family is the addresses that a test uses.
type family struct {
	name         string
	client, vip  netip.AddrPort
	local, other netip.Addr // another client, and an address that is not directed
}

var families = []family{
	{
		"IPv4", netip.MustParseAddrPort("198.51.100.7:40000"), netip.MustParseAddrPort("203.0.113.80:80"),
		netip.MustParseAddr("198.51.100.8"), netip.MustParseAddr("203.0.113.81"),
	},
	{
		"IPv6", netip.MustParseAddrPort("[2001:db8:1::7]:40000"), netip.MustParseAddrPort("[2001:db8:2::80]:80"),
		netip.MustParseAddr("2001:db8:1:1::8"), netip.MustParseAddr("2001:db8:2::81"),
	},
}

// outsider is the MAC of the router, which is not a node.
var outsider = MAC{2, 0xee}

// node is one whose program is run, in a network namespace of its own.
type node struct {
	name  string
	space nstest.Space
	p     *Program
	state *State
	mac   MAC
	link  int
	// The far end of its link, on a segment.
	bridge nstest.Space
	port   string
}

// lab is nodes that know one another.
type lab struct {
	nodes []*node
	pins  string
	has   map[string]bool // nodes whose conntrack has the connection, for travel
	// subnets has a letter for each node: those of one letter are neighbours. "": all are.
	subnets string
}

func newLab(t testing.TB, opt Options, names ...string) *lab {
	t.Helper()
	l := &lab{pins: nstest.BPFFS(t)}
	loadConntrack(t)
	for i, name := range names {
		n := &node{name: name, space: nstest.New(t, name), mac: MAC{2, 0, 0, 0, 0, byte(i + 1)}}
		n.space.Run(t, "ip", "link", "add", "lan", "address", n.mac.String(), "type", "veth", "peer", "name", "far")
		n.space.Do(t, func() error {
			link, err := netlink.LinkByName("lan")
			if err == nil {
				n.link = link.Attrs().Index
			}
			return err
		})
		opt.Seed, opt.Marks, opt.Pins = testSeed, testMarks, filepath.Join(l.pins, name)
		n.space.Do(t, func() (err error) {
			n.p, err = Open(opt)
			return err
		})
		t.Cleanup(n.p.Close)
		l.nodes = append(l.nodes, n)
	}
	for _, n := range l.nodes {
		n.state = &State{Me: n.name, Nodes: l.known(n)}
	}
	return l
}

// loadConntrack has the kernel load conntrack where it is a module, as the agent's rules
// do.
func loadConntrack(t testing.TB) {
	t.Helper()
	s := nstest.New(t, "conntrack")
	s.Pipe(t, "table inet t { chain c { ct state new; }; }", "nft", "-f", "-")
}

// needOracle ends a test on kernels without the conntrack functions. Exceptions of
// e2e/kernels name these kernels: everywhere else it has to run.
func (l *lab) needOracle(t testing.TB) {
	t.Helper()
	if a := l.nodes[0].p.Ability(); !a.Oracle {
		t.Fatalf("the kernel has no oracle: %s", a.WhyNot)
	}
}

// known are the nodes as n sees them.
func (l *lab) known(n *node) (list []Node) {
	own := l.index(n)
	for i, other := range l.nodes {
		of := Node{Name: other.name, MACs: []MAC{other.mac}, Link: n.link, IPv4: addr4(i), IPv6: addr6(i)}
		if l.subnets != "" && l.subnets[own] != l.subnets[i] {
			of.MACs, of.Way = nil, director.Way{MTU: 1500, IPv4: addr4(own), IPv6: addr6(own)}
		}
		if of.Way.MTU > 0 || l.subnets != "" && i == own {
			of.Addrs = []netip.Addr{of.IPv4, of.IPv6}
		}
		list = append(list, of)
	}
	return list
}

func (l *lab) index(n *node) int { return slices.Index(l.nodes, n) }

// addr4 and addr6 are the addresses of the i-th node.
func addr4(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 0, byte(i + 1)}) }
func addr6(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd98::%x", i+1)) }

func (l *lab) node(name string) *node {
	for _, n := range l.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// sync has the node's maps hold its state, with a lease that does not end on a slow
// machine.
func (n *node) sync(t testing.TB) {
	t.Helper()
	n.space.Do(t, func() error { return n.p.Sync(n.state, nil) })
	s := n.settings(t)
	s.Until = math.MaxUint64
	n.configure(t, s)
}

func (n *node) settings(t testing.TB) (s directorSettings) {
	t.Helper()
	if err := n.p.objects.Config.Lookup(uint32(0), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (n *node) configure(t testing.TB, s directorSettings) {
	t.Helper()
	if err := n.p.objects.Config.Put(uint32(0), &s); err != nil {
		t.Fatal(err)
	}
}

// slots are Slots of one slot, whose chain the node names are.
func (l *lab) slots(chain string) *Slots {
	s := &Slots{}
	for name := range strings.FieldsSeq(chain) {
		for i, n := range l.nodes {
			if n.name == name {
				s.Chains = append(s.Chains, uint16(i))
			}
		}
	}
	for len(s.Chains) > 0 && len(s.Chains) < director.Places {
		s.Chains = append(s.Chains, director.NoMember)
	}
	return s
}

// context is as large as struct __sk_buff, or larger.
type context [48]uint32

const (
	atMark     = 2
	atPriority = 8
	atIfindex  = 10
	atGSOSize  = 44
)

// result is what the program did with a packet.
type result struct {
	verdict int32
	mark    uint32
	next    uint32 // the priority
	packet  []byte
}

const (
	pass     = -1
	shot     = 2
	redirect = 7
)

func (n *node) run(t testing.TB, frame []byte) result { return n.runOf(t, frame, 0) }

// runOf runs the program with a packet that stands for several of a size, if that is not 0.
func (n *node) runOf(t testing.TB, frame []byte, size int) result {
	t.Helper()
	in, out := context{}, context{}
	in[atIfindex], in[atGSOSize] = uint32(n.link), uint32(size)
	opt := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+128), Context: &in, ContextOut: &out}
	var verdict uint32
	n.space.Do(t, func() (err error) {
		verdict, err = n.p.prog.Run(opt)
		return err
	})
	return result{int32(verdict), out[atMark], out[atPriority], opt.DataOut}
}

func (n *node) counters(t testing.TB) *Counters {
	t.Helper()
	c, err := n.p.Counters(n.state)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// step runs a packet at a node and says what came of it: what the stack is to do with it,
// or which node it was passed on to, as the counters have it.
func (n *node) step(t testing.TB, frame []byte) (string, result) { return n.stepOf(t, frame, 0) }

// stepOf is step for a packet that stands for several of a size.
func (n *node) stepOf(t testing.TB, frame []byte, size int) (string, result) {
	t.Helper()
	before := n.counters(t)
	r := n.runOf(t, frame, size)
	after := n.counters(t)
	switch {
	case after.Forged > before.Forged && r.verdict == shot:
		return "forged", r
	case after.Forged > before.Forged && r.verdict == pass && r.mark == 0:
		return "not believed", r
	case after.TooBig > before.TooBig && r.verdict == redirect:
		return "too big", r
	case r.verdict == redirect:
		return passedTo(t, before, after), r
	case r.verdict == shot:
		return "drop", r
	case r.verdict != pass:
		t.Fatalf("verdict %d", r.verdict)
	}
	if r.next&0xffff0000 == asked {
		return "ask " + n.missed(r.next-asked), r
	}
	switch r.mark {
	case 0:
		return "stack", r
	case testMarks.Serve:
		return "serve", r
	case testMarks.Serve | testMarks.Reset:
		return "both", r
	case testMarks.Reset:
		return "reset", r
	}
	t.Fatalf("mark %#x", r.mark)
	return "", r
}

// missed is what nftables is to do with a packet that it does not find: drop it, reset it, or
// pass it on to a node.
func (n *node) missed(what uint32) string {
	switch what {
	case dropIt:
		return "drop"
	case resetIt:
		return "reset"
	}
	for _, other := range n.state.Nodes {
		if n.p.held.nodes[what-nextOne].Name == nameHash(other.Name) {
			return other.Name
		}
	}
	return "nobody"
}

func passedTo(t testing.TB, before, after *Counters) string {
	t.Helper()
	for name, n := range after.DivertedTo {
		if n > before.DivertedTo[name] {
			return name
		}
	}
	for name, c := range after.Nodes {
		if after.Directed > before.Directed && c.Packets > before.Nodes[name].Packets {
			return name
		}
	}
	t.Fatal("it was passed on, and no counter says where")
	return ""
}

// travel runs a packet from outside at a node, what comes out at the next one, and so on.
// It returns the way: the nodes, and what came of it in the end.
func (l *lab) travel(t testing.TB, first string, p packet) string {
	t.Helper()
	at := l.node(first)
	frame := p.bytes(outsider, at.mac)
	way := []string{first}
	for {
		to, r := at.step(t, frame)
		if miss, asks := strings.CutPrefix(to, "ask "); asks {
			to, r = l.asNftables(t, at, miss, r)
		}
		way = append(way, to)
		if r.verdict != redirect {
			return strings.Join(way, " ")
		}
		if to == "too big" {
			return strings.Join(way, " ")
		}
		checkPassedOn(t, plain(frame), plain(r.packet))
		next, from := l.node(to), at.mac
		if wrapped(r.packet) {
			from = outsider
			l.checkHeader(t, at, next, r.packet)
		}
		if far := l.subnets != "" && l.subnets[l.index(at)] != l.subnets[l.index(next)]; far != wrapped(r.packet) {
			t.Errorf("from %s to %s: %x", at.name, to, r.packet)
		}
		frame = append(append(append([]byte{}, next.mac[:]...), from[:]...), r.packet[12:]...)
		at = next
	}
}

// asNftables does what nftables does with a packet that it is asked about.
func (l *lab) asNftables(t testing.TB, at *node, miss string, r result) (string, result) {
	t.Helper()
	switch {
	case l.has[at.name] && r.mark == 0:
		return "stack", r
	case l.has[at.name]:
		return "serve", r
	case l.node(miss) == nil:
		return miss, r
	}
	r.verdict = redirect
	if r.packet[12] == 0x86 {
		r.packet[21]--
		return miss, r
	}
	r.packet[22]--
	header := r.packet[14:34]
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], ^sum(header))
	return miss, r
}

// checkPassedOn checks that only the TTL has changed, and how.
func checkPassedOn(t testing.TB, before, after []byte) {
	t.Helper()
	at := 22
	if before[12] == 0x86 {
		at = 21
	} else if s := sum(after[14:34]); s != 0xffff {
		t.Errorf("the checksum of the header is wrong: %#x", s)
	}
	if want := min(before[at]-1, 24); after[at] != want {
		t.Errorf("TTL %d became %d, not %d", before[at], after[at], want)
	}
	same := append([]byte{}, after...)
	same[at] = before[at]
	if before[12] != 0x86 {
		copy(same[24:26], before[24:26])
	}
	if string(same) != string(before) {
		t.Errorf("more than the TTL has changed:\n%x\n%x", before, after)
	}
}

// remember gives a node's conntrack an entry for the packet's connection.
func (n *node) remember(t testing.TB, p packet, state string) {
	t.Helper()
	proto := "udp"
	if p.proto == tcp {
		proto = "tcp"
	}
	args := []string{
		"conntrack", "-I", "-p", proto, "-s", p.from.Addr().String(), "-d", p.to.Addr().String(), "-t", "300",
		"--sport", fmt.Sprint(p.from.Port()), "--dport", fmt.Sprint(p.to.Port()),
	}
	if p.proto == tcp {
		args = append(args, "--state", state)
	}
	if state != "SYN_SENT" {
		args = append(args, "-u", "SEEN_REPLY")
	}
	n.space.Run(t, args...)
}

func (n *node) forget(t testing.TB) {
	t.Helper()
	n.space.Do(t, func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
}

// uptime is the second of the monotonic clock.
func uptime(t testing.TB) uint32 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return uint32(now.Sec)
}
