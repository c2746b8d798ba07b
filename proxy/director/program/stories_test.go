package program

import (
	"fmt"
	"strings"
	"testing"
)

// story is a packet of a client that reaches node a first, in a cluster of a, b and c.
type story struct {
	kind    string // SYN ACK UDP error (about TCP) and so on: see kinds
	entry   string // which node has the connection: "b", "b TIME_WAIT"
	chains  string // of a, b and c, with "/" between; one stands for all
	serving string // nodes with endpoints; "": b
	want    string // the way; "..." stands for any nodes
	asking  string // the same where nftables looks for connections; "": want
}

var kinds = map[string]func(family) packet{
	"SYN":     func(f family) packet { return f.packet(tcp, syn) },
	"ACK":     func(f family) packet { return f.packet(tcp, ack) },
	"FIN":     func(f family) packet { return f.packet(tcp, fin|ack) },
	"RST":     func(f family) packet { return f.packet(tcp, rst) },
	"SYN-ACK": func(f family) packet { return f.packet(tcp, syn|ack) },
	"SYN-FIN": func(f family) packet { return f.packet(tcp, syn|fin) },
	"UDP":     func(f family) packet { return f.packet(udp, 0) },
	"error":   func(f family) packet { return f.errorAbout(tcp) },
	"errorUDP": func(f family) packet {
		return f.errorAbout(udp)
	},
}

func (f family) packet(proto, flags uint8) packet {
	return packet{from: f.client, to: f.vip, proto: proto, flags: flags, ttl: 64}
}

// errorAbout is an ICMP error of a router about an answer of the VIP.
func (f family) errorAbout(proto uint8) packet {
	p := f.packet(proto, ack)
	router := p
	router.about = p.back()
	router.from = f.vip
	return router
}

var stories = []story{
	// What opens a connection goes to the primary, or to a node that can serve.
	{kind: "SYN", chains: "b a c", want: "a b serve"},
	{kind: "SYN", chains: "a b c", serving: "a", want: "a serve"},
	{kind: "SYN", chains: "b a c", serving: "c", want: "a b c serve"},
	{kind: "SYN", chains: "b a c", serving: "a", want: "a b c a serve"},
	{kind: "SYN", chains: "b a c", serving: "none", want: "a b c a ... stack"},
	{kind: "SYN", chains: "b a c/c a b/b a c", serving: "b", want: "a b serve"},
	{kind: "SYN", chains: "b a c/c a b/a b c", serving: "c", want: "a b c serve"},
	{kind: "SYN", entry: "c", chains: "b a c", want: "a b serve"},
	{kind: "SYN", chains: "", want: "a stack"},
	{kind: "UDP", chains: "b a c", want: "a b serve"},
	{kind: "UDP", chains: "a b c", serving: "b", want: "a b a c ... b serve"},
	{kind: "UDP", chains: "", want: "a stack"},
	// Everything else goes to who has the connection, and ends if nobody has it.
	{kind: "ACK", entry: "b", chains: "b a c", want: "a b serve"},
	{kind: "ACK", entry: "a", chains: "a b c", want: "a serve"},
	{kind: "ACK", entry: "c", chains: "b a c", want: "a b c serve"},
	{kind: "ACK", entry: "a", chains: "b a c", want: "a b c a serve"},
	{kind: "ACK", entry: "c", chains: "b a c/c a b/a b c", want: "a b c serve"},
	{kind: "ACK", entry: "a", chains: "b a c/c b a/c a b", want: "a b c a serve"},
	{kind: "ACK", entry: "c", chains: "", want: "a ... c serve"},
	{kind: "ACK", chains: "b a c", want: "a b c a ... reset"},
	{kind: "ACK", chains: "b a c/c a b/a b c", want: "a b c ... reset"},
	{kind: "ACK", chains: "", want: "a ... reset"},
	{kind: "FIN", entry: "c", chains: "b a c", want: "a b c serve"},
	{kind: "RST", entry: "c", chains: "b a c", want: "a b c serve"},
	{kind: "SYN-ACK", chains: "b a c", want: "a b c a ... reset"},
	{kind: "SYN-FIN", chains: "b a c", want: "a b c a ... reset"},
	{kind: "UDP", entry: "b", chains: "b a c", want: "a b serve"},
	{kind: "error", entry: "b", chains: "b a c", want: "a b serve"},
	{kind: "error", entry: "c", chains: "b a c", want: "a b c serve"},
	{kind: "error", chains: "b a c", want: "a b c a ... drop"},
	{kind: "errorUDP", entry: "c", chains: "b a c", want: "a b c serve"},
	// An entry that is closed counts at the end, and what is not of it is reset; to nftables it
	// is as any other. One that nobody answered never counts.
	{kind: "ACK", entry: "b TIME_WAIT", chains: "b a c", want: "a b c a ... reset", asking: "a b serve"},
	{kind: "ACK", entry: "b CLOSE", chains: "b a c", want: "a b c a ... reset", asking: "a b serve"},
	{kind: "ACK", entry: "b SYN_SENT", chains: "b a c", want: "a b c a ... reset"},
	{kind: "ACK", entry: "b FIN_WAIT", chains: "b a c", want: "a b serve"},
	{kind: "ACK", entry: "b LAST_ACK", chains: "b a c", want: "a b serve"},
	{kind: "ACK", entry: "abc TIME_WAIT", chains: "b a c", want: "a b c a ... both", asking: "a b serve"},
	{kind: "error", entry: "abc CLOSE", chains: "b a c", want: "a b c a ... both", asking: "a b serve"},
	// Former primaries are asked once, and the last one sends back what none of them has. "@"
	// marks a slot whose primary has changed.
	{kind: "UDP", entry: "c", chains: "@b c a", want: "a b c serve"},
	{kind: "UDP", entry: "a", chains: "@b a c", want: "a b a serve"},
	{kind: "UDP", entry: "c", chains: "@b a c", want: "a b a c serve"},
	{kind: "UDP", entry: "a", chains: "@b c a", want: "a b c a serve"},
	{kind: "UDP", entry: "b", chains: "@a c b", serving: "a", want: "a c b serve"},
	{kind: "UDP", chains: "@b c a", want: "a b c a b serve"},
	{kind: "UDP", chains: "@b a c", want: "a b a c b serve"},
	{kind: "UDP", chains: "@a c b", serving: "a", want: "a c b a serve"},
	{kind: "UDP", entry: "c", chains: "b c a", want: "a b serve"},
	{kind: "UDP", entry: "c", chains: "@b a c/@b a c/b a c", want: "a b a c serve"},
	{kind: "UDP", chains: "@b a c/@b a c/b a c", want: "a b a c b serve"},
	{kind: "UDP", chains: "b a c/a b c/a b c", serving: "abc", want: "a b a b a b serve"},
	{kind: "UDP", chains: "@b a c/@a b c/@a b c", serving: "abc", want: "a b c a b c serve"},
	// b is one change behind a, and c has the flow.
	{kind: "UDP", entry: "c", chains: "@b c a/@c b a/@c b a", want: "a b c serve"},
	{kind: "UDP", entry: "c", chains: "@b c a/@a b c/@a b c", want: "a b c serve"},
}

