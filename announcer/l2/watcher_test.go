package l2

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/watch"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// watchers are nodes a, b and x on one switch. a and b watch x.
type watchers struct {
	sw    nstest.Space
	space map[string]nstest.Space
	of    map[string]*Watcher
	mac   map[string]string
	stop  map[string]context.CancelFunc
}

var watchedNodes = []string{"a", "b", "x"}

// newWatchers makes them, with addresses by format: of "198.18.0.%d/24" the first is a's.
func newWatchers(t *testing.T, format string) *watchers {
	n := &watchers{sw: nstest.New(t, "switch"), space: map[string]nstest.Space{}, of: map[string]*Watcher{}, mac: map[string]string{}, stop: map[string]context.CancelFunc{}}
	n.sw.Run(t, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1") // or its ports speak
	n.sw.Run(t, "ip", "link", "add", "br0", "type", "bridge")
	n.sw.Run(t, "ip", "link", "set", "br0", "up")
	for i, name := range watchedNodes {
		s := nstest.New(t, name)
		n.space[name] = s
		n.sw.Run(t, "ip", "link", "add", "to-"+name, "type", "veth", "peer", "name", "eth0", "netns", s.Name)
		n.sw.Run(t, "ip", "link", "set", "to-"+name, "master", "br0", "up")
		s.Run(t, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
		s.Run(t, "ip", "addr", "add", fmt.Sprintf(format, i+1), "dev", "eth0")
		s.Run(t, "ip", "link", "set", "eth0", "up")
		l, err := s.Netlink(t).LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		n.mac[name] = l.Attrs().HardwareAddr.String()
	}
	for i, name := range watchedNodes {
		n.start(t, name, n.watching(t, i, format))
	}
	return n
}

// watching is what node i has to know.
func (n *watchers) watching(t *testing.T, i int, format string) announcer.Watching {
	name := watchedNodes[i]
	l, err := n.space[name].Netlink(t).LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	own := netip.MustParsePrefix(fmt.Sprintf(format, i+1))
	w := announcer.Watching{Nodes: map[string]string{}}
	w.Links = []snapshot.Link{{Name: "eth0", Index: l.Attrs().Index, MAC: n.mac[name], Prefixes: []netip.Prefix{own}}}
	for j, other := range watchedNodes {
		w.Nodes[n.mac[other]] = other
		if other == "x" && name != "x" {
			w.Ask = append(w.Ask, announcer.Question{Node: other, Link: "eth0", Far: "eth0", From: own.Addr(), To: netip.MustParsePrefix(fmt.Sprintf(format, j+1)).Addr(), MAC: n.mac[other]})
		}
	}
	return w
}

func (n *watchers) start(t *testing.T, name string, what announcer.Watching) {
	ctx, stop := context.WithCancel(context.Background())
	w := NewWatcher(signer(name), slog.New(slog.DiscardHandler))
	w.SetKeys(wordKeys)
	w.SetSigners(signersOf(watchedNodes...))
	w.Follow(what)
	n.of[name], n.stop[name] = w, stop
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.space[name].In(func() error { w.Run(ctx); return nil }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); wg.Wait() })
}

// says waits until a node calls exactly these lost: "x@eth0".
func (n *watchers) says(t *testing.T, who string, lost ...string) {
	t.Helper()
	nstest.Eventually(t, fmt.Sprintf("%s calls %v lost", who, lost), func() bool {
		var now []string
		for _, at := range n.of[who].Seen().Lost {
			now = append(now, at.Node+"@"+at.Link)
		}
		return slices.Equal(now, lost)
	})
}

// watched waits until a and b have had answers for long enough to miss them.
func (n *watchers) watched(t *testing.T) {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		nstest.Eventually(t, name+" has answers of x", func() bool { return n.answering(name) })
		n.turns(t, name, 80)
	}
}

func (n *watchers) answering(name string) bool {
	return slices.Contains(n.of[name].Seen().Answering, watch.Target{Node: "x", Link: "eth0"})
}

// turns waits until a node's thread has worked for so many intervals.
func (n *watchers) turns(t *testing.T, name string, intervals int) {
	t.Helper()
	last := func() time.Time {
		w := n.of[name]
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.at
	}
	for range intervals {
		was := last()
		nstest.Eventually(t, name+" works", func() bool { return last().Sub(was) >= watch.Interval })
	}
}

// TestHeirsAgreeThatANodeIsLost: the kernel answers, whatever its agent does, until its
// link is dead. Everybody is told, the node too when it is back.
func TestHeirsAgreeThatANodeIsLost(t *testing.T) {
	for _, format := range []string{"198.18.0.%d/24", "fd98:18::%d/64"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			n := newWatchers(t, format)
			n.watched(t)
			n.says(t, "a")
			n.sw.Run(t, "ip", "link", "set", "to-x", "down")
			began := time.Now()
			n.says(t, "a", "x@eth0")
			t.Log("lost after", time.Since(began))
			n.says(t, "b", "x@eth0")
			n.sw.Run(t, "ip", "link", "set", "to-x", "up")
			if strings.Contains(format, ":") {
				n.space["x"].Run(t, "ip", "addr", "replace", fmt.Sprintf(format, 3), "dev", "eth0", "nodad")
			}
			n.says(t, "x", "x@eth0") // it withdraws what others have now
			for _, name := range watchedNodes {
				n.says(t, name)
			}
		})
	}
}

