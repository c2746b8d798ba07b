package marks_test

import (
	"testing"

	"github.com/fairlead/fairlead/internal/marks"
)

// Every number has a mark of its own, which has no bit of somebody else's.
func TestLinks(t *testing.T) {
	const taken = 0xffff0000 | // Calico
		0xc000 | // kubelet and kube-proxy
		0x3000 | // masquerading, and the director's
		0x0f00 | // Cilium
		0x00e0 // the director's
	for _, masquerade := range []uint32{0x2000, 0x10000, 1, 4, 8} {
		f, seen := marks.Links(masquerade), map[uint32]bool{}
		for n := 1; n <= marks.Inside; n++ {
			mark := f.Of(n)
			if mark == 0 || seen[mark] || mark&^f.Mask() != 0 || mark&(taken|masquerade) != 0 {
				t.Errorf("beside %#x number %d has the mark %#x", masquerade, n, mark)
			}
			seen[mark] = true
		}
	}
	for table, own := range map[int]bool{254: false, 7949: false, 7950: true, 7963: true, 7964: false, 8_000_001: true} {
		if marks.Own(table) != own {
			t.Errorf("table %d", table)
		}
	}
	if none := (marks.Field{}); none.Mask() != 0 || none.Of(3) != 0 {
		t.Error("the zero Field holds something")
	}
}
