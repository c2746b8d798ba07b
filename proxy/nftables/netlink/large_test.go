package netlink

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/proxy"
)

// spec 20: what does not fit a packet, 2,000 bytes over links of 1,500, passes
// both ways: as segments over TCP, as fragments over UDP.
func TestLargeMessages(t *testing.T) {
	const size = 2000
	line := strings.Repeat("x", size-1) + "\n"
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.NodePort} {
			f := a.front(kind, network, a.podA, a.remote)
			sync(t, l.engine, a.table(f))
			for name, from := range map[string]space{"client": l.client, "pod": l.podB, "node": l.node} {
				for range 4 {
					c, err := from.dial(network, a.address(f), netip.AddrPort{}, patient)
					if err != nil {
						t.Fatal(err)
					}
					got, err := sayLine(c, line, patient)
					if err != nil || len(got) != size {
						t.Errorf("%s from %s: %d bytes, %v", kind, name, len(got), err)
					}
					c.Close()
				}
			}
		}
	})
}
