package agent

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/marks"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/sysctl"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

// twoNetworks is a node with two networks, each with a router of its own. The default route
// leads to router A. A client is behind router B, to which both routers know the way:
//
//	         198.18.0.0/24 ---- router A ----.
//	node ---<                                 >--- client
//	         198.18.3.0/24 ---- router B ----'
//
// and the same in fd98:18::/32. Router A counts and drops what goes to the client, as a
// firewall does that saw no connection. One pod is the node's, the other one stands for
// that of another node.
type twoNetworks struct {
	node, a, b, client, pod, remote nstest.Space
	engine                          *nftables.Engine
	ways                            *ways
}

// at returns an address in a network of twoNetworks.
func at(f snapshot.Family, network, host int) netip.Addr {
	if f == snapshot.IPv4 {
		return netip.AddrFrom4([4]byte{198, 18, byte(network), byte(host)})
	}
	return netip.MustParseAddr(fmt.Sprintf("fd98:18:%x::%x", network, host))
}

var bothFamilies = []snapshot.Family{snapshot.IPv4, snapshot.IPv6}

func newTwoNetworks(t *testing.T) *twoNetworks {
	w := &twoNetworks{}
	for _, s := range []struct {
		space *nstest.Space
		name  string
	}{{&w.node, "node"}, {&w.a, "a"}, {&w.b, "b"}, {&w.client, "client"}, {&w.pod, "pod"}, {&w.remote, "remote"}} {
		*s.space = nstest.New(t, s.name)
		s.space.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0",
			"net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
	}
	join := func(network int, one nstest.Space, linkOne string, hostOne int, other nstest.Space, linkOther string, hostOther int) {
		one.Run(t, "ip", "link", "add", linkOne, "type", "veth", "peer", "name", linkOther, "netns", other.Name)
		for _, f := range bothFamilies {
			bits := map[snapshot.Family]string{snapshot.IPv4: "/24", snapshot.IPv6: "/64"}[f]
			one.Run(t, "ip", "addr", "add", at(f, network, hostOne).String()+bits, "dev", linkOne)
			other.Run(t, "ip", "addr", "add", at(f, network, hostOther).String()+bits, "dev", linkOther)
		}
		one.Run(t, "ip", "link", "set", linkOne, "up")
		other.Run(t, "ip", "link", "set", linkOther, "up")
	}
	join(0, w.node, "eth0", 11, w.a, "node", 254)
	join(3, w.node, "eth1", 11, w.b, "node", 254)
	join(1, w.node, "pod", 1, w.pod, "eth0", 2)
	join(2, w.node, "remote", 1, w.remote, "eth0", 2)
	join(5, w.b, "client", 254, w.client, "eth0", 2)
	join(7, w.a, "tob", 1, w.b, "toa", 2)
	for _, f := range bothFamilies {
		vip, clients := at(f, 3, 200).String(), netip.PrefixFrom(at(f, 5, 0), map[snapshot.Family]int{snapshot.IPv4: 24, snapshot.IPv6: 64}[f]).String()
		w.node.Run(t, "ip", "route", "add", "default", "via", at(f, 0, 254).String(), "metric", "100")
		w.pod.Run(t, "ip", "route", "add", "default", "via", at(f, 1, 1).String())
		w.remote.Run(t, "ip", "route", "add", "default", "via", at(f, 2, 1).String())
		w.client.Run(t, "ip", "route", "add", "default", "via", at(f, 5, 254).String())
		w.a.Run(t, "ip", "route", "add", clients, "via", at(f, 7, 2).String())
		w.a.Run(t, "ip", "route", "add", vip, "via", at(f, 0, 11).String())
		w.b.Run(t, "ip", "route", "add", vip, "via", at(f, 3, 11).String()) // as ARP and NDP would say
		family := map[snapshot.Family]string{snapshot.IPv4: "ip", snapshot.IPv6: "ip6"}[f]
		w.a.Pipe(t, fmt.Sprintf("add table %[1]s strict\nadd chain %[1]s strict f { type filter hook forward priority 0; }\nadd rule %[1]s strict f %[1]s daddr %[2]s counter drop", family, clients), "nft", "-f", "-")
	}
	serveAll(t, w.pod, "pod", "8080")
	serveAll(t, w.remote, "remote", "8080")
	serveAll(t, w.node, "host", "8080")
	w.engine = nftables.New(nftables.Options{Netns: int(w.node.Handle), Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(w.engine.Close)
	w.ways = newWays(marks.Links(0x2000), slog.New(slog.DiscardHandler), func() []link.Way { return w.state(t).Ways }, func() {})
	return w
}

// router gives the node a route to router B, which the kernel does not prefer.
func (w *twoNetworks) router(t *testing.T) {
	t.Helper()
	for _, f := range bothFamilies {
		w.node.Run(t, "ip", "route", "add", "default", "via", at(f, 3, 254).String(), "metric", "5000")
	}
}

// state is what the agent reads of the node's links: those to pods are not uplinks.
func (w *twoNetworks) state(t *testing.T) (out link.State) {
	t.Helper()
	w.node.Do(t, func() (err error) {
		out, err = link.Read()
		return err
	})
	return out
}

// sync has the node hold what the agent would.
func (w *twoNetworks) sync(t *testing.T) {
	t.Helper()
	w.node.Do(t, w.ways.step)
	table := w.table()
	table.Ways = w.ways.Numbered()
	if _, err := w.engine.Sync(t.Context(), table); err != nil {
		t.Fatal(err)
	}
}

// The ports of the VIP, by who serves them. One has policy Local.
const (
	toPod    = 80
	toRemote = 81
	toHost   = 82
	toLocal  = 83
	toNobody = 84
)

func (w *twoNetworks) table() *proxy.Table {
	t := &proxy.Table{}
	for _, f := range bothFamilies {
		t.NodePortAddrs = append(t.NodePortAddrs, at(f, 3, 11))
		t.LocalPods = append(t.LocalPods, netip.PrefixFrom(at(f, 1, 2), at(f, 1, 2).BitLen()))
		for _, p := range []snapshot.Protocol{snapshot.TCP, snapshot.UDP} {
			t.Hairpin = append(t.Hairpin, proxy.Target{Protocol: p, Addr: netip.AddrPortFrom(at(f, 1, 2), 8080)})
			for port, ep := range map[uint16]netip.Addr{toPod: at(f, 1, 2), toRemote: at(f, 2, 2), toHost: at(f, 0, 11), toLocal: at(f, 1, 2)} {
				front := &proxy.Frontend{
					Key:     proxy.Key{Kind: proxy.VIP, Family: f, Addr: at(f, 3, 200), Protocol: p, Port: port},
					Cluster: []netip.AddrPort{netip.AddrPortFrom(ep, 8080)},
				}
				if port == toLocal {
					front.LocalOnly, front.Local = true, front.Cluster
				}
				t.Frontends = append(t.Frontends, front)
			}
			t.Frontends = append(t.Frontends, &proxy.Frontend{
				Key:     proxy.Key{Kind: proxy.NodePort, Family: f, Protocol: p, Port: 30080},
				Cluster: []netip.AddrPort{netip.AddrPortFrom(at(f, 1, 2), 8080)},
			})
		}
	}
	slices.SortFunc(t.Frontends, func(a, b *proxy.Frontend) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(t.Hairpin, proxy.Target.Compare)
	return t
}

// strayed is how many packets to the client router A dropped.
func (w *twoNetworks) strayed(t *testing.T) (out []string) {
	t.Helper()
	for line := range strings.Lines(w.a.Run(t, "nft", "list", "ruleset")) {
		if strings.Contains(line, "counter") && !strings.Contains(line, "packets 0 ") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// Answers leave by the link, and its router, on which the connection came in, wherever the
// endpoint is. What others ask is answered as before.
func TestAnswersLeaveAsTheyCame(t *testing.T) {
	w := newTwoNetworks(t)
	w.router(t)
	w.sync(t)
	w.ask(t)
	if got := w.strayed(t); got != nil {
		t.Errorf("answers left by router A: %v", got)
	}
	if out := w.node.Run(t, "nft", "list", "ruleset"); !strings.Contains(out, "way-") {
		t.Error("the ruleset has no ways")
	}
	// A new agent finds what there is, and the numbers stay.
	was := w.ways.Numbered()
	w.ways = newWays(marks.Links(0x2000), slog.New(slog.DiscardHandler), w.ways.links, func() {})
	w.sync(t)
	if now := w.ways.Numbered(); fmt.Sprint(now) != fmt.Sprint(was) {
		t.Errorf("after a restart the links have the numbers %v, not %v", now, was)
	}
	// The rules and routes go with fairlead.
	w.node.Do(t, w.ways.end)
	for _, family := range []string{"-4", "-6"} {
		if out := w.node.Run(t, "ip", family, "rule"); strings.Contains(out, "fwmark") {
			t.Errorf("left behind: %s", out)
		}
	}
}

// ask asks the node in every way.
func (w *twoNetworks) ask(t *testing.T) {
	t.Helper()
	for _, f := range bothFamilies {
		vip := at(f, 3, 200)
		for _, network := range []string{"tcp", "udp"} {
			for port, want := range map[uint16]string{toPod: "pod", toRemote: "remote", toHost: "host", toLocal: "pod", toNobody: "refused"} {
				if network == "udp" && port == toNobody {
					continue // the refusal is an ICMP error, which is of no connection
				}
				for _, from := range []nstest.Space{w.client, w.b, w.a, w.node, w.pod} {
					// A server over UDP answers with the address of the link that it answers by.
					if from == w.a && port != toPod || network == "udp" && port == toHost && from != w.client {
						continue
					}
					if got := ask(from, network, netip.AddrPortFrom(vip, port)); got != want {
						t.Errorf("%s over %s from %s to port %d: %q, want %q", network, f, from.Name, port, got, want)
					}
				}
			}
			if got := ask(w.client, network, netip.AddrPortFrom(at(f, 3, 11), 30080)); got != "pod" {
				t.Errorf("%s over %s to a node port: %q", network, f, got)
			}
		}
		w.client.Run(t, "ping", "-c1", "-W5", vip.String())
	}
}

// Without the routes of answers, nothing comes back. This is how it was.
func TestAnswersLeaveByTheDefaultRoute(t *testing.T) {
	w := newTwoNetworks(t)
	if _, err := w.engine.Sync(t.Context(), w.table()); err != nil {
		t.Fatal(err)
	}
	for _, f := range bothFamilies {
		if out, err := w.client.Try("ping", "-c1", "-W1", at(f, 3, 200).String()); err == nil {
			t.Errorf("an answer: %s", out)
		}
	}
	nstest.Eventually(t, "router A drops answers of both families", func() bool { return len(w.strayed(t)) == 2 })
}

// Without a router on the link there is no way for answers, which the NodeState says. Who is
// on the link itself is answered there.
func TestNoRouter(t *testing.T) {
	w := newTwoNetworks(t)
	w.sync(t)
	held := []announcer.Claim{{Addr: at(snapshot.IPv4, 3, 200), Link: "eth1"}, {Addr: at(snapshot.IPv6, 3, 200), Link: "eth1"}}
	c := w.ways.condition(held)
	if len(c) != 1 || c[0].Reason != "Unknown" || !strings.Contains(c[0].Message, "eth1 (IPv4), eth1 (IPv6)") {
		t.Errorf("the condition is %+v", c)
	}
	for _, f := range bothFamilies {
		if got := ask(w.b, "tcp", netip.AddrPortFrom(at(f, 3, 200), toPod)); got != "pod" {
			t.Errorf("a neighbour is answered with %q", got)
		}
	}
	w.router(t)
	w.sync(t)
	// The links to pods have no router, as a CNI's bridge has none, and no addresses.
	if c := w.ways.condition(held); len(c) != 1 || c[0].Reason != "Known" {
		t.Errorf("with a router the condition is %+v", c)
	}
}

// A strict reverse path filter drops what comes in by eth1 before anybody can answer. The
// agent loosens it there.
func TestStrictFilterIsLoosened(t *testing.T) {
	w := newTwoNetworks(t)
	w.router(t)
	w.node.Run(t, "sysctl", "-qw", "net.ipv4.conf.eth1.rp_filter=1")
	w.sync(t)
	dir, to := sysctl.Dir("/proc/sys"), netip.AddrPortFrom(at(snapshot.IPv4, 3, 200), toPod)
	w.node.Do(t, func() error {
		if !dir.Strict("eth1") || dir.Strict("eth0") {
			t.Error("strict are not eth1 alone")
		}
		_, wrong := dir.Apply(sysctl.Needed(sysctl.Node{Strict: []string{"eth1"}}))
		if len(wrong) > 0 || dir.Strict("eth1") {
			t.Errorf("left: %v", wrong)
		}
		return nil
	})
	if got := ask(w.client, "tcp", to); got != "pod" {
		t.Errorf("answered with %q", got)
	}
}

// The links of answers, and those without a router.
func TestTablesOf(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("198.18.3.0/24"), netip.MustParsePrefix("fd98:18:3::/64")
	all := []link.Way{
		{Link: "eth1", Index: 3, Networks: []netip.Prefix{v4, v6}, Routers: []netip.Addr{netip.MustParseAddr("198.18.3.254")}},
		{Link: "bond0", Index: 7, Networks: []netip.Prefix{v4}},
	}
	tables, now := tablesOf(all, map[int]int{2: 3, 5: 9}, marks.Links(0x2000))
	if got := fmt.Sprint(now); got != "[bond0 as 1 eth1 as 2]" {
		t.Errorf("numbered %s", got)
	}
	if len(tables) != 2 || tables[0].Number != 2 || tables[0].Mark != 2 || tables[0].Mask != 0xf || len(tables[0].Routes) != 3 {
		t.Errorf("tables %+v", tables)
	}
	held := []announcer.Claim{{Addr: netip.MustParseAddr("198.18.3.200"), Link: "eth1"}, {Addr: netip.MustParseAddr("fd98:18:3::200"), Link: "eth1"}}
	if got := fmt.Sprint(lacking(all, held)); got != "[eth1 (IPv6)]" {
		t.Errorf("lacking %s", got)
	}
	w := &ways{changed: func() {}}
	if w.condition(held) != nil {
		t.Error("a node with one link says something")
	}
	w.keep(all, now)
	if c := w.condition(nil); len(c) != 1 || c[0].Reason != "Known" {
		t.Errorf("condition %+v", c)
	}
}
