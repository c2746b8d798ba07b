package program

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/proxy/director"
)

// directed gives all nodes one chain for the VIP, over TCP and UDP.
func (l *lab) directed(t *testing.T, f family, chain, serving string, change ...func(*Frontend)) {
	t.Helper()
	for _, n := range l.nodes {
		n.state.Frontends = nil
		for _, proto := range []uint8{tcp, udp} {
			front := Frontend{VIP: f.vip, Proto: proto, Slots: l.slots(chain), HasEndpoints: strings.Contains(serving, n.name)}
			for _, c := range change {
				c(&front)
			}
			n.state.Frontends = append(n.state.Frontends, front)
		}
		n.sync(t)
	}
}

// rules are tests of one node or three, which need no options.
var rules = []struct {
	name   string
	oracle bool
	test   func(*testing.T, *lab)
}{
	{"stories", true, testStories},
	{"stories of subnets", true, testStoriesFar},
	{"forged", false, testForged},
	{"too big", false, testTooBig},
	{"narrow way", false, testNarrowWay},
	{"left to the stack", false, testLeftToTheStack},
	{"sender", true, testSender},
	{"graces", true, testGraces},
	{"hold", true, testHold},
	{"gone", true, testGone},
	{"gone while written", true, testGoneWhileWritten},
	{"apart", true, testApart},
	{"unreachable", false, testUnreachable},
	{"by client", false, testByClient},
	{"checksum", false, testChecksum},
	{"without oracle", false, testWithoutOracle}, // the last one
}

// One lab for all: loading the program takes half a second.
func TestRules(t *testing.T) { testRules(t, true) }

// TestRulesWithoutOracle are those that hold on each kernel.
func TestRulesWithoutOracle(t *testing.T) { testRules(t, false) }

func testRules(t *testing.T, oracle bool) {
	l := newLab(t, Options{}, "a", "b", "c")
	if oracle {
		l.needOracle(t)
	}
	for _, r := range rules {
		if r.oracle != oracle {
			continue
		}
		l.reset(t)
		t.Run(r.name, func(t *testing.T) { r.test(t, l) })
	}
}

// reset has the nodes know one another, and nothing else.
func (l *lab) reset(t *testing.T) {
	t.Helper()
	l.has = nil
	for _, n := range l.nodes {
		n.forget(t)
		n.state = &State{Me: n.name, Nodes: l.known(n)}
	}
}

// What is not plain is left to the stack, and is not changed.
func testLeftToTheStack(t *testing.T, l *lab) {
	for _, f := range families {
		l.directed(t, f, "b a", "b")
		plain := f.packet(tcp, syn)
		elsewhere := f.packet(tcp, syn)
		elsewhere.to = netip.AddrPortFrom(f.other, 80)
		otherPort := f.packet(tcp, syn)
		otherPort.to = netip.AddrPortFrom(f.vip.Addr(), 81)
		wrongAbout := f.errorAbout(tcp)
		wrongAbout.to = netip.AddrPortFrom(f.other, 80)
		for name, p := range map[string]packet{
			"fragment":              with(plain, func(p *packet) { p.fragment = 1 }),
			"fragment with more":    with(plain, func(p *packet) { p.fragment = 0x2000 }),
			"SCTP":                  with(plain, func(p *packet) { p.proto = sctp }),
			"option":                with(plain, func(p *packet) { p.option = true }),
			"VLAN":                  with(plain, func(p *packet) { p.inVLAN = true }),
			"to another host":       with(plain, func(p *packet) { p.to0 = true }),
			"ends before the ports": with(plain, func(p *packet) { p.short = 14 + p.headerLength() }),
			"ends in TCP":           with(plain, func(p *packet) { p.short = 14 + p.headerLength() + 12 }),
			"another address":       elsewhere,
			"another port":          otherPort,
			"echo":                  with(f.errorAbout(tcp), func(p *packet) { p.errType = 8; p.errType += p.echo() }),
			"error about an option": with(f.errorAbout(tcp), func(p *packet) { p.about.option = true }),
			"error about another":   wrongAbout,
			"few hops left":         with(plain, func(p *packet) { p.ttl = 9 }),
		} {
			t.Run(f.name+" "+name, func(t *testing.T) {
				a := l.node("a")
				frame := p.bytes(outsider, a.mac)
				what, r := a.step(t, frame)
				if what != "stack" || string(r.packet) != string(frame) {
					t.Errorf("%s, from %x to %x", what, frame, r.packet)
				}
			})
		}
		if way := l.travel(t, "a", plain); way != "a b serve" {
			t.Errorf("plain: %s", way)
		}
	}
}

