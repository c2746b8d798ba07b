package announcer

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// The order is that of the hashes of address and name: agents of all versions have the
// same one.
func TestRanked(t *testing.T) {
	var nodes []*snapshot.Node
	for i := range 300 {
		nodes = append(nodes, &snapshot.Node{Name: fmt.Sprintf("worker-%d", i)})
	}
	for _, addr := range []string{"192.0.2.1", "192.0.2.200", "2001:db8::1"} {
		vip := netip.MustParseAddr(addr)
		score := func(i uint16) []byte {
			b := vip.As16()
			sum := sha256.Sum256(append(b[:], nodes[i].Name...))
			return sum[:]
		}
		got := ranked(nodes, vip)
		if len(got) != len(nodes) || !slices.IsSortedFunc(got, func(a, b uint16) int { return bytes.Compare(score(b), score(a)) }) {
			t.Errorf("%s: %v", addr, got)
		}
		if n := testing.AllocsPerRun(10, func() { ranked(nodes, vip) }); n > 6 {
			t.Errorf("%.0f allocations for %d nodes", n, len(nodes))
		}
	}
}
