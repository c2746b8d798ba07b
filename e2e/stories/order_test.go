package stories

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/e2e/lab"
)

// The stories run in any order. A story that counts every request says with the
// functions of this file which traces of earlier stories it cannot bear.

// electable waits until every node may be elected. A node that was without power, or
// whose fairlead was installed a moment ago, becomes a candidate after a minute of
// health. Addresses then move to it, and the connections that are open at that moment
// end.
func electable(t *testing.T) {
	t.Helper()
	nodes := cluster(t).Nodes()
	for _, node := range nodes {
		eventually(t, takeOver, "every node to be a candidate, as "+node+" sees it", func(ctx context.Context) error {
			n, err := metricAt(ctx, node, probeAddress, "fairlead_member_candidates")
			if err == nil && int(n) != len(nodes) {
				err = fmt.Errorf("%v of %d are", n, len(nodes))
			}
			return err
		})
	}
}

// forgotten makes every node forget the connections to addresses. Services of
// different stories get the same address, and clients use the same ports again. A
// connection that was begun while a story had taken fairlead's tables out is not
// translated, and the kernel takes a new one from the same port for it.
func forgotten(t *testing.T, addresses ...string) {
	t.Helper()
	l := cluster(t)
	for _, node := range l.Nodes() {
		for _, address := range addresses {
			eventually(t, settled, node+" to forget connections to "+address, func(ctx context.Context) error { return forget(ctx, l, node, address) })
		}
	}
}

func forget(ctx context.Context, l *lab.Lab, node, address string) error {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	family := map[bool]string{true: "ipv4", false: "ipv6"}[ip.Is4()]
	_, _ = l.Exec(ctx, node, "conntrack", "--delete", "--family", family, "--orig-dst", address) // it fails if there is none
	left, err := l.Exec(ctx, node, "conntrack", "--dump", "--family", family, "--orig-dst", address)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("it remembers %s", left)
	}
	return err
}