// The checksum of IPv4 stays right, whatever it was.
func testChecksum(t *testing.T, l *lab) {
	l.directed(t, families[0], "b a", "b")
	for i := range 200 {
		p := families[0].packet(tcp, syn)
		p.id = uint16(i * 331)
		l.travel(t, "a", p)
	}
}

func with(p packet, change func(*packet)) packet {
	change(&p)
	return p
}

func (p packet) headerLength() int {
	if p.v6() {
		return 40
	}
	return 20
}

// echo is what to add to 8 for an echo request.
func (p packet) echo() uint8 {
	if p.v6() {
		return 120
	}
	return 0
}

// A node is not a client only because it has a node's MAC, and a client with few hops left
// has no walk.
func testSender(t *testing.T, l *lab) {
	f := families[0]
	l.directed(t, f, "b c a", "b")
	for _, c := range []struct {
		at   string
		from MAC
		ttl  uint8
		want string
	}{
		{"a", l.node("c").mac, 64, "b"},
		{"a", l.node("c").mac, 24, "b"},
		{"c", l.node("a").mac, 24, "b"},
		{"c", l.node("a").mac, 9, "reset"},
		{"a", outsider, 24, "b"},
		{"b", outsider, 24, "drop"},
		{"b", outsider, 25, "c"},
	} {
		n := l.node(c.at)
		p := f.packet(tcp, ack)
		p.ttl = c.ttl
		if got, _ := n.step(t, p.bytes(c.from, n.mac)); got != c.want {
			t.Errorf("at %s from %s with TTL %d: %s, not %s", c.at, c.from, c.ttl, got, c.want)
		}
	}
}

// A source that has more diverted than it earns is dropped. Another one is not.
func TestDiversions(t *testing.T) {
	l := newLab(t, Options{Diversions: Rate{PerSecond: 1, Burst: 20}}, "a", "b")
	l.needOracle(t)
	for _, f := range families {
		l.directed(t, f, "a b", "a")
		a, got := l.node("a"), map[string]int{}
		for range 100 {
			what, _ := a.step(t, f.packet(tcp, ack).bytes(outsider, a.mac))
			got[what]++
		}
		if got["b"] < 20 || got["b"] > 40 || got["b"]+got["drop"] != 100 {
			t.Errorf("%s: %v", f.name, got)
		}
		other := f.packet(tcp, ack)
		other.from = netip.AddrPortFrom(f.local, 40000)
		if what, _ := a.step(t, other.bytes(outsider, a.mac)); what != "b" {
			t.Errorf("%s: another source: %s", f.name, what)
		}
		if what, _ := a.step(t, f.packet(tcp, syn).bytes(outsider, a.mac)); what != "serve" {
			t.Errorf("%s: what is not diverted: %s", f.name, what)
		}
	}
}

