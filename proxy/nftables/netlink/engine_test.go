package netlink

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
	"github.com/fairlead/fairlead/proxy/nftables"
)

func TestProbeLeavesNothing(t *testing.T) {
	s := newSpace(t, "probe")
	if err := s.engine(t).Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := s.Pipe(t, "", "nft", "list", "ruleset"); strings.TrimSpace(out) != "" {
		t.Errorf("left behind:\n%s", out)
	}
}

func TestRepairsWhatOthersBreak(t *testing.T) {
	for breakage, rebuilt := range map[string]bool{
		"delete table ip fairlead":                                              true,
		"delete table ip6 fairlead":                                             true,
		"add table ip fairlead { flags dormant; }":                              true,
		"flush chain ip6 fairlead refuse":                                       true,
		"add rule ip fairlead services accept":                                  true,
		"add chain ip fairlead foreign; add rule ip fairlead foreign goto lb-2": true,
		"flush map ip fairlead ep-1":                                            false,
		"add element ip fairlead vips { 192.0.2.77 }":                           false,
		"add chain ip fairlead lb-3-sticky-6":                                   true,
	} {
		t.Run(breakage, func(t *testing.T) {
			s := newSpace(t, "drift")
			e := s.engine(t)
			table := everything()
			sync(t, e, table)
			want := s.Pipe(t, "", "nft", "list", "ruleset")
			s.Pipe(t, breakage+"\n", "nft", "-f", "-")
			if c := sync(t, e, table); !c.Repaired || c.Empty() || c.Rebuilt != rebuilt {
				t.Errorf("got %+v", c)
			}
			got := s.Pipe(t, "", "nft", "-s", "list", "ruleset")
			if sorted(got) != sorted(want) {
				t.Errorf("not repaired: %s", firstDifference(want, got))
			}
			if c := sync(t, e, table); !c.Empty() || c.Repaired {
				t.Errorf("again: got %+v", c)
			}
		})
	}
}

