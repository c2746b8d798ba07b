package l2

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

func TestMain(m *testing.M) {
	if during := os.Getenv(floodEnv); during != "" {
		if err := flood(during); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

var (
	vip4 = netip.MustParseAddr("198.18.0.200")
	vip6 = netip.MustParseAddr("fd98:18::200")
	on4  = announcer.Claim{Addr: vip4, Link: "eth0"}
	on6  = announcer.Claim{Addr: vip6, Link: "eth0"}
)

// lan is a node and a client on one link.
type lan struct {
	node, client nstest.Space
	links        *netlink.Handle
	mac          string
}

func newLAN(t *testing.T) lan {
	l := lan{node: nstest.New(t, "node"), client: nstest.New(t, "client")}
	mac, _ := nstest.Wire(t, l.node, l.client, "198.18.0.1/24", "198.18.0.2/24")
	l.mac = mac.String()
	l.node.Run(t, "ip", "addr", "add", "fd98:18::1/64", "dev", "eth0", "nodad")
	l.client.Run(t, "ip", "addr", "add", "fd98:18::2/64", "dev", "eth0", "nodad")
	for _, family := range []string{"ipv4", "ipv6"} { // a client that gives up soon
		l.client.Run(t, "sysctl", "-qw", "net."+family+".neigh.eth0.retrans_time_ms=200", "net."+family+".neigh.eth0.mcast_solicit=2")
	}
	l.links = l.node.Netlink(t)
	return l
}

func (l lan) holder() *Leases {
	return New(l.links, int(l.node.Handle), slog.New(slog.DiscardHandler))
}

// asks has the client ask for vip again, and returns the MAC that it is told; "" if
// nobody answers.
func (l lan) asks(t *testing.T, vip netip.Addr) string {
	t.Helper()
	l.client.Run(t, "ip", "neigh", "flush", "all")
	var fields []string
	nstest.Eventually(t, "the client knows whether "+vip.String()+" is answered", func() bool {
		fields = strings.Fields(l.client.Run(t, "ip", "neigh", "show", vip.String()))
		if len(fields) == 0 { // not asked yet, or failed and forgotten since
			_, _ = l.client.Try("ping", "-c", "1", "-W", "0.01", vip.String()) // the engine answers pings, and it is not here
		}
		return len(fields) > 0 && !slices.Contains(fields, "INCOMPLETE")
	})
	if i := slices.Index(fields, "lladdr"); i >= 0 {
		return fields[i+1]
	}
	return ""
}

func (l lan) sync(t *testing.T, ls *Leases, want ...announcer.Claim) {
	t.Helper()
	got, err := ls.Sync(announcer.Set{Claims: want})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("holds %v, want %v", got, want)
	}
}

func TestHeldVIPIsAnsweredAndWithdrawn(t *testing.T) {
	l := newLAN(t)
	ls := l.holder()
	l.sync(t, ls, on4, on6)
	for _, vip := range []netip.Addr{vip4, vip6} {
		if mac := l.asks(t, vip); mac != l.mac {
			t.Errorf("the client sees %s at %q, want %s", vip, mac, l.mac)
		}
	}
	l.sync(t, ls)
	for _, vip := range []netip.Addr{vip4, vip6} {
		if mac := l.asks(t, vip); mac != "" {
			t.Errorf("%s is answered with %s after it was withdrawn", vip, mac)
		}
	}
}

// A VIP is an address of no link: neither the node's programs nor the rules of others
// take it for one of the node, and nobody chooses it as a source.
func TestHeldVIPIsNoAddress(t *testing.T) {
	l := newLAN(t)
	l.sync(t, l.holder(), on4, on6)
	for _, vip := range []netip.Addr{vip4, vip6} {
		if out := l.node.Run(t, "ip", "route", "get", vip.String()); strings.Contains(out, "local ") {
			t.Errorf("%s is an address of the node: %s", vip, out)
		}
		if out := l.node.Run(t, "ip", "addr"); strings.Contains(out, vip.String()) {
			t.Errorf("%s is on a link:\n%s", vip, out)
		}
	}
	addrs, err := l.links.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, a := range addrs {
		switch {
		case IsOurs(a) && (isLeased(a) || a.ValidLft > 30):
			t.Errorf("version 0.1 would take %s for a VIP, or it is there for too long: %+v", a.IPNet, a)
		case IsOurs(a):
			ours++
		}
	}
	if ours != 1 {
		t.Errorf("%d addresses make eth0 a member of groups, want 1 for the VIP of IPv6", ours)
	}
}

// What is held is never the source of the node's own packets, also after its addresses were
// taken away and given again.
func TestHeldVIPIsNoSource(t *testing.T) {
	l := newLAN(t)
	l.sync(t, l.holder(), on4, on6)
	for _, own := range []string{"198.18.0.1/24", "fd98:18::1/64"} {
		l.node.Run(t, "ip", "addr", "del", own, "dev", "eth0")
	}
	l.node.Run(t, "ip", "addr", "add", "198.18.0.1/32", "dev", "eth0")
	l.node.Run(t, "ip", "addr", "add", "fd98:18::1/128", "dev", "eth0", "nodad")
	for _, route := range [][2]string{{"198.18.0.2", "198.18.1.0/24"}, {"fd98:18::2", "fd98:19::/64"}} {
		l.node.Run(t, "ip", "route", "add", route[1], "via", route[0], "dev", "eth0", "onlink")
	}
	for to, from := range map[string]string{"198.18.1.7": "198.18.0.1", "fd98:19::7": "fd98:18::1"} {
		if out := l.node.Run(t, "ip", "route", "get", to); !strings.Contains(out+" ", " src "+from+" ") {
			t.Errorf("to %s the node's address is not the source: %s", to, out)
		}
	}
	if out := l.node.Run(t, "ip", "-6", "route", "get", "fe80::7", "dev", "eth0"); strings.Contains(out, "src fe80::fa1e") {
		t.Errorf("the address of the group is a source: %s", out)
	}
}

func TestNextProcessAdoptsLeases(t *testing.T) {
	l := newLAN(t)
	l.sync(t, l.holder(), on4, on6)
	next := l.holder()
	got, err := next.Adopt()
	if err != nil || len(got) != 2 {
		t.Fatalf("adopted %v, %v; want both", got, err)
	}
	l.sync(t, next, on4)
	if l.asks(t, vip6) != "" || l.asks(t, vip4) != l.mac {
		t.Errorf("after adopting, only %s was wanted", vip4)
	}
}

func TestCleanupTakesLeasesOnly(t *testing.T) {
	l := newLAN(t)
	l.node.Run(t, "ip", "addr", "add", "198.18.0.77/32", "dev", "eth0", "noprefixroute")
	l.sync(t, l.holder(), on4, on6)
	l.node.Run(t, "ip", "addr", "add", "198.18.0.201/32", "dev", "eth0", "noprefixroute", "valid_lft", "30", "preferred_lft", "0") // of version 0.1
	n, err := Cleanup(l.links, int(l.node.Handle))
	if err != nil || n != 3 {
		t.Fatalf("Cleanup() = %d, %v; want 3", n, err)
	}
	out := l.node.Run(t, "ip", "addr")
	for _, own := range []string{"198.18.0.1/24", "198.18.0.77/32", "fd98:18::1/64"} {
		if !strings.Contains(out, own) {
			t.Errorf("%s was taken too:\n%s", own, out)
		}
	}
	if strings.Contains(out, "198.18.0.201") || strings.Contains(out, "fa1e") || l.node.Run(t, "nft", "list", "ruleset") != "" {
		t.Errorf("something of ours is left:\n%s", out)
	}
	if n, err := Cleanup(l.links, int(l.node.Handle)); n != 0 || err != nil {
		t.Errorf("a second Cleanup() = %d, %v", n, err)
	}
}

// What somebody took out of the kernel comes back with the next renewal, and a VIP whose link is gone is an error that does not hold up the others.
func TestSyncRepairsAndGoesOn(t *testing.T) {
	l := newLAN(t)
	ls := l.holder()
	l.sync(t, ls, on4)
	l.node.Run(t, "nft", "flush", "ruleset")
	ls.noteHeld(on4, lease{link: ls.held[on4].link, mac: l.mac}) // its renewal is due
	got, err := ls.Sync(announcer.Set{Claims: []announcer.Claim{on4, {Addr: vip6, Link: "gone0"}}})
	if err == nil || !strings.Contains(err.Error(), "gone0") {
		t.Errorf("a missing link gives %v", err)
	}
	if len(got) != 1 || got[0] != on4 {
		t.Errorf("holds %v, want %v", got, on4)
	}
	if mac := l.asks(t, vip4); mac != l.mac {
		t.Errorf("the VIP did not come back: the client sees %q", mac)
	}
}

// A client that believes another MAC learns the new one at once.
func TestTakeOverMovesNeighbours(t *testing.T) {
	l := newLAN(t)
	ls := l.holder()
	l.run(t, ls)
	for _, vip := range []netip.Addr{vip4, vip6} {
		l.client.Run(t, "ip", "neigh", "replace", vip.String(), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
	}
	l.sync(t, ls, on4, on6)
	for _, vip := range []netip.Addr{vip4, vip6} {
		nstest.Eventually(t, vip.String()+" moves in the client's neighbour table", func() bool {
			return strings.Contains(l.client.Run(t, "ip", "neigh", "show", vip.String()), l.mac)
		})
	}
}

// run runs ls until the test ends.
func (l lan) run(t *testing.T, ls *Leases) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.node.Do(t, func() error { ls.Run(ctx); return nil })
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// After a partition healed, the owner says again what it holds.
func TestReturnAnnouncesWhatIsHeld(t *testing.T) {
	l := newLAN(t)
	ls := l.holder()
	l.sync(t, ls, on4, on6)
	clear(ls.bursts)
	l.sync(t, ls, on4, on6)
	if n := len(ls.bursts); n != 0 {
		t.Errorf("%d announcements are due though nothing happened", n)
	}
	if _, err := ls.Sync(announcer.Set{Claims: []announcer.Claim{on4, on6}, Returns: 1}); err != nil {
		t.Fatal(err)
	}
	if n := len(ls.bursts); n != 2 {
		t.Errorf("%d announcements are due, want 2", n)
	}
}

// A claim that the kernel refuses has a back-off of its own: it is not asked
// again at every Sync, no other claim waits for it, and Changed is called when it
// is due. It is held once the reason is gone.
func TestRefusedClaimWaitsAlone(t *testing.T) {
	l := newLAN(t)
	l.node.Run(t, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
	ls, due := l.holder(), make(chan struct{}, 1)
	ls.Changed = func() {
		select {
		case due <- struct{}{}:
		default:
		}
	}
	l.run(t, ls)
	both := announcer.Set{Claims: []announcer.Claim{on4, on6}}
	if held, err := ls.Sync(both); err == nil || len(held) != 1 || held[0] != on4 {
		t.Fatalf("holds %v, %v; want %v and an error about the other", held, err, on4)
	}
	for range 3 {
		if _, err := ls.Sync(both); err != nil && ls.failed[on6].times < 2 {
			t.Errorf("asked the kernel again before the pause was over: %v", err)
		}
	}
	select {
	case <-due:
	case <-time.After(time.Minute):
		t.Fatal("nobody was told that it is to be tried again")
	}
	l.node.Run(t, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
	nstest.Eventually(t, "both are held", func() bool {
		held, err := ls.Sync(both)
		return err == nil && len(held) == 2
	})
	if len(ls.failed) > 0 {
		t.Errorf("failures are remembered: %v", ls.failed)
	}
}