// What a node serves while the director is turned on or off, or while no agent renews the
// maps, stays with it.
func testGraces(t *testing.T, l *lab) {
	a, f := l.node("a"), families[0]
	for _, c := range []struct {
		grace   Grace
		expired bool
		kind    string
		entry   string // at a
		chain   string
		want    string
	}{
		{NoGrace, false, "ACK", "ESTABLISHED", "b a", "b"},
		{OnGrace, false, "ACK", "ESTABLISHED", "b a", "stack"},
		{OnGrace, false, "ACK", "", "b a", "b"},
		{OnGrace, false, "ACK", "TIME_WAIT", "b a", "b"},
		{OnGrace, false, "SYN", "SYN_SENT", "b a", "stack"},
		{OnGrace, false, "SYN", "", "b a", "b"},
		{OnGrace, false, "SYN", "", "a b", "serve"},
		{OnGrace, false, "UDP", "ASSURED", "b a", "stack"},
		{OnGrace, false, "UDP", "", "b a", "b"},
		{OffGrace, false, "ACK", "ESTABLISHED", "b a", "stack"},
		{OffGrace, false, "ACK", "", "b a", "b"},
		{OffGrace, false, "SYN", "", "b a", "stack"},
		{OffGrace, false, "SYN", "", "a b", "stack"},
		{NoGrace, true, "SYN", "", "b a", "stack"},
		{NoGrace, true, "SYN", "", "a b", "stack"},
		{NoGrace, true, "ACK", "ESTABLISHED", "b a", "stack"},
		{NoGrace, true, "ACK", "ESTABLISHED", "a b", "serve"},
		{NoGrace, true, "ACK", "", "b a", "b"},
		{NoGrace, true, "ACK", "", "a b", "b"},
	} {
		a.forget(t)
		p := kinds[c.kind](f)
		l.directed(t, f, c.chain, "a", func(front *Frontend) { front.Grace = c.grace })
		if c.expired {
			s := a.settings(t)
			s.Until = 1
			a.configure(t, s)
		}
		if c.entry != "" {
			a.remember(t, p, c.entry)
		}
		if got, _ := a.step(t, p.bytes(outsider, a.mac)); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// While a node that is gone may come back, nobody is told that a connection is lost.
func testHold(t *testing.T, l *lab) {
	f := families[0]
	for _, n := range l.nodes {
		n.state.Hold = time.Hour
	}
	l.directed(t, f, "a b", "a")
	if way := l.travel(t, "a", f.packet(tcp, ack)); !strings.HasPrefix(way, "a b ") || !strings.HasSuffix(way, " drop") {
		t.Error(way)
	}
}

// parts has a and b know c as one that takes no part in the usual way.
func (l *lab) parts(part director.Part) {
	for _, n := range l.nodes[:2] {
		n.state.Nodes = l.known(n)
		n.state.Nodes[2].Part = part
	}
}

// A node that is declared gone is asked at the end of a walk, once, and by nothing that
// opens a connection.
func testGone(t *testing.T, l *lab) {
	l.parts(director.AskedLast)
	for _, n := range l.nodes[:2] {
		n.state.Hold = time.Hour
	}
	c := l.node("c")
	for _, f := range families {
		l.directed(t, f, "a c b", "none")
		p := f.packet(tcp, ack)
		c.remember(t, p, "ESTABLISHED")
		l.has = map[string]bool{"c": true}
		if way := l.travel(t, "a", p); !strings.HasPrefix(way, "a b a ") || !strings.HasSuffix(way, " c serve") || strings.Count(way, "c ") != 1 {
			t.Errorf("%s: it has the connection: %s", f.name, way)
		}
		c.forget(t)
		l.has = nil
		if way := l.travel(t, "a", p); !strings.HasPrefix(way, "a b a ") || len(strings.Fields(way)) > 18 {
			t.Errorf("%s: it does not: %s", f.name, way)
		}
		if way := l.travel(t, "a", f.packet(tcp, syn)); strings.Contains(way, "c") && !strings.HasSuffix(way, " stack") {
			t.Errorf("%s: what opens a connection: %s", f.name, way)
		}
	}
}

// While the tables are written that do without a node that has gone, no walk ends with a
// reset: the kernel waits before it removes the old ones.
func testGoneWhileWritten(t *testing.T, l *lab) {
	a, f := l.node("a"), families[0]
	l.directed(t, f, "c a b", "ab")
	p := f.packet(tcp, ack)
	p.ttl = 13 // three nodes would go on with it, two would not
	frame := p.bytes(l.node("b").mac, a.mac)
	l.parts(director.AskedLast)
	a.state.Hold = time.Hour
	for i := range a.state.Frontends {
		a.state.Frontends[i].Slots = l.slots("a c b")
	}
	synced := make(chan error)
	go func() { synced <- a.p.Sync(a.state, nil) }()
	for runs := 0; ; runs++ {
		if a.run(t, frame).mark == testMarks.Reset {
			t.Fatalf("packet %d was to be reset", runs)
		}
		select {
		case err := <-synced:
			if err != nil || runs == 0 {
				t.Errorf("after %d packets: %v", runs, err)
			}
			return
		default:
		}
	}
}

// The slots of a node that takes nothing are served by the node that a packet reaches
// first, as without a director. Connections of other nodes are looked for.
func testApart(t *testing.T, l *lab) {
	l.parts(director.Apart)
	for _, f := range families {
		for _, c := range []struct{ kind, entry, want string }{
			{"SYN", "", "a stack"},
			{"UDP", "", "a stack"},
			{"UDP", "a", "a serve"},
			{"ACK", "a", "a serve"},
			{"ACK", "b", "a b serve"},
			{"ACK", "", "a b a ... reset"},
			{"error", "a", "a serve"},
			// From here on nftables knows the endpoints of c.
			{"SYN known", "", "a both"},
			{"UDP known", "", "a both"},
			{"UDP known", "a", "a serve"},
			{"ACK known", "a", "a serve"},
			{"ACK known", "b", "a b serve"},
		} {
			kind, known := strings.CutSuffix(c.kind, " known")
			p := kinds[kind](f)
			about := p
			if p.about != nil {
				about = *p.about.back()
			}
			l.directed(t, f, "c a b", "abc", func(front *Frontend) {
				if known {
					front.Apart = []netip.AddrPort{f.client, netip.AddrPortFrom(f.local, 8080)}
				}
			})
			for _, n := range l.nodes {
				if n.forget(t); n.name == c.entry {
					n.remember(t, about, "ESTABLISHED")
				}
			}
			way := l.travel(t, "a", p)
			if begin, end, open := strings.Cut(c.want, "..."); !open && way != c.want || !strings.HasPrefix(way, begin) || !strings.HasSuffix(way, end) {
				t.Errorf("%s: %+v: %s", f.name, c, way)
			}
		}
	}
}

// Where a link does not lead to the next node, or the node has no address of the family,
// the stack has the packet.
func testUnreachable(t *testing.T, l *lab) {
	a := l.node("a")
	for _, f := range families {
		for name, change := range map[string]func(*Node){
			"another link": func(n *Node) { n.Link = a.link + 1 },
			"no link":      func(n *Node) { n.Link = 0 },
			"no address":   func(n *Node) { n.IPv4, n.IPv6 = netip.Addr{}, netip.Addr{} },
		} {
			a.state.Nodes = l.known(a)
			change(&a.state.Nodes[1])
			l.directed(t, f, "b a", "b")
			if got, _ := a.step(t, f.packet(tcp, syn).bytes(outsider, a.mac)); got != "stack" {
				t.Errorf("%s, %s: %s", f.name, name, got)
			}
		}
		a.state.Nodes = l.known(a)
	}
}

// With session affinity the source's port does not choose the slot.
func testByClient(t *testing.T, l *lab) {
	a := l.node("a")
	for _, f := range families {
		for _, byClient := range []bool{false, true} {
			slots := l.slots("b")
			slots.Chains = append(slots.Chains, l.slots("c").Chains...)
			a.state.Frontends = []Frontend{{VIP: f.vip, Proto: tcp, Slots: slots, ByClient: byClient}}
			a.sync(t)
			to := map[string]bool{}
			for port := range uint16(20) {
				p := f.packet(tcp, syn)
				p.from = netip.AddrPortFrom(p.from.Addr(), 40000+port)
				what, _ := a.step(t, p.bytes(outsider, a.mac))
				to[what] = true
			}
			if len(to) == 1 != byClient {
				t.Errorf("%s, by client %v: %v", f.name, byClient, to)
			}
		}
	}
}

// Without the conntrack functions a packet takes the way that it takes with them: nftables
// does what the program would do.
func testWithoutOracle(t *testing.T, l *lab) {
	for _, n := range l.nodes {
		n.reload(t, false)
	}
	for name, test := range map[string]func(*testing.T, *lab){
		"stories": testStories, "graces": testGracesAsking, "ends": testEndsAsking, "hold": testHold, "gone": testGone,
	} {
		l.reset(t)
		t.Run(name, func(t *testing.T) { test(t, l) })
	}
}

// In a grace, and when no agent renews the maps, nftables looks for the connections of this
// node, for SYNs as well. What it does not find is not at the expense of the source.
func testGracesAsking(t *testing.T, l *lab) {
	a := l.node("a")
	for _, f := range families {
		for _, c := range []struct {
			grace       Grace
			expired     bool
			kind, chain string
			want        string
			serve       bool
		}{
			{NoGrace, false, "ACK", "b a", "b", false},
			{NoGrace, false, "ACK", "a b", "ask b", true},
			{OnGrace, false, "ACK", "b a", "ask b", false},
			{OnGrace, false, "SYN", "b a", "ask b", false},
			{OnGrace, false, "UDP", "b a", "ask b", false},
			{OnGrace, false, "SYN", "a b", "serve", true},
			{OffGrace, false, "SYN", "b a", "stack", false},
			{OffGrace, false, "ACK", "b a", "ask b", false},
			{NoGrace, true, "SYN", "b a", "stack", false},
			{NoGrace, true, "ACK", "b a", "ask b", false},
			{NoGrace, true, "ACK", "a b", "ask b", true},
		} {
			l.directed(t, f, c.chain, "a", func(front *Frontend) { front.Grace = c.grace })
			if c.expired {
				s := a.settings(t)
				s.Until = 1
				a.configure(t, s)
			}
			what, r := a.step(t, kinds[c.kind](f).bytes(outsider, a.mac))
			if what != c.want || r.mark&testMarks.Serve != 0 != c.serve {
				t.Errorf("%s: %+v: %s, mark %#x", f.name, c, what, r.mark)
			}
		}
	}
}

// At the end of a walk nftables resets what it does not find. It drops an ICMP error, what
// has no second chance, and everything while a node that is gone may come back.
func testEndsAsking(t *testing.T, l *lab) {
	b := l.node("b")
	for _, f := range families {
		l.directed(t, f, "b a", "b")
		for _, c := range []struct {
			kind string
			from MAC
			ttl  uint8
			hold uint64
			want string
		}{
			{"ACK", l.node("a").mac, 9, 0, "ask reset"},
			{"error", l.node("a").mac, 9, 0, "ask drop"},
			{"ACK", outsider, 24, 0, "ask drop"},
			{"ACK", l.node("a").mac, 9, math.MaxUint64, "ask drop"},
			{"ACK", outsider, 64, 0, "ask a"},
		} {
			s := b.settings(t)
			s.Hold = c.hold
			b.configure(t, s)
			p := kinds[c.kind](f)
			p.ttl = c.ttl
			if what, _ := b.step(t, p.bytes(c.from, b.mac)); what != c.want {
				t.Errorf("%s: %+v: %s", f.name, c, what)
			}
		}
	}
}

// reload has the node run the program with or without its oracle.
func (n *node) reload(t *testing.T, oracle bool) {
	t.Helper()
	a := n.p.ability
	a.Oracle = oracle
	p, err := n.p.opt.loadWith(a, n.p.opt.Pins+"/"+layout)
	if err != nil {
		t.Fatal(err)
	}
	n.p.Close()
	n.p = p
	t.Cleanup(p.Close)
}
