package nftables

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// The addresses of the tables here: pods, the node, a client, Services.
var (
	podA, podB, remote    = addr(1, 2), addr(1, 3), addr(2, 2)
	node, client          = addr(0, 1), addr(0, 2)
	clusterIP, other, vip = addr(96, 1), addr(96, 2), addr(200, 1)
)

func addr(net, host byte) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, net, host}) }

func ep(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 8080) }

// front makes a Frontend on port 80, 30080 for a node port.
func front(kind proxy.Kind, p snapshot.Protocol, endpoints ...netip.Addr) *proxy.Frontend {
	f := &proxy.Frontend{Key: proxy.Key{Kind: kind, Family: snapshot.IPv4, Addr: vip, Protocol: p, Port: 80}}
	switch kind {
	case proxy.ClusterIP:
		f.Addr = clusterIP
	case proxy.NodePort:
		f.Addr, f.Port = netip.Addr{}, 30080
	}
	for _, e := range endpoints {
		f.Cluster = append(f.Cluster, ep(e))
	}
	if len(endpoints) == 0 {
		f.Empty = proxy.Reject
	}
	return f
}

// movesOf returns the moves of a Sync that follows one with old.
func movesOf(old, now []*proxy.Frontend) []Move {
	r, _ := Adopt(nothing(), &proxy.Table{Frontends: old}, DefaultMark, false)
	_, patches := r.Next(&proxy.Table{Frontends: now})
	return patches[0].Moves()
}

// Clients stay with their endpoint when it gets another slot. They are forgotten when
// it is gone, or when the affinity ends.
func TestMoves(t *testing.T) {
	sticky := func(endpoints ...netip.Addr) []*proxy.Frontend {
		f := front(proxy.VIP, snapshot.TCP, endpoints...)
		f.Affinity = time.Hour
		return []*proxy.Frontend{f}
	}
	for _, c := range []struct {
		what     string
		old, now []*proxy.Frontend
		moves    []string
	}{
		{"nothing", sticky(podA, podB), sticky(podA, podB), nil},
		{"an endpoint more", sticky(podA), sticky(podA, podB), nil},
		{"the last one less", sticky(podA, podB), sticky(podA), []string{"affinity-1 "}},
		{"the first one less", sticky(podA, podB), sticky(podB), []string{"affinity-0 ", "affinity-1 affinity-0"}},
		{"the first of three less", sticky(podA, podB, remote), sticky(podB, remote), []string{"affinity-0 ", "affinity-2 affinity-0"}},
		{"another one", sticky(podA), sticky(podB), []string{"affinity-0 "}},
		{"deleted", sticky(podA, podB), nil, []string{"affinity-0 ", "affinity-1 "}},
		{"without affinity", sticky(podA), []*proxy.Frontend{front(proxy.VIP, snapshot.TCP, podA)}, []string{"affinity-0 "}},
		{"with affinity", []*proxy.Frontend{front(proxy.VIP, snapshot.TCP, podA)}, sticky(podA), nil},
	} {
		var got []string
		for _, m := range movesOf(c.old, c.now) {
			got = append(got, m.From+" "+m.To)
		}
		if !slices.Equal(got, c.moves) {
			t.Errorf("%s: %q, want %q", c.what, got, c.moves)
		}
	}
}
