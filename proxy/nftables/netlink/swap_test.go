package netlink

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/earlier"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// later makes the table in the kernel one of a later version: with another name
// for the version, another rule, a set and a chain more, one chain less, and a
// map of another type.
func later(t *testing.T, s space, family string) {
	t.Helper()
	s.Pipe(t, strings.NewReplacer("FAMILY", family, "VERSION", nftables.VersionChain()).Replace(`
		add chain FAMILY fairlead layout-99
		delete chain FAMILY fairlead VERSION
		add set FAMILY fairlead later { type inet_service; elements = { 80 }; }
		add chain FAMILY fairlead later { type filter hook prerouting priority -50; }
		add rule FAMILY fairlead later th dport @later counter
		flush chain FAMILY fairlead sources-output
		flush chain FAMILY fairlead source-ranges
		delete chain FAMILY fairlead sources-output
		delete set FAMILY fairlead lbsr-vips
		add set FAMILY fairlead lbsr-vips { type inet_service; elements = { 80 }; }
	`), "nft", "-f", "-")
}

// syncV010 has the engine of v0.1.0 make the kernel hold table.
func syncV010(t *testing.T, s space, table *proxy.Table) {
	t.Helper()
	data, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	netns, err := os.Open("/run/netns/" + s.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Close()
	const firstExtra = "3"
	cmd := exec.Command(earlier.Program(t), "sync", firstExtra)
	cmd.Stdin, cmd.ExtraFiles = bytes.NewReader(data), []*os.File{netns}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("v0.1.0: %v: %s", err, out)
	}
}

// olderVersions are those whose tables for oldTable are in testdata: that of version
// 0.1.0, and the one before this.
var olderVersions = []int{2, 3}

// oldTable is what the tables in testdata hold.
func oldTable(a addressing) *proxy.Table {
	return a.table(a.front(proxy.VIP, "tcp", a.podA, a.podB, a.remote),
		sticky(a.front(proxy.VIP, "udp", a.podA, a.podB, a.remote), time.Hour),
		sticky(a.front(proxy.NodePort, "tcp", a.podA, a.podB), time.Hour))
}

// older makes the table in the kernel, which holds oldTable, that of an older version,
// in one transaction and as that version does: sets of the same type stay.
func older(t *testing.T, s space, family string, version int) {
	t.Helper()
	old, err := os.ReadFile(fmt.Sprintf("testdata/layout-%d-%s.nft", version, family))
	if err != nil {
		t.Fatal(err)
	}
	// Of three endpoints, as if that version had other chains for them: then the verdicts
	// of the Service change with the rules.
	old = regexp.MustCompile(`((?:goto|chain) lb-3)([ ,])`).ReplaceAll(old, []byte("${1}3$2"))
	s.Pipe(t, strings.ReplaceAll(`
		add chain FAMILY fairlead lb-33
		add rule FAMILY fairlead lb-33 numgen random mod 3 vmap { 0 : goto s-0, 1 : goto s-1, 2 : goto s-2 }
	`, "FAMILY", family), "nft", "-f", "-")
	var script strings.Builder
	fmt.Fprintf(&script, "flush table %s fairlead\nflush map %s fairlead frontends\n", family, family)
	want := objects(string(old))
	for name, typ := range objects(s.Run(t, "nft", "-s", "list", "table", family, nftables.TableName)) {
		if want[name] != typ {
			kind, name, _ := strings.Cut(name, " ")
			fmt.Fprintf(&script, "delete %s %s fairlead %s\n", kind, family, name)
		}
	}
	script.Write(old)
	s.Pipe(t, script.String(), "nft", "-f", "-")
}

// objects returns the types of the sets, maps and chains in a listing, by kind and name.
func objects(listing string) map[string]string {
	out, name := map[string]string{}, ""
	for line := range strings.Lines(listing) {
		words := strings.Fields(line)
		switch {
		case len(words) == 3 && words[2] == "{" && words[0] != "table":
			name = words[0] + " " + words[1]
			out[name] = ""
		case len(words) > 0 && words[0] == "type":
			out[name] = strings.TrimSpace(line)
		}
	}
	return out
}

