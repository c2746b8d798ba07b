package udp_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bfd"
	"github.com/fairlead/fairlead/announcer/bfd/udp"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// node is a Speaker in a namespace.
type node struct {
	*udp.Speaker
	stop func()
}

func start(t *testing.T, ns nstest.Space, changed func(udp.Status)) *node {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	if changed == nil {
		changed = func(udp.Status) {}
	}
	n := &node{Speaker: udp.New(slog.New(slog.DiscardHandler), changed)}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := ns.In(func() error { return n.Run(ctx) }); err != nil {
			t.Error(err)
		}
	})
	n.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(n.stop)
	return n
}

func (n *node) state() bfd.State {
	if all := n.Status(); len(all) > 0 {
		return all[0].State
	}
	return bfd.Down
}

func (n *node) await(t *testing.T, want bfd.State) {
	t.Helper()
	routertest.Within(t, "our session is "+want.String(), func() bool { return n.state() == want })
}

// link is one way to reach the router.
type link struct {
	ours, theirs string
	multihop     bool
}

var links = map[string]link{
	"IPv4":           {"198.18.7.1", "198.18.7.2", false},
	"IPv6":           {"fd98:7::1", "fd98:7::2", false},
	"IPv4, multihop": {"198.18.8.1", "198.18.8.2", true},
	"IPv6, multihop": {"fd98:8::1", "fd98:8::2", true},
}

// wired is a node and a router on one wire, each with addresses of its own
// beside those of the wire for sessions over several hops.
func wired(t *testing.T) (node, router nstest.Space) {
	t.Helper()
	node, router = nstest.New(t, "node"), nstest.New(t, "router")
	nstest.Wire(t, node, router, "198.18.7.1/24", "198.18.7.2/24")
	for space, n := range map[*nstest.Space]string{&node: "1", &router: "2"} {
		other := map[string]string{"1": "2", "2": "1"}[n]
		space.Run(t, "ip", "addr", "add", "fd98:7::"+n+"/64", "dev", "eth0", "nodad")
		space.Run(t, "ip", "addr", "add", "198.18.8."+n+"/32", "dev", "lo")
		space.Run(t, "ip", "addr", "add", "fd98:8::"+n+"/128", "dev", "lo")
		space.Run(t, "ip", "route", "add", "198.18.8."+other+"/32", "via", "198.18.7."+other)
		space.Run(t, "ip", "route", "add", "fd98:8::"+other+"/128", "via", "fd98:7::"+other)
	}
	return node, router
}

// timers are long enough for a machine that does other things.
var timers = bfd.Config{MinTx: 100 * time.Millisecond, MinRx: 100 * time.Millisecond, Multiplier: 5}

func (l link) peer() udp.Peer {
	p := udp.Peer{Addr: netip.MustParseAddr(l.theirs), Multihop: l.multihop, Config: timers}
	if l.multihop {
		p.Source = netip.MustParseAddr(l.ours)
	}
	return p
}

// TestFRR: bfdd and we agree over every kind of path, follow each other's
// timers, and each hears that the other goes.
func TestFRR(t *testing.T) {
	nodeSpace, routerSpace := wired(t)
	var conf strings.Builder
	conf.WriteString("bfd\n")
	for _, l := range links {
		kind := " local-address " + l.theirs + " interface eth0"
		if l.multihop {
			kind = " multihop local-address " + l.theirs
		}
		fmt.Fprintf(&conf, " peer %s%s\n  detect-multiplier 5\n  receive-interval 100\n  transmit-interval 100\n  no shutdown\n exit\n", l.ours, kind)
	}
	frr := routertest.StartFRR(t, routerSpace, map[string]string{"bfdd": conf.String()})
	n := start(t, nodeSpace, nil)
	var peers []udp.Peer
	for _, l := range links {
		peers = append(peers, l.peer())
	}
	n.Sync(peers)
	all := func(want string) func() bool {
		return func() bool {
			return strings.Count(frr.Show(t, "bfdd", "show bfd peers"), "Status: "+want) == len(links)
		}
	}
	routertest.Within(t, "FRR: four sessions up", all("up"))
	routertest.Within(t, "ours: 500 ms of detection time each", func() bool { return everyDetection(n, 500*time.Millisecond) })
	for i := range peers {
		peers[i].MinTx, peers[i].MinRx = 300*time.Millisecond, 300*time.Millisecond
	}
	n.Sync(peers)
	routertest.Within(t, "ours: slower by a poll", func() bool { return everyDetection(n, 1500*time.Millisecond) })
	n.Sync(nil)
	routertest.Within(t, "FRR: down", all("down"))
	if out := frr.Show(t, "bfdd", "show bfd peers"); strings.Count(out, "Remote diagnostics: administratively down") != len(links) {
		t.Errorf("FRR did not hear that we go:\n%s", out)
	}
}

func everyDetection(n *node, want time.Duration) bool {
	all := n.Status()
	for _, s := range all {
		if s.State != bfd.Up || s.Detection != want {
			return false
		}
	}
	return len(all) == len(links)
}

