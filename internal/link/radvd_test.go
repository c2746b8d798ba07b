package link

import (
	"reflect"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// TestPrefixesOfRadvd: a node that forwards sees what a real router announces, which
// prefix it lets go, and which one takes its place.
func TestPrefixesOfRadvd(t *testing.T) {
	t.Parallel()
	node, router := nstest.New(t, "node"), nstest.New(t, "router")
	nstest.Wire(t, node, router, "198.18.0.11/24", "198.18.0.1/24")
	node.Run(t, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.eth0.accept_ra=2")
	// An address that a person gave to the link is not of the router.
	node.Run(t, "ip", "addr", "add", "2001:db8:9::11/64", "dev", "eth0")
	sees := func(want ...snapshot.LinkPrefix) {
		t.Helper()
		var got []snapshot.LinkPrefix
		nstest.Eventually(t, "the node sees what the router announces", func() bool {
			node.Do(t, func() error {
				st, err := Read()
				got = st.Prefixes
				return err
			})
			return reflect.DeepEqual(got, want)
		})
	}
	of := func(text string) snapshot.LinkPrefix {
		l, _ := snapshot.ParsePrefix(text)
		return snapshot.LinkPrefix{Link: "eth0", Prefix: l}
	}
	first, second := of("2001:db8:1::/64"), of("2001:db8:2::/64")
	radvd := routertest.StartRadvd(t, router, "2001:db8:1::/64")
	sees(first)
	radvd.Announce(t, "-2001:db8:1::/64", "2001:db8:2::/64")
	first.Deprecated = true
	sees(first, second)
}
