package link

import (
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// A node whose kernel has no IPv6 has its links, addresses and routes of IPv4.
func TestLessIPv6(t *testing.T) {
	nstest.NeedLess(t, "ipv6")
	node, peer := nstest.New(t, "node"), nstest.New(t, "peer")
	nstest.Wire(t, node, peer, "198.18.0.1/24", "198.18.0.2/24")
	node.Do(t, func() error {
		st, err := Read()
		if len(st.Links) != 1 || len(st.Addrs) == 0 {
			t.Errorf("got %+v", st)
		}
		return err
	})
}
