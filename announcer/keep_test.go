package announcer_test

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/announcer"
)

func TestKeep(t *testing.T) {
	vip := func(addr string, links ...string) announcer.VIP {
		return announcer.VIP{Addr: netip.MustParseAddr(addr), Links: links}
	}
	was := announcer.Plan{Announce: []announcer.VIP{vip("192.0.2.1", "eth0"), vip("192.0.2.2", "eth0", "eth1"), vip("192.0.2.3", "eth0"), vip("192.0.2.4", "eth0")}}
	next := announcer.Plan{
		Announce: []announcer.VIP{vip("192.0.2.0", "eth0"), vip("192.0.2.2", "eth1", "eth2"), vip("192.0.2.3", "eth1"), vip("192.0.2.4", "eth0")},
		Refused:  []announcer.Refused{{Addr: netip.MustParseAddr("192.0.2.1")}},
	}
	const want = "announce 192.0.2.2 on eth1 for []\nannounce 192.0.2.4 on eth0 for []\n"
	if got := was.Keep(next).String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := was.Announce[1].Links; len(got) != 2 || got[0] != "eth0" {
		t.Errorf("Keep changed its receiver: %v", got)
	}
}