func TestBIRD(t *testing.T) {
	nodeSpace, routerSpace := wired(t)
	var conf strings.Builder
	conf.WriteString("router id 198.18.7.2;\nprotocol device {}\nprotocol bfd {\n interface \"eth0\" { interval 100 ms; multiplier 5; };\n multihop { interval 100 ms; multiplier 5; };\n")
	for _, l := range links {
		kind := ""
		if l.multihop {
			kind = " local " + l.theirs + " multihop on"
		} else {
			kind = ` dev "eth0"`
		}
		fmt.Fprintf(&conf, " neighbor %s%s;\n", l.ours, kind)
	}
	conf.WriteString("}\n")
	bird := routertest.StartBIRD(t, routerSpace, conf.String())
	n := start(t, nodeSpace, nil)
	var peers []udp.Peer
	for _, l := range links {
		peers = append(peers, l.peer())
	}
	n.Sync(peers)
	routertest.Within(t, "BIRD: four sessions up", func() bool { return strings.Count(bird.Show(t, "show bfd sessions"), " Up ") == len(links) })
	routertest.Within(t, "ours: up", func() bool { return everyDetection(n, 500*time.Millisecond) })
	routerSpace.Run(t, "ip", "link", "set", "eth0", "down")
	n.await(t, bfd.Down)
	if s := n.Status()[0]; s.Flaps != 1 {
		t.Errorf("the flap was counted %d times", s.Flaps)
	}
}

// TestTwoOfOurs: a frozen or vanished neighbour is noticed within the detection
// time; packets from more than a hop away are not believed.
func TestTwoOfOurs(t *testing.T) {
	a, b := wired(t)
	na, nb := start(t, a, nil), start(t, b, nil)
	l := links["IPv4"]
	na.Sync([]udp.Peer{l.peer()})
	back := l
	back.ours, back.theirs = l.theirs, l.ours
	nb.Sync([]udp.Peer{back.peer()})
	na.await(t, bfd.Up)
	nb.await(t, bfd.Up)
	b.Run(t, "ip", "link", "set", "eth0", "down")
	na.await(t, bfd.Down)
	b.Run(t, "ip", "link", "set", "eth0", "up")
	na.await(t, bfd.Up)
	b.Run(t, "nft", "add table ip far; add chain ip far out { type filter hook output priority 0; }; add rule ip far out udp dport 3784 ip ttl set 254")
	na.await(t, bfd.Down)
	b.Run(t, "nft", "delete table ip far")
	na.await(t, bfd.Up)
	nb.stop()
	na.await(t, bfd.Down)
	if s := na.Status()[0]; s.Remote != bfd.AdminDown || s.Diag != bfd.NeighborDown {
		t.Errorf("a neighbour that goes away looks like %s, %s", s.Remote, s.Diag)
	}
}

// TestOtherLink: a pod that speaks with the router's address is not believed, because
// its packets come by another link.
func TestOtherLink(t *testing.T) {
	node, router := wired(t)
	pod := nstest.New(t, "pod")
	node.Run(t, "ip", "link", "add", "pod0", "type", "veth", "peer", "name", "eth0", "netns", pod.Name)
	node.Run(t, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.pod0.rp_filter=2")
	node.Run(t, "ip", "link", "set", "pod0", "up")
	node.Run(t, "ip", "addr", "add", "198.18.9.1/32", "dev", "pod0")
	pod.Run(t, "ip", "link", "set", "eth0", "up")
	pod.Run(t, "ip", "addr", "add", "198.18.7.2/24", "dev", "eth0")
	mac := strings.TrimSpace(node.Run(t, "cat", "/sys/class/net/pod0/address"))
	pod.Run(t, "ip", "neigh", "add", "198.18.7.1", "lladdr", mac, "dev", "eth0")
	node.Run(t, "nft", "add table ip seen; add chain ip seen in { type filter hook input priority 0; }; add rule ip seen in iifname pod0 udp dport 3784 counter")
	l := links["IPv4"]
	peer, back := l.peer(), l
	peer.Links = []string{"eth0"}
	back.ours, back.theirs = l.theirs, l.ours
	var mu sync.Mutex
	var states []bfd.State
	n := start(t, node, func(st udp.Status) { mu.Lock(); defer mu.Unlock(); states = append(states, st.State) })
	n.Sync([]udp.Peer{peer})
	start(t, pod, nil).Sync([]udp.Peer{back.peer()})
	seen := func(least int) func() bool {
		return func() bool {
			_, after, _ := strings.Cut(node.Run(t, "nft", "list", "table", "ip", "seen"), "packets ")
			count, _, _ := strings.Cut(after, " ")
			have, _ := strconv.Atoi(count)
			return have >= least
		}
	}
	routertest.Within(t, "the pod has spoken", seen(2))
	if n.state() != bfd.Down {
		t.Errorf("the pod made the session %s", n.state())
	}
	start(t, router, nil).Sync([]udp.Peer{back.peer()})
	n.await(t, bfd.Up)
	routertest.Within(t, "the pod has spoken again", seen(3))
	mu.Lock()
	defer mu.Unlock()
	if last := len(states) - 1; len(states) > 2 || states[last] != bfd.Up {
		t.Errorf("the session was %v", states)
	}
}
