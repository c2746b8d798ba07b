package program

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/proxy/director"
)

// at is the packet, to another port of the VIP. An error is about a packet of that port.
func (p packet) at(port uint16) packet {
	if p.about != nil {
		about := *p.about
		about.from = netip.AddrPortFrom(about.from.Addr(), port)
		p.about = &about
		return p
	}
	p.to = netip.AddrPortFrom(p.to.Addr(), port)
	return p
}

// rangedFrontend is a Frontend of ranges of ports at the VIP of f.
func (f family) rangedFrontend(proto uint8, ranges ...director.Ports) Frontend {
	return Frontend{VIP: netip.AddrPortFrom(f.vip.Addr(), 0), Proto: proto, Ranges: ranges}
}

// A packet to a port in a range is passed on by the frontend of the ranges, one to a port
// that has a frontend by that. What is sent elsewhere is the stack's.
func TestRanges(t *testing.T) {
	l := newLab(t, Options{}, "a", "b", "c")
	a := l.node("a")
	for _, f := range families {
		for _, kind := range []string{"SYN", "ACK", "UDP", "error", "errorUDP"} {
			p := kinds[kind](f)
			proto := p.proto
			front, port := f.rangedFrontend(proto, director.Ports{First: 1000, Last: 1999}, director.Ports{First: 3000, Last: 3000}), Frontend{VIP: f.vip, Proto: proto}
			front.Slots, port.Slots = l.slots("b a"), l.slots("c a")
			port.VIP = netip.AddrPortFrom(f.vip.Addr(), 1500)
			a.state.Frontends = []Frontend{front, port}
			a.sync(t)
			for to, want := range map[uint16]string{
				1000: "b", 1001: "b", 1499: "b", 1500: "c", 1501: "b", 1999: "b", 3000: "b",
				0: "stack", 80: "stack", 999: "stack", 2000: "stack", 2999: "stack", 3001: "stack", 65535: "stack",
			} {
				if got, _ := a.step(t, p.at(to).bytes(outsider, a.mac)); got != want {
					t.Errorf("%s %s to port %d: %s, not %s", f.name, kind, to, got, want)
				}
			}
		}
	}
	a.state.Frontends = a.state.Frontends[1:]
	a.sync(t)
	last := families[len(families)-1].packet(udp, 0)
	if got, _ := a.step(t, last.at(1000).bytes(outsider, a.mac)); got != "stack" {
		t.Errorf("without ranges: %s", got)
	}
}

// The program finds a port in as many ranges as a frontend may have, and no other port.
func TestManyRanges(t *testing.T) {
	l := newLab(t, Options{}, "a", "b")
	a, f := l.node("a"), families[0]
	r := rand.New(rand.NewPCG(3, 5))
	for _, n := range []int{1, 2, 3, 31, 32, 33, 63, director.MaxRanges} {
		var list []director.Ports
		wants := map[uint16]bool{}
		for i := range n {
			first := uint16(1 + i*1000 + r.IntN(400))
			last := first + uint16(r.IntN(500))
			if list = append(list, director.Ports{First: first, Last: last}); i == 63 {
				list[i].Last = 65535
			}
			for _, port := range []uint16{first - 1, first, last, list[i].Last + 1} {
				wants[port] = false
			}
		}
		for port := range wants {
			wants[port] = slices.ContainsFunc(list, func(p director.Ports) bool { return p.First <= port && port <= p.Last })
		}
		front := f.rangedFrontend(tcp, list...)
		front.Slots = l.slots("b a")
		a.state.Frontends = []Frontend{front}
		a.sync(t)
		for port, want := range wants {
			if got, _ := a.step(t, f.packet(tcp, syn).at(port).bytes(outsider, a.mac)); (got == "b") != want {
				t.Errorf("port %d of %v: %s", port, list, got)
			}
		}
	}
	a.state.Frontends[0].Ranges = make([]director.Ports, director.MaxRanges+1)
	if err := a.p.Sync(a.state, nil); err == nil {
		t.Error("more ranges than the map has room for")
	}
}

// With session affinity a client has one slot at all ports of the ranges, which package
// director names alike. Without, it has many.
func TestRangesAffinity(t *testing.T) {
	l := newLab(t, Options{}, "a", "b", "c")
	a := l.node("a")
	members := []director.Member{{Name: "a", Weight: 1}, {Name: "b", Weight: 1}, {Name: "c", Weight: 1}}
	table := director.New(testSeed, members)
	for _, f := range families {
		for _, byClient := range []bool{true, false} {
			front := f.rangedFrontend(udp, director.Ports{First: 1, Last: 65535})
			front.Slots, front.ByClient, front.HasEndpoints = &Slots{Chains: table.Chains(nil)}, byClient, true
			a.state.Frontends = []Frontend{front}
			a.sync(t)
			seen := map[string]bool{}
			for port := uint16(5000); port < 5030; port++ {
				p := f.packet(udp, 0).at(port)
				flow := director.Flow{Proto: udp, Source: p.from, Frontend: p.to}
				if byClient {
					flow.Source, flow.Frontend = netip.AddrPortFrom(p.from.Addr(), 0), netip.AddrPortFrom(p.to.Addr(), 0)
				}
				want := table.Members[table.Primary[table.Slot(testSeed.Hash(flow))]].Name
				got, _ := a.step(t, p.bytes(outsider, a.mac))
				if got == "serve" {
					got = "a"
				}
				if seen[got] = true; got != want {
					t.Errorf("%s, by client %v, port %d: %s, not %s", f.name, byClient, port, got, want)
				}
			}
			if one := len(seen) == 1; one != byClient {
				t.Errorf("%s, by client %v: %v", f.name, byClient, seen)
			}
		}
	}
}

// The next agent finds the ranges that the last one wrote, and writes others.
func TestRangesAreAdopted(t *testing.T) {
	l := newLab(t, Options{}, "a", "b")
	a, f := l.node("a"), families[1]
	front := f.rangedFrontend(tcp, director.Ports{First: 10, Last: 20})
	front.Slots, front.Grace = l.slots("b a"), OnGrace
	a.state.Frontends = []Frontend{front}
	a.sync(t)
	before := a.p.held
	a.restart(t)
	read, err := a.p.objects.read()
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(read.ranges, before.ranges) || len(read.ranges) != 1 {
		t.Errorf("written %v, read %v", before.ranges, read.ranges)
	}
	held, err := a.p.Held()
	if err != nil || len(held) != 1 || held[0].VIP != front.VIP || held[0].Grace != OnGrace {
		t.Errorf("held: %v, %v", held, err)
	}
	for _, ranges := range [][]director.Ports{{{First: 10, Last: 20}}, {{First: 20, Last: 30}}, {{First: 30, Last: 30}}} {
		a.state.Frontends[0].Ranges = ranges
		a.sync(t)
		way := ""
		for _, port := range []uint16{10, 20, 30} {
			what, _ := a.step(t, f.packet(tcp, syn).at(port).bytes(outsider, a.mac))
			way += fmt.Sprintf(" %d:%v", port, what == "b")
		}
		p := ranges[0]
		want := fmt.Sprintf(" 10:%v 20:%v 30:%v", p.First <= 10 && 10 <= p.Last, p.First <= 20 && 20 <= p.Last, p.First <= 30 && 30 <= p.Last)
		if way != want {
			t.Errorf("%v:%s, not%s", ranges, way, want)
		}
	}
	a.state.Frontends = nil
	a.sync(t)
	if read, err := a.p.objects.read(); err != nil || len(read.ranges) != 0 {
		t.Errorf("left: %v, %v", read.ranges, err)
	}
}