// A table of another version is swapped: the rules are ours, what the maps hold
// stays, and with it who is remembered by affinity; connections live on.
func TestSwapKeepsTheMaps(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			f := sticky(a.front(proxy.VIP, "tcp", a.podA, a.podB, a.remote), time.Hour)
			table := a.table(f, a.front(proxy.NodePort, "tcp", a.podA))
			sync(t, l.engine, table)
			first := l.client.ask("tcp", a.address(f))
			c, err := l.client.dial("tcp", a.address(f), netip.AddrPort{}, patient)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			listing := l.node.Run(t, "nft", "-s", "list", "table", familyName(a), nftables.TableName)
			still := func(when string) {
				t.Helper()
				for range 10 {
					if got := l.client.ask("tcp", a.address(f)); got != first {
						t.Fatalf("%s: the client moved from %q to %q", when, first, got)
					}
				}
				if got, err := say(c, patient); err != nil || got != first {
					t.Errorf("%s: the open connection: %q, %v", when, got, err)
				}
				if n := affinityElements(t, l); n != 1 {
					t.Errorf("%s: %d clients remembered", when, n)
				}
			}
			swapped := func(when string, e *Engine) {
				t.Helper()
				// Nothing is written but what the other version did not have.
				if ch := sync(t, e, table); !ch.Rebuilt || ch.Added > 0 || ch.Deleted > 0 {
					t.Errorf("%s: %+v", when, ch)
				}
				still(when)
			}
			other := New(Options{Netns: int(l.node.Handle), Mark: 0x1000})
			defer other.Close()
			swapped("another mark", other)
			swapped("our mark", l.node.engine(t))
			later(t, l.node, familyName(a))
			swapped("a later version", l.node.engine(t))
			got := l.node.Run(t, "nft", "-s", "list", "table", familyName(a), nftables.TableName)
			if sorted(got) != sorted(listing) {
				t.Errorf("not as it was: %s", firstDifference(listing, got))
			}
			later(t, l.node, familyName(a)) // under the eyes of an agent that runs
			swapped("changed by somebody else", l.engine)
		})
	}
}

// Somebody else's objects in our table go, also where one leads to the other.
func TestSwapTakesOutForeignObjects(t *testing.T) {
	l := newLab(t)
	a := addressesOf(nftables.IP4.ID)
	f := a.front(proxy.VIP, "tcp", a.podA)
	sync(t, l.engine, a.table(f))
	l.node.Pipe(t, `
		add chain ip fairlead x
		add map ip fairlead y { type ipv4_addr : verdict; flags dynamic; elements = { 192.0.2.1 : goto x }; }
		flush chain ip fairlead refuse
	`, "nft", "-f", "-")
	if c := sync(t, l.engine, a.table(f)); !c.Rebuilt || !c.Repaired {
		t.Errorf("%+v", c)
	}
	l.client.wants(t, "tcp", a.address(f), "podA "+a.nodeOnA.String())
	if c := sync(t, l.node.engine(t), a.table(f)); !c.Empty() {
		t.Errorf("again: %+v", c)
	}
	// If a kernel refuses that, the last attempt of a Sync replaces the table as a whole.
	l.node.Pipe(t, "flush chain ip fairlead refuse\n", "nft", "-f", "-")
	if c, err := l.node.engine(t).sync(t.Context(), a.table(f), true); err != nil || !c.Rebuilt || c.Added == 0 {
		t.Errorf("replaced: %+v, %v", c, err)
	}
	l.client.wants(t, "tcp", a.address(f), "podA "+a.nodeOnA.String())
}

