package nftables

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Open connections may have to end when an endpoint goes from a Frontend that has Members,
// over TCP, and when nobody knows what there was.
func TestLeaves(t *testing.T) {
	table := func(p snapshot.Protocol, members ...string) *proxy.Table {
		f := &proxy.Frontend{Key: proxy.Key{Kind: proxy.VIP, Family: snapshot.IPv4, Addr: netip.MustParseAddr("192.0.2.10"), Protocol: p, Port: 80}}
		for _, m := range members {
			if f.Members == nil {
				f.Members = []netip.AddrPort{}
			}
			if m != "" {
				f.Members = append(f.Members, netip.MustParseAddrPort(m))
			}
		}
		return &proxy.Table{Frontends: []*proxy.Frontend{f}}
	}
	const a, b = "10.1.1.5:80", "10.1.1.6:80"
	for name, tt := range map[string]struct {
		old, now *proxy.Table
		want     bool
	}{
		"one goes":           {table(snapshot.TCP, a, b), table(snapshot.TCP, b), true},
		"the last one goes":  {table(snapshot.TCP, a), table(snapshot.TCP, ""), true},
		"one comes":          {table(snapshot.TCP, a), table(snapshot.TCP, a, b), false},
		"over UDP":           {table(snapshot.UDP, a, b), table(snapshot.UDP, b), false},
		"nobody asks":        {table(snapshot.TCP), table(snapshot.TCP), false},
		"the Service asks":   {table(snapshot.TCP), table(snapshot.TCP, a), true},
		"it no longer asks":  {table(snapshot.TCP, a), table(snapshot.TCP), false},
		"at a start":         {nil, table(snapshot.TCP, a), true},
		"at a start, no one": {nil, table(snapshot.TCP), false},
	} {
		if got := Leaves(tt.old, tt.now); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