func sync(t testing.TB, d proxy.Dataplane, table *proxy.Table) proxy.Change {
	t.Helper()
	c, err := d.Sync(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The kernel refuses a whole transaction: what it held stays.
func TestRefusedTransactionChangesNothing(t *testing.T) {
	e, table, err := refused(t)
	if err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Errorf("got %v", err)
	}
	if c := sync(t, e, table); !c.Empty() || c.Repaired {
		t.Errorf("after the error: %+v", c)
	}
}

// The error names the element that the kernel blames.
func TestRefusedTransactionNamesTheElement(t *testing.T) {
	if _, _, err := refused(t); err == nil || !strings.Contains(err.Error(), "0a600001 06000000 01bb0000") {
		t.Errorf("got %v", err)
	}
}

// refused makes an Engine hold a Table, and returns the error of a Sync that adds one
// element twice.
func refused(t *testing.T) (*Engine, *proxy.Table, error) {
	e := newSpace(t, "refused").engine(t)
	table := everything()
	sync(t, e, table)
	broken := *table
	twice := *table.Frontends[0]
	twice.Cluster = eps("198.18.9.9:99")
	broken.Frontends = append([]*proxy.Frontend{&twice}, table.Frontends...)
	_, err := e.Sync(t.Context(), &broken)
	return e, table, err
}

func TestProbeNamesThePrivilege(t *testing.T) {
	nstest.NeedRoot(t)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", binary)
	cmd.Env = append(os.Environ(), "PROBE_WITHOUT_PRIVILEGE=1")
	out, _ := cmd.CombinedOutput()
	if !strings.Contains(string(out), "NET_ADMIN") {
		t.Errorf("the error does not name the capability:\n%s", out)
	}
}

// TestMain is only a Probe in the process that TestProbeNamesThePrivilege starts, and
// a Victim in those that TestFaults starts. Otherwise it runs the tests and looks for
// goroutines that are left.
func TestMain(m *testing.M) {
	if os.Getenv("PROBE_WITHOUT_PRIVILEGE") == "1" {
		fmt.Println(New(Options{}).Probe(context.Background()))
		return
	}
	if _, ok := dataplanetest.VictimArgs(); ok {
		serveVictim()
		return
	}
	goleak.VerifyTestMain(m)
}

// Another layout, here one with another mark, is replaced.
func TestReplacesAnotherLayout(t *testing.T) {
	s := newSpace(t, "layout")
	table := everything()
	old := New(Options{Netns: int(s.Handle), Mark: 0x800})
	t.Cleanup(old.Close)
	sync(t, old, table)
	e := s.engine(t)
	if c := sync(t, e, table); !c.Rebuilt || c.Repaired {
		t.Errorf("got %+v", c)
	}
	listing := s.Pipe(t, "", "nft", "list", "ruleset")
	if strings.Contains(listing, "0x00000800") || !strings.Contains(listing, "0x00002000") {
		t.Error("the old rules are still there")
	}
	if c := sync(t, s.engine(t), table); !c.Empty() {
		t.Errorf("again: %+v", c)
	}
}

// Chains come with a new number of endpoints or a new timeout, and stay for the next
// Frontend that needs them.
func TestChainsComeAndStay(t *testing.T) {
	s := newSpace(t, "chains")
	e := s.engine(t)
	a := addressesOf(nftables.IP4.ID)
	chains := func() string {
		var names []string
		for line := range strings.Lines(s.Pipe(t, "", "nft", "list", "table", "ip", nftables.TableName)) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "chain lb-"); ok {
				names = append(names, strings.TrimSuffix(name, " {"))
			}
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	many := a.front(proxy.ClusterIP, "tcp")
	for i := range 40 {
		many.Cluster = append(many.Cluster, netip.AddrPortFrom(numbered(nftables.IP4.ID, 99, i), 80))
	}
	many.Empty = proxy.Forward
	sync(t, e, a.table())
	for _, step := range []struct {
		front *proxy.Frontend
		want  string
	}{
		{a.front(proxy.ClusterIP, "tcp", a.podA), "1"},
		{a.front(proxy.ClusterIP, "tcp", a.podA, a.podB), "1 2"},
		{sticky(a.front(proxy.ClusterIP, "tcp", a.podA), time.Minute), "1 1-sticky-60 2"},
		{sticky(a.front(proxy.ClusterIP, "tcp", a.podA, a.podB), time.Minute), "1 1-sticky-60 2 2-sticky-60"},
		{sticky(a.front(proxy.ClusterIP, "tcp", a.podA, a.podB), time.Hour), "1 1-sticky-60 2 2-sticky-3600 2-sticky-60"},
		{a.front(proxy.ClusterIP, "tcp", a.podA), "1 1-sticky-60 2 2-sticky-3600 2-sticky-60"},
		{many, "1 1-sticky-60 2 2-sticky-3600 2-sticky-60 45"},
		{a.front(proxy.ClusterIP, "tcp"), "1 1-sticky-60 2 2-sticky-3600 2-sticky-60 45"},
	} {
		table := a.table(step.front)
		if c := sync(t, e, table); c.Rebuilt {
			t.Errorf("%s: rebuilt", step.front)
		}
		if got := chains(); got != step.want {
			t.Errorf("%s: chains %q, want %q", step.front, got, step.want)
		}
		if c := sync(t, s.engine(t), table); !c.Empty() {
			t.Errorf("%s: a fresh engine had to write %+v", step.front, c)
		}
	}
}

// Somebody else's table of our name, with other types in sets of our names, is
// neither misread nor kept.
func TestForeignTableOfOurName(t *testing.T) {
	s := newSpace(t, "foreign")
	s.Pipe(t, `table ip fairlead {
		chain x { accept; }
		map frontends { type inet_service : verdict; elements = { 80 : goto x }; }
		map external { type ipv4_addr : verdict; elements = { 192.0.2.1 : drop }; }
		map ep-0 { type inet_service : inet_service; elements = { 80 : 81 }; }
		set hairpin { type ipv4_addr; elements = { 192.0.2.1 }; }
		set lbsr-allow { type inet_service; flags interval; elements = { 1-5 }; }
		chain lb-99999999 { accept; }
	}
	table ip6 fairlead {
	}`, "nft", "-f", "-")
	e := s.engine(t)
	if c := sync(t, e, everything()); !c.Rebuilt {
		t.Errorf("%+v", c)
	}
	if c := sync(t, s.engine(t), everything()); !c.Empty() {
		t.Errorf("%+v", c)
	}
}

// The engine leaves the other bits of a packet's mark alone, and lets its
// own not leave the node.
func TestMarkBit(t *testing.T) {
	l := newLab(t)
	a := addressesOf(nftables.IP4.ID)
	e := New(Options{Netns: int(l.node.Handle), Mark: 1 << 20})
	t.Cleanup(e.Close)
	f := a.front(proxy.VIP, "tcp", a.podA)
	sync(t, e, a.table(f))
	l.node.Pipe(t, `table ip marks {
		chain in { type filter hook prerouting priority -150; meta mark set 0x15; }
		chain out { type filter hook postrouting priority 200; meta mark 0x15 counter; meta mark != 0x15 counter; }
	}`, "nft", "-f", "-")
	l.client.wants(t, "tcp", a.address(f), "podA "+a.nodeOnA.String())
	listing := l.node.Run(t, "nft", "list", "chain", "ip", "marks", "out")
	if !strings.Contains(listing, "!= 0x00000015 counter packets 0") || strings.Contains(listing, "mark 0x00000015 counter packets 0") {
		t.Errorf("the mark that leaves:\n%s", listing)
	}
}
