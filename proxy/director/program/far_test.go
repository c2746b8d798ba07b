package program

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/proxy/director"
)

// headerOf is how long the header of other subnets is, for the family of a frame.
func headerOf(frame []byte) int {
	if frame[12] == 0x86 {
		return director.Header6
	}
	return director.Header4
}

// wrapped reports whether a frame has the header of other subnets.
func wrapped(frame []byte) bool {
	room := headerOf(frame)
	number := 14 + 9
	if room == director.Header6 {
		number = 14 + 6
	}
	return len(frame) > 14+room && frame[number] == udp && binary.BigEndian.Uint16(frame[14+room-6:]) == director.Port
}

// plain is a frame without that header.
func plain(frame []byte) []byte {
	if !wrapped(frame) {
		return frame
	}
	return append(append([]byte{}, frame[:14]...), frame[14+headerOf(frame):]...)
}

// wrap puts the header before a packet.
func wrap(frame []byte, from, to netip.Addr) []byte {
	room := director.Header6
	if from.Is4() {
		room = director.Header4
	}
	h := make([]byte, room)
	length := len(frame) - 14 + room
	if from.Is4() {
		h[0], h[6], h[8], h[9] = 0x45, 0x40, 60, udp
		binary.BigEndian.PutUint16(h[2:], uint16(length))
		copy(h[12:], from.AsSlice())
		copy(h[16:], to.AsSlice())
		binary.BigEndian.PutUint16(h[10:], ^sum(h[:20]))
	} else {
		h[0], h[6], h[7] = 0x60, udp, 60
		binary.BigEndian.PutUint16(h[4:], uint16(length-40))
		copy(h[8:], from.AsSlice())
		copy(h[24:], to.AsSlice())
	}
	u := h[room-8:]
	binary.BigEndian.PutUint16(u, 50000)
	binary.BigEndian.PutUint16(u[2:], director.Port)
	binary.BigEndian.PutUint16(u[4:], uint16(length-(room-8)))
	out := append(append([]byte{}, frame[:14]...), h...)
	out = append(out, frame[14:]...)
	if from.Is4() {
		out[12], out[13] = 8, 0
	} else {
		out[12], out[13] = 0x86, 0xdd
	}
	return out
}

// checkHeader checks the header of a packet on its way from one node to another.
func (l *lab) checkHeader(t testing.TB, from, to *node, frame []byte) {
	t.Helper()
	room, b := headerOf(frame), frame[14:]
	source, target, length, hops := addr4(l.index(from)), addr4(l.index(to)), binary.BigEndian.Uint16(b[2:]), b[8]
	var at, want netip.Addr
	if room == director.Header4 {
		if s := sum(b[:20]); s != 0xffff || b[6] != 0x40 {
			t.Errorf("the checksum is %#x, the flags are %#x", s, b[6])
		}
		at, want = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	} else {
		source, target, length, hops = addr6(l.index(from)), addr6(l.index(to)), binary.BigEndian.Uint16(b[4:])+40, b[7]
		at, want = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	}
	if at != source || want != target || int(length) != len(b) || hops != 64 {
		t.Errorf("from %s to %s, %d bytes of %d, TTL %d", at, want, length, len(b), hops)
	}
	u := b[room-8:]
	if port, n := binary.BigEndian.Uint16(u), binary.BigEndian.Uint16(u[4:]); port < 0xc000 || int(n) != len(u) || u[6]|u[7] != 0 {
		t.Errorf("port %d, %d bytes of %d, checksum %x", port, n, len(u), u[6:8])
	}
}

// Packets find their way between subnets as they do on one link: every story of one link, with
// one node in another subnet. What that node passes on has lost one header, and gets another.
func testStoriesFar(t *testing.T, l *lab) {
	l.move(t, "aab")
	testStories(t, l)
}

// move has the nodes be in other subnets.
func (l *lab) move(t *testing.T, subnets string) {
	t.Helper()
	l.subnets = subnets
	t.Cleanup(func() { l.subnets = "" })
	l.reset(t)
}

// own are the addresses of a node and of its neighbour in the other subnet.
func (f family) own(i int) netip.Addr {
	if f.vip.Addr().Is4() {
		return addr4(i)
	}
	return addr6(i)
}