// A packet's way through three nodes, for both families.
func testStories(t *testing.T, l *lab) {
	for _, f := range families {
		for _, s := range stories {
			t.Run(f.name+" "+s.String(), func(t *testing.T) { l.tell(t, f, s) })
		}
	}
}

func (s story) String() string {
	return strings.Trim(fmt.Sprintf("%s entry=%s chains=%s serving=%s", s.kind, s.entry, s.chains, s.serving), " ")
}

func (l *lab) tell(t *testing.T, f family, s story) {
	p := kinds[s.kind](f)
	about := p
	if p.about != nil {
		about = *p.about.back()
	}
	l.arrange(t, f, s, about)
	has, state, _ := strings.Cut(s.entry, " ")
	if state == "" {
		state = "ESTABLISHED"
	}
	l.has = map[string]bool{}
	for _, n := range l.nodes {
		n.forget(t)
		if strings.Contains(has, n.name) {
			n.remember(t, about, state)
			l.has[n.name] = state != "SYN_SENT"
		}
	}
	way, want := l.travel(t, "a", p), s.want
	if !l.nodes[0].p.ability.Oracle && s.asking != "" {
		want = s.asking
	}
	if begin, end, open := strings.Cut(want, "..."); !open && way != want || !strings.HasPrefix(way, begin) || !strings.HasSuffix(way, end) {
		t.Errorf("%s, not %s", way, want)
	}
	if hops := len(strings.Fields(way)) - 2; hops > 16 {
		t.Errorf("%d hops", hops)
	}
}

// arrange gives each node its chain and endpoints.
func (l *lab) arrange(t *testing.T, f family, s story, p packet) {
	t.Helper()
	serving := s.serving
	if serving == "" {
		serving = "b"
	}
	chains := strings.Split(s.chains, "/")
	for i, n := range l.nodes {
		chain := chains[min(i, len(chains)-1)]
		slots := l.slots(strings.TrimPrefix(chain, "@"))
		if strings.HasPrefix(chain, "@") {
			slots.Changed = []uint32{uptime(t)}
		}
		n.state.Frontends = []Frontend{{
			VIP: f.vip, Proto: p.proto, Slots: slots,
			HasEndpoints: strings.Contains(serving, n.name) && serving != "none",
		}}
		n.sync(t)
	}
}
