package l2

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
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
	l.links = l.node.Netlink(t)
	return l
}

func (l lan) holder() *Leases { return New(l.links, slog.New(slog.DiscardHandler)) }

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
		l.client.Run(t, "ping", "-c", "1", "-W", "10", vip.String())
		if neigh := l.client.Run(t, "ip", "neigh", "show", vip.String()); !strings.Contains(neigh, l.mac) {
			t.Errorf("the client sees %s at %q, want %s", vip, neigh, l.mac)
		}
	}
	l.sync(t, ls)
	for _, vip := range []netip.Addr{vip4, vip6} {
		l.client.Run(t, "ip", "neigh", "flush", "all")
		if out, err := l.client.Try("ping", "-c", "1", "-W", "1", vip.String()); err == nil {
			t.Errorf("%s is answered after it was withdrawn:\n%s", vip, out)
		}
	}
}

// The kernel takes the address away by itself when nobody renews it, never
// chooses it as a source, and makes no route of it.
func TestHeldVIPIsALease(t *testing.T) {
	l := newLAN(t)
	l.sync(t, l.holder(), on4, on6)
	addrs, err := l.links.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP)
		if ip != vip4 && ip != vip6 {
			if IsLease(a) {
				t.Errorf("the node's own %s looks like a lease", ip)
			}
			continue
		}
		seen++
		if !IsLease(a) || a.ValidLft <= 0 || a.ValidLft > 30 || a.PreferedLft != 0 {
			t.Errorf("%s is held as %+v", ip, a)
		}
	}
	if seen != 2 {
		t.Errorf("%d VIPs are on the link, want 2", seen)
	}
	for _, to := range []string{"198.18.0.2", "fd98:18::2"} {
		if out := l.node.Run(t, "ip", "route", "get", to); strings.Contains(out, "200") {
			t.Errorf("the VIP is chosen as the source: %s", out)
		}
	}
	if out := l.node.Run(t, "ip", "route"); strings.Contains(out, vip4.String()) {
		t.Errorf("a route was made: %s", out)
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
	if out := l.node.Run(t, "ip", "addr"); strings.Contains(out, vip6.String()) || !strings.Contains(out, vip4.String()) {
		t.Errorf("after adopting, only %s was wanted:\n%s", vip4, out)
	}
}

func TestCleanupTakesLeasesOnly(t *testing.T) {
	l := newLAN(t)
	l.node.Run(t, "ip", "addr", "add", "198.18.0.77/32", "dev", "eth0", "noprefixroute")
	l.sync(t, l.holder(), on4, on6)
	n, err := Cleanup(l.links)
	if err != nil || n != 2 {
		t.Fatalf("Cleanup() = %d, %v; want 2", n, err)
	}
	out := l.node.Run(t, "ip", "addr")
	for _, own := range []string{"198.18.0.1/24", "198.18.0.77/32", "fd98:18::1/64"} {
		if !strings.Contains(out, own) {
			t.Errorf("%s was taken too:\n%s", own, out)
		}
	}
	if n, err := Cleanup(l.links); n != 0 || err != nil {
		t.Errorf("a second Cleanup() = %d, %v", n, err)
	}
}

// A VIP that somebody took from the link comes back with the next renewal, and
// one whose link is gone is an error that does not hold up the others.
func TestSyncRepairsAndGoesOn(t *testing.T) {
	l := newLAN(t)
	ls := l.holder()
	l.sync(t, ls, on4)
	l.node.Run(t, "ip", "addr", "del", "198.18.0.200/32", "dev", "eth0")
	ls.held[on4] = lease{link: ls.held[on4].link} // its renewal is due
	got, err := ls.Sync(announcer.Set{Claims: []announcer.Claim{on4, {Addr: vip6, Link: "gone0"}}})
	if err == nil || !strings.Contains(err.Error(), "gone0") {
		t.Errorf("a missing link gives %v", err)
	}
	if len(got) != 1 || got[0] != on4 {
		t.Errorf("holds %v, want %v", got, on4)
	}
	if out := l.node.Run(t, "ip", "addr"); !strings.Contains(out, vip4.String()) {
		t.Errorf("the VIP did not come back:\n%s", out)
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
