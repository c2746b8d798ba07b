package marks

import "testing"

// The bit of egress is nobody else's.
func TestEgress(t *testing.T) {
	const taken = 0xffff0000 | // Calico
		0xc000 | // kubelet and kube-proxy
		0x3000 | // masquerading, and the director's
		0x0f00 | // Cilium
		0x00c0 | // the director's
		0x000f // the numbers of links
	for _, masquerade := range []uint32{0x2000, 0x10000, 0x10, 0x20, 1, 8} {
		switch bit := Egress(masquerade); {
		case bit == masquerade, bit&taken != 0:
			t.Errorf("beside %#x the bit is %#x", masquerade, bit)
		}
	}
}