// What the rules of an older layout look up stays until a transaction after the swap: a
// packet that is still in them finds its Service.
func TestSwapLeavesWhatOldRulesLookUp(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		table := oldTable(a)
		for _, version := range olderVersions {
			t.Run(fmt.Sprintf("%s, layout %d", family, version), func(t *testing.T) {
				sync(t, l.engine, table)
				older(t, l.node, familyName(a), version)
				kernel, err := l.node.engine(t).Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				_, patches := nftables.Adopt(kernel, table, nftables.DefaultMark, false)
				later := 0
				for _, p := range patches {
					if main := p.Main(); len(main.DelSets)+len(main.DelChains) > 0 {
						t.Errorf("go with the swap: sets %q, chains %q", main.DelSets, main.DelChains)
					}
					later += len(p.Steps[nftables.Late].DelChains)
				}
				if later == 0 {
					t.Error("nothing goes after the swap")
				}
			})
		}
	}
}

// An agent of one version starts beside the table of another, up and down again,
// while clients connect: no connection is refused or fails, and a client that is
// remembered stays with its endpoint.
func TestSwapUnderLoad(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			table := oldTable(a)
			sync(t, l.engine, table)
			kept := a.address(table.Frontends[1])
			first := l.client.ask("udp", kept)
			steps := []func(){
				func() {
					other := New(Options{Netns: int(l.node.Handle), Mark: 0x1000})
					sync(t, other, table)
					other.Close()
				},
				func() { later(t, l.node, familyName(a)) },
			}
			for _, v := range olderVersions {
				steps = append(steps, func() { older(t, l.node, familyName(a), v) })
			}
			swaps := 0
			load := stream{from: l.client, to: a.address(table.Frontends[0]), workers: 8, rate: 500}
			unharmed(t, load.during(func() {
				for end := time.Now().Add(2 * time.Second); time.Now().Before(end) || swaps < 2*len(steps); swaps++ {
					steps[swaps%len(steps)]()
					if ch := sync(t, l.node.engine(t), table); !ch.Rebuilt {
						t.Errorf("step %d: %+v", swaps%len(steps), ch)
					}
					if got := l.client.ask("udp", kept); got != first {
						t.Errorf("step %d: the client moved from %q to %q", swaps%len(steps), first, got)
					}
				}
			}))
			t.Logf("%d swaps", swaps)
			sync(t, l.engine, a.table())
		})
	}
}

// The agent of v0.1.0 is upgraded, downgraded and upgraded again while clients connect.
// No connection is refused or fails, and who is remembered by affinity stays.
func TestSwapWithV010UnderLoad(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			f := a.front(proxy.VIP, "tcp", a.podA, a.podB, a.remote)
			stays := sticky(a.front(proxy.ClusterIP, "tcp", a.podA, a.podB), time.Hour)
			table := a.table(stays, f, a.front(proxy.NodePort, "tcp", a.podA, a.podB))
			syncV010(t, l.node, table)
			open := l.stays(t, a.address(f))
			first := l.client.ask("tcp", a.address(stays))
			swaps := 0
			load := stream{from: l.client, to: a.address(f), workers: 8, rate: 500}
			unharmed(t, load.during(func() {
				for end := time.Now().Add(time.Second); time.Now().Before(end); swaps++ {
					if swaps%2 == 0 {
						if ch := sync(t, l.node.engine(t), table); !ch.Rebuilt || ch.Deleted > 0 {
							t.Errorf("from v0.1.0: %+v", ch)
						}
					} else {
						syncV010(t, l.node, table)
					}
					open(t)
					if got := l.client.ask("tcp", a.address(stays)); got != first {
						t.Errorf("after %d swaps the client moved from %q to %q", swaps+1, first, got)
					}
				}
			}))
			if c := sync(t, l.node.engine(t), table); c.Deleted > 0 {
				t.Errorf("at last: %+v", c)
			}
			if c := sync(t, l.node.engine(t), table); !c.Empty() {
				t.Errorf("once more: %+v", c)
			}
			t.Logf("%d swaps", swaps)
		})
	}
}