// A packet that has the header is believed only if it comes from a node, to this one, and has a
// packet to a directed VIP inside that a node may send. What a node does not send is left as it
// is: it may be an answer to a masqueraded connection. Anything else is dropped.
func testForged(t *testing.T, l *lab) {
	l.move(t, "aab")
	for _, f := range families {
		l.directed(t, f, "c b", "c")
		c := l.node("c")
		inside := with(f.packet(tcp, syn), func(p *packet) { p.ttl = 24 })
		other := families[0]
		if f.name == other.name {
			other = families[1]
		}
		for name, s := range map[string]struct {
			from, to netip.Addr
			in       packet
			want     string
		}{
			"of a node":                  {f.own(0), f.own(2), inside, "serve"},
			"of another node":            {f.own(1), f.own(2), inside, "serve"},
			"of a client":                {f.client.Addr(), f.own(2), inside, "not believed"},
			"from this node":             {f.own(2), f.own(2), inside, "not believed"},
			"to another address":         {f.own(0), f.other, inside, "stack"},
			"to an address not directed": {f.own(0), f.own(2), with(inside, func(p *packet) { p.to = netip.AddrPortFrom(f.other, 80) }), "forged"},
			"to a port not directed":     {f.own(0), f.own(2), with(inside, func(p *packet) { p.to = netip.AddrPortFrom(f.vip.Addr(), 81) }), "forged"},
			"that nobody passed on":      {f.own(0), f.own(2), with(inside, func(p *packet) { p.ttl = 25 }), "forged"},
			"with a fragment":            {f.own(0), f.own(2), with(inside, func(p *packet) { p.fragment = 0x2000 }), "forged"},
			"with an option":             {f.own(0), f.own(2), with(inside, func(p *packet) { p.option = true }), "forged"},
			"with an agent's question":   {f.own(0), f.own(2), with(inside, func(p *packet) { p.asks = true }), "stack"},
			"with a client's question":   {f.client.Addr(), f.own(2), with(inside, func(p *packet) { p.asks = true }), "not believed"},
			"with the other family":      {f.own(0), f.own(2), with(other.packet(tcp, syn), func(p *packet) { p.more = 40 }), "not believed"},
		} {
			frame := wrap(s.in.bytes(outsider, c.mac), s.from, s.to)
			if s.in.asks {
				frame[14+f.header()] = 0
			}
			got, r := c.step(t, frame)
			if got != s.want {
				t.Errorf("%s, %s: %s, not %s", f.name, name, got, s.want)
			}
			if got == "serve" && string(r.packet) != string(s.in.bytes(outsider, c.mac)) || (got == "stack" || got == "not believed") && string(r.packet) != string(frame) {
				t.Errorf("%s, %s: %x became %x", f.name, name, frame, r.packet)
			}
		}
		twice := wrap(wrap(inside.bytes(outsider, c.mac), f.own(0), f.own(2)), f.own(1), f.own(2))
		if got, _ := c.step(t, twice); got != "forged" {
			t.Errorf("%s, twice: %s", f.name, got)
		}
	}
	l.move(t, "")
	for _, f := range families {
		l.directed(t, f, "c b", "c")
		c := l.node("c")
		frame := wrap(f.packet(tcp, syn).bytes(outsider, c.mac), f.own(0), f.own(2))
		if got, r := c.step(t, frame); got != "stack" || string(r.packet) != string(frame) {
			t.Errorf("%s, without other subnets: %s", f.name, got)
		}
	}
}

// sized is a packet of so many bytes that routers must not split.
func (f family) sized(proto uint8, size int) packet {
	p := f.packet(proto, ack)
	if p.more = size - 40; p.v6() {
		p.more = size - 60
	} else {
		p.fragment = 0x4000
	}
	return p
}

func (f family) header() int {
	if f.vip.Addr().Is4() {
		return director.Header4
	}
	return director.Header6
}

// A sender is told if the way to another subnet does not take its packet, and what it takes.
// The sender may not want to know: then the stack has the packet.
func testTooBig(t *testing.T, l *lab) {
	l.move(t, "ab ")
	a := l.node("a")
	for _, f := range families {
		l.directed(t, f, "b a", "b")
		fits := 1500 - f.header()
		for _, c := range []struct {
			size, of int // of bytes, and of each packet if it stands for several
			want     string
		}{
			{fits, 0, "b"}, {fits + 1, 0, "too big"}, {3000, 0, "too big"},
			{3000, 1470, "too big"},
		} {
			p := f.sized(udp, c.size)
			got, r := a.stepOf(t, p.bytes(outsider, a.mac), c.of)
			if got != c.want {
				t.Errorf("%s, %d bytes of %d: %s, not %s", f.name, c.size, c.of, got, c.want)
			}
			if got == "too big" {
				f.checkTold(t, p, a, fits, r.packet)
			}
		}
		if f.header() == director.Header6 {
			continue
		}
		p := f.sized(udp, fits+1)
		p.fragment = 0
		frame := p.bytes(outsider, a.mac)
		if got, r := a.step(t, frame); got != "stack" || string(r.packet) != string(frame) {
			t.Errorf("that routers may split: %s", got)
		}
	}
}

