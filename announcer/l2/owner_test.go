package l2

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/announcer"
)

// The agent's leases and those of the control plane are on one link, of
// addresses with the same solicited-node group too. Who starts adopts its own, and who
// withdraws or cleans up takes nothing of the other's.
func TestOwnersShareALink(t *testing.T) {
	l := newLAN(t)
	of := func(o Owner) *Leases { return o.Leases(l.links, int(l.node.Handle), slog.New(slog.DiscardHandler)) }
	api4 := announcer.Claim{Addr: netip.MustParseAddr("198.18.0.99"), Link: "eth0"}
	api6 := announcer.Claim{Addr: netip.MustParseAddr("fd98:18::99:0:200"), Link: "eth0"} // vip6's last 24 bits
	agent, control := of(Agents), of(ControlPlane)
	l.sync(t, agent, on4, on6)
	l.sync(t, control, api4, api6)
	expect := func(when string, want map[announcer.Claim]bool) {
		t.Helper()
		for c, answers := range want {
			if mac := l.asks(t, c.Addr); (mac == l.mac) != answers {
				t.Errorf("%s: %s is at %q", when, c.Addr, mac)
			}
		}
	}
	all := map[announcer.Claim]bool{on4: true, on6: true, api4: true, api6: true}
	expect("both hold", all)
	for o, want := range map[Owner]int{Agents: 2, ControlPlane: 2} {
		held, err := of(o).Adopt()
		if err != nil || len(held) != want {
			t.Errorf("%s adopts %v, %v", o, held, err)
		}
	}
	l.sync(t, agent)
	expect("the agent withdrew", map[announcer.Claim]bool{on4: false, on6: false, api4: true, api6: true})
	l.sync(t, agent, on4, on6)
	if n, err := Cleanup(l.links, int(l.node.Handle)); n != 2 || err != nil {
		t.Errorf("the agent's cleanup removed %d, %v", n, err)
	}
	expect("the agent cleaned up", map[announcer.Claim]bool{on4: false, on6: false, api4: true, api6: true})
	if n, err := ControlPlane.Cleanup(l.links, int(l.node.Handle)); n != 2 || err != nil {
		t.Errorf("the control plane's cleanup removed %d, %v", n, err)
	}
	if out := l.node.Run(t, "nft", "list", "ruleset") + l.node.Run(t, "ip", "addr"); strings.Contains(out, "fairlead") || strings.Contains(out, "fe80::fa1") {
		t.Errorf("left is\n%s", out)
	}
}
