package program

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/proxy/director"
)

// BenchmarkContent is what a Sync costs before it writes: 1,000 Services with tables of
// their own, on 20 nodes.
func BenchmarkContent(b *testing.B) {
	s := &State{Me: "node-00"}
	members := make([]director.Member, 20)
	for i := range members {
		members[i] = director.Member{Name: fmt.Sprintf("node-%02d", i), Weight: 1}
		s.Nodes = append(s.Nodes, Node{Name: members[i].Name})
	}
	chains := director.New(testSeed, members).Chains(nil)
	for i := range 1000 {
		slots := &Slots{Chains: chains, Changed: make([]uint32, len(chains)/director.Places)}
		slots.Changed[0] = uint32(i)
		for port := range uint16(2) {
			vip := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), port)
			s.Frontends = append(s.Frontends, Frontend{VIP: vip, Proto: tcp, Slots: slots})
		}
	}
	was := &content{}
	for b.Loop() {
		now, err := was.next(s, testSeed)
		if err != nil {
			b.Fatal(err)
		}
		was = now
	}
}