// checkTold checks what the sender of p is told.
func (f family) checkTold(t *testing.T, p packet, by *node, mtu int, got []byte) {
	t.Helper()
	frame := p.bytes(outsider, by.mac)
	quoted, own := frame[14:][:p.quoted()], f.own(0).AsSlice()
	want := append(append(append([]byte{}, outsider[:]...), by.mac[:]...), frame[12:14]...)
	icmp := append([]byte{3, 4, 0, 0}, binary.BigEndian.AppendUint32(nil, uint32(mtu))...)
	if p.v6() {
		icmp[0], icmp[1] = 2, 0
	}
	icmp = append(icmp, quoted...)
	h := []byte{0x45, 0, 0, byte(20 + len(icmp)), 0, 0, 0, 0, 64, 1, 0, 0}
	if p.v6() {
		h = []byte{0x60, 0, 0, 0, 0, byte(len(icmp)), icmpv6, 64}
	}
	h = append(append(h, own...), p.from.Addr().AsSlice()...)
	if p.v6() {
		pseudo := append(append([]byte{}, h[8:]...), 0, 0, 0, byte(len(icmp)), 0, 0, 0, icmpv6)
		binary.BigEndian.PutUint16(icmp[2:], ^sum(append(pseudo, icmp...)))
	} else {
		binary.BigEndian.PutUint16(h[10:], ^sum(h))
		binary.BigEndian.PutUint16(icmp[2:], ^sum(icmp))
	}
	if want = append(append(want, h...), icmp...); string(got) != string(want) {
		t.Errorf("%s is told\n%x, not\n%x", f.name, got, want)
	}
}

// A router on the way to another subnet may take less than this node's link. It says so of a
// packet with the header, and the node believes it, but not every word.
func testNarrowWay(t *testing.T, l *lab) {
	l.move(t, "ab ")
	a := l.node("a")
	for _, f := range families {
		l.directed(t, f, "b a", "b")
		room, least := f.header(), 1280
		if f.header() == director.Header6 {
			least = 1280 + director.Header6
		}
		router := func(from, to netip.Addr, mtu int) []byte {
			frame := wrap(f.sized(udp, 1400).bytes(outsider, a.mac), from, to)
			return f.tooBig(frame, mtu, a.mac)
		}
		fits := func(want int) {
			t.Helper()
			for size, way := range map[int]string{want - room: "b", want - room + 1: "too big"} {
				if got, _ := a.step(t, f.sized(udp, size).bytes(outsider, a.mac)); got != way {
					t.Errorf("%s: of a way of %d, %d bytes: %s", f.name, want, size, got)
				}
			}
		}
		for _, c := range []struct {
			from, to  netip.Addr
			mtu, want int
		}{
			{f.own(0), f.own(1), 1400, 1400},
			{f.own(0), f.own(1), 1450, 1450},
			{f.own(0), f.own(1), 9000, 1500},
			{f.client.Addr(), f.own(1), 1400, 1500},
			{f.own(0), f.client.Addr(), 1400, 1500},
			{f.own(0), f.own(1), 68, least},
		} {
			if got, _ := a.step(t, router(c.from, c.to, c.mtu)); got != "stack" {
				t.Errorf("%s: the router's word: %s", f.name, got)
			}
			fits(c.want)
		}
		for index := range uint32(2 * maxNodes) {
			if err := a.p.objects.Paths.Put(index, &directorPath{Mtu: 1300, Until: uptime(t) - 1}); err != nil {
				t.Fatal(err)
			}
		}
		fits(1500) // that was long ago
	}
}

// tooBig is what a router says of a frame.
func (f family) tooBig(frame []byte, mtu int, to MAC) []byte {
	ip := frame[14:][:f.header()+20]
	b := append(append(append([]byte{}, to[:]...), outsider[:]...), frame[12:14]...)
	body := append([]byte{3, 4, 0, 0}, binary.BigEndian.AppendUint32(nil, uint32(mtu))...)
	if f.header() == director.Header6 {
		body[0], body[1] = 2, 0
	}
	p := packet{from: netip.AddrPortFrom(f.other, 0), to: netip.AddrPortFrom(f.own(0), 0), proto: icmp, ttl: 60}
	if p.v6() {
		p.proto = icmpv6
	}
	p.raw = slices.Concat(body, ip)
	return append(b, p.ip()...)
}

// What a VIP says that it takes in a segment is lowered where nodes are in other subnets, for
// the narrowest way.
func TestSegments(t *testing.T) {
	c := &content{nodes: map[uint32]directorNode{
		1: {Families: familyIPv4 | familyIPv6}, 2: {Families: familyIPv4 | familyIPv6, Mtu: 1500}, 3: {Families: familyIPv4, Mtu: 1400},
	}}
	for flag, want := range map[uint32]int{familyIPv4: 1400 - 28 - 40, familyIPv6: 1500 - 48 - 60} {
		t.Run(fmt.Sprint(flag), func(t *testing.T) {
			if got := c.segment(flag); got != want {
				t.Errorf("%d, not %d", got, want)
			}
		})
	}
	delete(c.nodes, 2)
	if got := c.segment(familyIPv6); got != 0 {
		t.Errorf("%d where no node is in another subnet", got)
	}
}
