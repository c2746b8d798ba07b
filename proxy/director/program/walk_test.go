package program

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/proxy/director"
)

// cluster is random tables of n nodes.
type cluster struct {
	table  *director.Table
	chains []uint16
	rings  *director.Rings
}

func randomCluster(r *rand.Rand, names []string) *cluster {
	members := make([]director.Member, len(names))
	for i, name := range names {
		members[i] = director.Member{Name: name, Weight: r.IntN(4)}
	}
	before, table := director.New(testSeed, members), (*director.Table)(nil)
	for i := range members {
		members[i].Weight = r.IntN(4)
	}
	if r.IntN(10) == 0 {
		for i := range members {
			members[i].Weight = 0
		}
	}
	table = director.New(testSeed, members)
	var m *director.Memory
	m = m.Next(nil, before)
	m = m.Next(before, table)
	return &cluster{table, table.Chains(m), director.NewRings(testSeed, members)}
}

func (c *cluster) primary(hash uint64) int {
	if len(c.table.Primary) == 0 {
		return -1
	}
	return int(c.table.Primary[c.table.Slot(hash)])
}

// decided is what a node without any connection has to do with a packet, in the words of
// step.
func (c *cluster) decided(p packet, serves, byClient bool, me, sender int) string {
	flow := director.Flow{Proto: p.proto, Source: p.from, Frontend: p.to}
	if byClient {
		flow.Source = netip.AddrPortFrom(p.from.Addr(), 0)
	}
	hash := testSeed.Hash(flow)
	primary := c.primary(hash)
	at := director.Step{Hash: hash, Me: me, Sender: sender, Hop: 25 - int(p.ttl)}
	if p.ttl > 24 || sender < 0 {
		at.Sender, at.Hop = -1, 0
	}
	if at.Sender < 0 && primary >= 0 && primary != me {
		if p.ttl <= 9 {
			return "stack"
		}
		return c.table.Members[primary].Name
	}
	next, walks := c.table.Walk(c.chains, c.rings, at)
	if at.Sender < 0 && p.ttl <= 24 {
		walks = false
	}
	switch {
	case p.flags == syn && serves:
		return "serve"
	case p.flags == syn && (!walks || primary < 0):
		return "stack"
	case walks:
		return c.table.Members[next].Name
	case at.Sender < 0 && p.ttl <= 24:
		return "drop"
	}
	return "reset"
}

// The program decides as the package director does, over random tables, nodes and
// packets.
func TestDecidesAsDirector(t *testing.T) {
	for _, size := range []int{1, 2, 5, 8, 9, 10, 30} {
		names := make([]string, size)
		for i := range names {
			names[i] = fmt.Sprintf("n%02d", i)
		}
		t.Run(fmt.Sprint(size), func(t *testing.T) { compare(t, names) })
	}
}

func compare(t *testing.T, names []string) {
	l := newLab(t, Options{Diversions: Rate{1000000, 1000000}}, "n00")
	l.needOracle(t)
	n, seed := l.nodes[0], rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 6 {
		n.state.Nodes = nil
		for i, name := range names {
			n.state.Nodes = append(n.state.Nodes, Node{
				Name: name, Link: n.link, MACs: []MAC{{2, 0, 0, 0, 1, byte(i)}},
				IPv4: netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}), IPv6: netip.MustParseAddr(fmt.Sprintf("fd98::%x", i)),
			})
		}
		me := r.IntN(len(names))
		c := randomCluster(r, names)
		serves, byClient := r.IntN(4) == 0, r.IntN(4) == 0
		n.state.Me, n.state.Frontends = names[me], nil
		for _, f := range families {
			n.state.Frontends = append(n.state.Frontends, Frontend{VIP: f.vip, Proto: tcp, Slots: &Slots{Chains: c.chains}, HasEndpoints: serves, ByClient: byClient})
		}
		n.sync(t)
		for range 80 {
			p := families[r.IntN(2)].packet(tcp, []uint8{syn, ack}[r.IntN(2)])
			p.from = netip.AddrPortFrom(p.from.Addr(), uint16(r.Uint32()))
			p.ttl = uint8(r.IntN(27))
			mac, sender := outsider, r.IntN(len(names)+1)-1
			if sender == me {
				sender = -1
			}
			if sender >= 0 {
				mac = n.state.Nodes[sender].MACs[0]
			}
			want, sent := c.decided(p, serves, byClient, me, sender), p
			if p.flags == ack && r.IntN(3) == 0 { // an error about it goes the same way, and has another end
				sent.about, sent.from = p.back(), p.to
				want = strings.Replace(want, "reset", "drop", 1)
			}
			got, _ := n.step(t, sent.bytes(mac, n.mac))
			if got != want {
				t.Fatalf("seed %d, %d nodes, me %d, sender %d, %+v: %s, not %s", seed, len(names), me, sender, p, got, want)
			}
		}
	}
}

// No packet is passed on more than 16 times, whatever the tables say of one another, and
// also where no node knows another's MAC.
func TestHopsEnd(t *testing.T) {
	l := newLab(t, Options{}, "a", "b", "c")
	l.needOracle(t)
	r := rand.New(rand.NewPCG(1, 1))
	most := 0
	for _, known := range []bool{true, false} {
		for range 4 {
			for _, n := range l.nodes {
				n.state.Nodes = l.known(n)
				for i := range n.state.Nodes {
					if !known {
						n.state.Nodes[i].MACs = nil
					}
				}
			}
			hops := l.longest(t, r)
			if most = max(most, hops); hops > 16 {
				t.Errorf("%d hops, MACs known: %v", hops, known)
			}
		}
	}
	if most < 12 {
		t.Errorf("at most %d hops: these tables do not differ", most)
	}
}

// longest is the longest way of packets through tables that have nothing in common.
func (l *lab) longest(t *testing.T, r *rand.Rand) (hops int) {
	for _, f := range families {
		for _, kind := range []string{"SYN", "ACK", "UDP", "error"} {
			var chains []string
			for range l.nodes {
				chain := []string{"a", "b", "c"}
				r.Shuffle(3, func(i, j int) { chain[i], chain[j] = chain[j], chain[i] })
				chains = append(chains, strings.Repeat("@", r.IntN(2))+strings.Join(chain, " "))
			}
			p := kinds[kind](f)
			proto := p
			if p.about != nil {
				proto = *p.about.back()
			}
			l.arrange(t, f, story{chains: strings.Join(chains, "/"), serving: "none"}, proto)
			way := strings.Fields(l.travel(t, "a", p))
			hops = max(hops, len(slices.DeleteFunc(way, func(w string) bool { return l.node(w) == nil }))-1)
		}
	}
	return hops
}