// TestSwitchProvesNothing: at a port that forwards nothing a switch speaks of its spanning tree
// and of itself, and has frames of other links. A node that hears only these does not hear.
func TestSwitchProvesNothing(t *testing.T) {
	t.Parallel()
	const format = "198.18.0.%d/24"
	n := newWatchers(t, format)
	what := n.watching(t, 0, format)
	what.Listen = []string{"eth0"}
	n.of["a"].Follow(what)
	n.watched(t)
	n.sw.Pipe(t, "table bridge cut { chain deaf { type filter hook forward priority 0; oifname to-a drop; }; }", "nft", "-f", "-")
	nstest.Eventually(t, "a misses x", func() bool { return !n.answering("a") })
	n.turns(t, "a", 4)
	last := n.of["a"].HeardAt("eth0")
	port := n.port(t, "to-a")
	say := func(head string) {
		t.Helper()
		frame, err := hex.DecodeString(head)
		if err != nil {
			t.Fatal(err)
		}
		frame = append(frame, make([]byte, 46)...)
		if _, err := port.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
			t.Fatal(err)
		}
	}
	const from = "020000000099"
	for what, head := range map[string]string{
		"spanning tree":               "0180c2000000" + from + "0026" + "424203",
		"LLDP":                        "0180c200000e" + from + "88cc",
		"Cisco's spanning tree":       "01000ccccccd" + from + "0032" + "aaaa03",
		"ARP of a VLAN":               "ffffffffffff" + from + "81000005" + "0806",
		"IPv6 of a VLAN in a VLAN":    "333300000001" + from + "88a80006" + "81000005" + "86dd",
		"a frame to somebody else":    "020000000077" + from + "0800",
		"a frame that a itself sends": "ffffffffffff" + strings.ReplaceAll(n.mac["a"], ":", "") + "0806",
	} {
		say(head)
		n.turns(t, "a", 4)
		if at := n.of["a"].HeardAt("eth0"); !at.Equal(last) {
			t.Errorf("%s: a takes it for a host that it hears", what)
			last = at
		}
	}
	say("ffffffffffff" + from + "81000000" + "0806") // VLAN 0 is a priority, and no VLAN
	nstest.Eventually(t, "a hears a host", func() bool { return n.of["a"].HeardAt("eth0").After(last) })
}

// port is where the switch itself can send on a port.
func (n *watchers) port(t *testing.T, name string) (conn *packet.Conn) {
	t.Helper()
	n.sw.Do(t, func() error {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		conn, err = packet.Listen(ifi, packet.Raw, etherWord, nil)
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestLinkIsListenedOnFirst: what waits for proof on a link waits until the link is listened
// on. One that cannot be listened on proves nothing, and keeps nobody waiting.
func TestLinkIsListenedOnFirst(t *testing.T) {
	w := NewWatcher(nil, slog.New(slog.DiscardHandler))
	run := &thread{Watcher: w, ports: map[string]*watchPort{}, failed: map[string]string{}}
	now := func() bool { return time.Since(w.HeardAt("eth0")) < time.Minute }
	if !now() {
		t.Error("nothing is watched, and what is taken waits")
	}
	link := snapshot.Link{Name: "eth0", Index: 1 << 20, MAC: "02:00:00:00:00:01"}
	for _, first := range []string{"it starts", "its only link comes back"} {
		w.Follow(announcer.Watching{Links: []snapshot.Link{link}})
		if at := w.HeardAt("eth0"); !at.IsZero() {
			t.Errorf("%s: somebody was heard at %v on a link without a socket", first, at)
		}
		run.follow()
		run.tell(time.Now())
		if !now() {
			t.Errorf("%s: the link cannot be listened on, and what is taken waits", first)
		}
		w.Follow(announcer.Watching{})
		run.follow()
		run.tell(time.Now())
	}
}

// TestDeafNodeLosesNobody: node a sends and does not hear. Its own silence must not make it
// take what others have.
func TestDeafNodeLosesNobody(t *testing.T) {
	t.Parallel()
	n := newWatchers(t, "198.18.0.%d/24")
	n.watched(t)
	n.sw.Pipe(t, "table bridge cut { chain deaf { type filter hook forward priority 0; oifname to-a drop; }; }", "nft", "-f", "-")
	nstest.Eventually(t, "a misses x", func() bool { return !n.answering("a") })
	for range 50 {
		n.turns(t, "a", 1)
		if seen := n.of["a"].Seen(); len(seen.Lost) > 0 {
			t.Fatalf("a deaf node found %+v", seen)
		}
	}
	if !n.answering("b") || len(n.of["b"].Seen().Lost) > 0 {
		t.Errorf("b, which hears, found %+v", n.of["b"].Seen())
	}
}
