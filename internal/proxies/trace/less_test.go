package trace

import (
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// Without IPv6 in the kernel everything can be looked for.
func TestLessIPv6(t *testing.T) {
	nstest.NeedLess(t, "ipv6")
	n := newNode(t)
	n.nft(t, "ip")
	if got := objects(n.read(t)); got != "nftables table ip kube-proxy" {
		t.Errorf("got %s", got)
	}
}
