package agent

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/direct/echo"
	"github.com/fairlead/fairlead/internal/direct/far"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/internal/traffic"
	"github.com/fairlead/fairlead/internal/traffic/sample"
	"github.com/fairlead/fairlead/nodeport/health"
	"github.com/fairlead/fairlead/proxy/director"
	"github.com/fairlead/fairlead/proxy/director/program"
	"github.com/fairlead/fairlead/proxy/nftables"
	engines "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

// directLab is three nodes and a client on one bridge. Each node has the pods of its
// namespace behind it, and an engine and a director as an agent has them. The cluster is
// told to them, and they are told of each other, by the test.
//
//	client .9 -- 198.18.0.0/24 -- n1 .1 -- 10.1.1.1-4
//	                            \ n2 .2 -- 10.1.2.1-4
//	                            \ n3 .3 -- 10.1.3.1-4
type directLab struct {
	client, bridge nstest.Space
	nodes          []*directNode
	world          *storytest.World
	has            map[string]bool // the addresses of the Service's pods
	// routed says that each node and the client is alone in a subnet, and bridge is a router.
	routed bool
}

type directNode struct {
	name        string
	space, pods nstest.Space
	engine      *engine
	pins        string
	asking      bool // its nftables looks for connections, as on older kernels
	gone        bool // the others hold it for gone
	// back says that it was gone a moment ago: its endpoints take nothing yet, and its agent
	// does not offer its link to elections.
	back bool
}

// directVIPs are the addresses that the client dials.
var directVIPs = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.80:80"), netip.MustParseAddrPort("[2001:db8:2::80]:80")}

const directPatience = 30 * time.Second // for what must come, at last

// batch has ip carry out lines.
func batch(t *testing.T, s nstest.Space, format string, args ...any) {
	t.Helper()
	s.Pipe(t, fmt.Sprintf(format, args...), "ip", "-force", "-batch", "-")
}

func newDirectLab(t *testing.T) *directLab { return newDirectLabOf(t, false) }

// newDirectLabOf is a directLab, by choice of nodes whose nftables looks for connections.
func newDirectLabOf(t *testing.T, asking bool) *directLab {
	t.Helper()
	l := &directLab{client: nstest.New(t, "client"), bridge: nstest.New(t, "bridge"), world: storytest.NewWorld(), has: map[string]bool{}}
	batch(t, l.bridge, "link add name sw type bridge\nlink set sw up\n")
	l.begin(t, asking)
	return l
}

// begin starts the nodes.
func (l *directLab) begin(t *testing.T, asking bool) {
	t.Helper()
	l.join(t, l.client, 9)
	pins := nstest.BPFFS(t)
	for i := 1; i <= 3; i++ {
		n := &directNode{name: fmt.Sprintf("n%d", i), asking: asking, space: nstest.New(t, fmt.Sprintf("n%d", i)), pods: nstest.New(t, fmt.Sprintf("pods%d", i))}
		l.join(t, n.space, i)
		if n.wire(t, i); !l.routed {
			n.routes(t, i)
		}
		n.serve(t, 8080)
		n.pins = filepath.Join(pins, n.name)
		n.start(t)
		l.nodes = append(l.nodes, n)
		l.tell(t, "node n%d ips=198.18.0.%d,fd98::%d pods=10.1.%d.0/24,fd10:%d::/64", i, i, i, i, i)
	}
	l.tell(t, `namespace kube-system
pool lan 203.0.113.0/24,2001:db8:2::/64
address 203.0.113.80 holder=default/web
address 2001:db8:2::80 holder=default/web
service default/web type=LoadBalancer ip=10.96.0.1,fd96::1 families=4,6 policy=Require ports=tcp/80 forwarding=Direct`)
}

// join connects a namespace to the bridge, with the addresses of a number.
func (l *directLab) join(t *testing.T, s nstest.Space, number int) {
	t.Helper()
	s.Run(t, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.forwarding=1", "net.ipv4.ip_forward=1",
		"net.ipv4.conf.default.rp_filter=1", "net.ipv4.conf.all.rp_filter=1")
	batch(t, s, "link add name lan type veth peer name port%d netns %s\n", number, l.bridge.Name)
	if l.routed {
		l.route(t, s, number)
		return
	}
	batch(t, l.bridge, "link set port%d up master sw\n", number)
	batch(t, s, "addr add 198.18.0.%d/24 dev lan\naddr add fd98::%d/64 dev lan nodad\nlink set lan up\n", number, number)
}

// wire connects a node with its pods. It has a route to each.
func (n *directNode) wire(t *testing.T, i int) {
	t.Helper()
	batch(t, n.space, "link add name pods type veth peer name eth0 netns %s\nlink set pods up\naddr add 10.1.%d.254/32 dev pods\naddr add fd10:%d::fe/128 dev pods nodad\n", n.pods.Name, i, i)
	n.pods.Run(t, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
	batch(t, n.pods, "link set eth0 up\n")
	for k := 1; k <= 4; k++ {
		batch(t, n.pods, "addr add 10.1.%d.%d/32 dev eth0\naddr add fd10:%d::%d/128 dev eth0 nodad\n", i, k, i, k)
		batch(t, n.space, "route add 10.1.%d.%d dev pods\nroute add fd10:%d::%d dev pods\n", i, k, i, k)
	}
	batch(t, n.pods, "route add default via 10.1.%d.254 dev eth0 onlink\nroute add default via fd10:%d::fe dev eth0 onlink\n", i, i)
}

// routes lead to the other nodes' pods, and to all else by the client.
func (n *directNode) routes(t *testing.T, i int) {
	t.Helper()
	batch(t, n.space, "route add default via 198.18.0.9\nroute add default via fd98::9\n")
	for j := 1; j <= 3; j++ {
		if j != i {
			batch(t, n.space, "route add 10.1.%d.0/24 via 198.18.0.%d\nroute add fd10:%d::/64 via fd98::%d\n", j, j, j, j)
		}
	}
}

// serve has the pods answer each line, on a port, with their address and the client's, or with
// as many bytes as it asks for.
func (n *directNode) serve(t *testing.T, port int) {
	t.Helper()
	var on net.Listener
	n.pods.Do(t, func() (err error) {
		on, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	})
	t.Cleanup(func() { on.Close() })
	go func() {
		for {
			c, err := on.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(t.Context(), func() { c.Close() })
			go func() {
				defer c.Close()
				for in := bufio.NewScanner(c); in.Scan(); {
					var size int
					if n, _ := fmt.Sscanf(in.Text(), "bytes %d", &size); n == 1 {
						_, _ = c.Write(make([]byte, size))
						continue
					}
					fmt.Fprintf(c, "%s %s\n", hostOf(c.LocalAddr()), hostOf(c.RemoteAddr()))
				}
			}()
		}
	}()
}

func hostOf(a net.Addr) netip.Addr { return netip.MustParseAddrPort(a.String()).Addr().Unmap() }

// start makes the node's engine with its director, as a new agent does.
func (n *directNode) start(t *testing.T) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", n.name)
	dataplane := engines.New(engines.Options{Netns: int(n.space.Handle), Log: log})
	t.Cleanup(dataplane.Close)
	cfg := &Config{Node: n.name, Log: log, Dataplane: dataplane, Direct: Direct{
		Open: func(seed director.Seed) (Director, error) {
			return program.Open(program.Options{Seed: seed, Marks: program.Marks(nftables.MarksBeside(nftables.DefaultMark)), Pins: n.pins, AskNftables: n.asking, Log: log})
		},
		Pinned: func() bool { _, err := os.Stat(n.pins); return err == nil },
		Remove: func() (int, error) { return program.Remove(n.pins) },
		Echo:   func(changed func()) Echo { return echo.New(log, changed) },
		Far:    func(changed func()) Far { return far.New(log, changed) },
	}}
	n.engine = newEngine(cfg, newMetrics(nil), &health.Proxy{}, func() {})
	n.engine.proxy = Fairlead
	n.engine.follow = func(*snapshot.Snapshot, []netip.Addr, []netip.Addr) {}
	n.engine.director.every = 0
	t.Cleanup(n.engine.director.hush)
	n.engine.director.flows = func(take func(traffic.Flow)) error { return n.space.In(func() error { return sample.Flows(take) }) }
}

func (l *directLab) tell(t *testing.T, format string, args ...any) {
	t.Helper()
	if err := l.world.Do(fmt.Sprintf(format, args...)); err != nil {
		t.Fatal(err)
	}
}

// endpoints are the pods that the Service has, as NODE.NUMBER.
func (l *directLab) endpoints(t *testing.T, pods ...string) {
	t.Helper()
	for _, n := range l.nodes {
		for k := 1; k <= 4; k++ {
			name := fmt.Sprintf("%s.%d", n.name, k)
			for _, format := range []string{"10.1.%s.%d:8080", "[fd10:%s::%d]:8080"} {
				at := fmt.Sprintf(format, n.name[1:], k)
				switch want := slices.Contains(pods, name); {
				case want && !l.has[at]:
					l.tell(t, "endpoint default/web %s node=%s", at, n.name)
				case !want && l.has[at]:
					l.tell(t, "delete endpoint default/web %s", at)
				}
				l.has[at] = slices.Contains(pods, name)
			}
		}
	}
}

// sync has each node that lives do what its agent does after a change, one after the
// other. What they can do is told to all in the next round.
func (l *directLab) sync(t *testing.T) {
	t.Helper()
	for range 3 {
		s, err := l.world.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		s.Namespace("kube-system").UID = "1f2e"
		view, links := l.view(t)
		for _, n := range l.nodes {
			if n.gone {
				continue
			}
			view := announcer.View{Node: n.name, Members: slices.Clone(view.Members)}
			view.Member(n.name).Quarantine = false // of itself a node knows better
			state := links[n.name]
			order := engineOrder{Program: node.Program{
				Snapshot: s, Self: s.Node(n.name), Addrs: s.Node(n.name).InternalIPs, Own: state.Addrs, Routed: state.Pods,
				Quarantined: view.Quarantined(), Links: state.Links, View: view, Sure: true,
			}}
			n.space.Do(t, func() error { return n.engine.program(t.Context(), order) })
		}
	}
}

// able waits until each node says that it is able, or is not.
func (l *directLab) able(t *testing.T, want ...bool) {
	t.Helper()
	nstest.Eventually(t, fmt.Sprintf("the nodes to be able: %v", want), func() bool {
		l.sync(t)
		return !slices.ContainsFunc(l.nodes, func(n *directNode) bool {
			st := n.engine.director.Status()
			return st == nil || st.Able != want[slices.Index(l.nodes, n)]
		})
	})
	l.sync(t) // all know it
}

// view is what the nodes hold of each other.
func (l *directLab) view(t *testing.T) (v announcer.View, links map[string]link.State) {
	t.Helper()
	links = map[string]link.State{}
	for _, n := range l.nodes {
		var state link.State
		n.space.Do(t, func() (err error) {
			state, err = link.Read()
			return err
		})
		links[n.name] = state
		m := announcer.Member{Node: n.name, Report: &announcer.Report{Electable: snapshot.Electable{
			Node: n.name, InSync: true, Links: state.Links, Director: n.engine.director.Status(),
		}}}
		if n.gone {
			m.Verdict, m.Quarantine = announcer.NodeGone, true
		}
		if n.back {
			m.Quarantine, m.Report.Links = true, nil
		}
		v.Members = append(v.Members, m)
	}
	return v, links
}

// owner has a node announce the VIPs: the client's packets come to it.
func (l *directLab) owner(t *testing.T, n int) {
	t.Helper()
	if l.routed {
		batch(t, l.bridge, "route replace 203.0.113.80 via 198.18.0.%d dev port%[1]d onlink\nroute replace 2001:db8:2::80 via fd98::%[1]d dev port%[1]d onlink\n", n)
		return
	}
	batch(t, l.client, "route replace 203.0.113.80 via 198.18.0.%d\nroute replace 2001:db8:2::80 via fd98::%d\n", n, n)
}

// talk is a connection of the client, and the pod at its other end.
type talk struct {
	net.Conn
	pod string
}

// open opens connections to a VIP.
func (l *directLab) open(t *testing.T, vip netip.AddrPort, n int) (all []*talk) {
	t.Helper()
	for range n {
		var c net.Conn
		l.client.Do(t, func() (err error) {
			c, err = net.DialTimeout("tcp", vip.String(), directPatience)
			return err
		})
		t.Cleanup(func() { c.Close() })
		k := &talk{Conn: c}
		pod, saw, err := k.ask()
		if err != nil {
			t.Fatal(err)
		}
		if k.pod = pod; saw != hostOf(c.LocalAddr()).String() {
			t.Fatalf("the pod %s saw %s, not %s", pod, saw, hostOf(c.LocalAddr()))
		}
		all = append(all, k)
	}
	return all
}

// ask sends a line, and returns who answers and whom it saw.
func (k *talk) ask() (pod, saw string, err error) {
	_ = k.SetDeadline(time.Now().Add(directPatience))
	if _, err := io.WriteString(k, "hello\n"); err != nil {
		return "", "", err
	}
	line, err := bufio.NewReader(k).ReadString('\n')
	if err != nil {
		return "", "", err
	}
	pod, saw, _ = strings.Cut(strings.TrimSpace(line), " ")
	return pod, saw, nil
}

// live wants all connections answered by the pods that they are with.
func live(t *testing.T, when string, all []*talk) {
	t.Helper()
	lost := 0
	for _, k := range all {
		if pod, _, err := k.ask(); err != nil || pod != k.pod {
			t.Logf("%s: %s, with %s: %q, %v", when, k.LocalAddr(), k.pod, pod, err)
			lost++
		}
	}
	if lost > 0 {
		t.Fatalf("%s: %d of %d connections are lost", when, lost, len(all))
	}
}

// graces are the graces of what a node directs.
func (n *directNode) graces(t *testing.T) (out []director.Grace) {
	t.Helper()
	held, err := n.engine.director.program.Held()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range held {
		out = append(out, f.Grace)
	}
	return out
}

// astray sends segments with the ports of a connection that are not of it, or not whole:
// outside of its window, with a wrong checksum, and in fragments.
func (l *directLab) astray(t *testing.T, k *talk) {
	t.Helper()
	from, to := netip.MustParseAddrPort(k.LocalAddr().String()), netip.MustParseAddrPort(k.RemoteAddr().String())
	for seq := range uint32(4) { // at most one of them is in the window
		b := stray(from, to, seq<<30)
		l.raw(t, to.Addr(), packetOf(from, to, b, 0))
		l.raw(t, to.Addr(), packetOf(from, to, b[:16], 1<<13), packetOf(from, to, b[16:], 2))
		b[16]++
		l.raw(t, to.Addr(), packetOf(from, to, b, 0))
	}
}

// stray is a segment of 12 bytes that opens nothing.
func stray(from, to netip.AddrPort, seq uint32) []byte {
	b := make([]byte, 32)
	binary.BigEndian.PutUint16(b, from.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint32(b[4:], seq)
	b[12], b[13] = 5<<4, 0x10
	sum := uint32(unix.IPPROTO_TCP + len(b))
	for _, part := range [][]byte{from.Addr().AsSlice(), to.Addr().AsSlice()} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	binary.BigEndian.PutUint16(b[16:], checksum(sum, b))
	return b
}

// packetOf is a packet, or a fragment of one, with the offset and flag as IPv4 has them. The
// kernel adds the checksum of IPv4.
func packetOf(from, to netip.AddrPort, body []byte, fragment uint16) []byte {
	if to.Addr().Is6() {
		return packet6Of(from, to, body, fragment)
	}
	b := make([]byte, 20)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[4:], 4711)
	binary.BigEndian.PutUint16(b[6:], fragment)
	copy(b[12:], from.Addr().AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	return append(b, body...)
}

func packet6Of(from, to netip.AddrPort, body []byte, fragment uint16) []byte {
	next := byte(unix.IPPROTO_TCP)
	if fragment != 0 {
		h := []byte{next, 0, 0, 0, 0, 0, 0x12, 0x67}
		binary.BigEndian.PutUint16(h[2:], fragment<<3|fragment>>13) // the flag is the last bit
		body, next = append(h, body...), unix.IPPROTO_FRAGMENT
	}
	b := make([]byte, 8)
	b[0], b[6], b[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	return slices.Concat(b, from.Addr().AsSlice(), to.Addr().AsSlice(), body)
}

// raw sends packets from the client's namespace.
func (l *directLab) raw(t *testing.T, to netip.Addr, packets ...[]byte) {
	t.Helper()
	family, at := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.As16()})
	if to.Is4() {
		family, at = unix.AF_INET, &unix.SockaddrInet4{Addr: to.As4()}
	}
	l.client.Do(t, func() error {
		fd, err := unix.Socket(family, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, p := range packets {
			if err := unix.Sendto(fd, p, 0, at); err != nil {
				return err
			}
		}
		return nil
	})
}

// 200 connections through a VIP keep the client's address, and live while the pods that
// they are with do: endpoints come and go, the owner dies, and directing ends and begins.
func TestDirect(t *testing.T) { testDirect(t, false) }

// On older kernels nftables looks for connections, and they live as well.
func TestDirectAsking(t *testing.T) { testDirect(t, true) }

func testDirect(t *testing.T, asking bool) {
	nstest.NeedRoot(t)
	l := newDirectLabOf(t, asking)
	l.owner(t, 1)
	l.endpoints(t, "n2.1", "n3.1")
	l.sync(t)
	l.tell(t, "service default/web forwarding=Direct")
	l.able(t, true, true, true)
	nstest.Eventually(t, "no node has connections of before", func() bool {
		l.sync(t)
		return !slices.ContainsFunc(l.nodes, func(n *directNode) bool {
			return !slices.Equal(n.graces(t), []director.Grace{director.NoGrace, director.NoGrace})
		})
	})
	for _, n := range l.nodes {
		n.space.Pipe(t, `table inet seen { chain c { type filter hook prerouting priority -400; tcp sport { 80, 8080 } iifname "lan" counter; }; }`, "nft", "-f", "-")
	}
	connections := 100
	if asking {
		connections = 40
	}
	var all []*talk
	for _, vip := range directVIPs {
		all = append(all, l.open(t, vip, connections)...)
	}
	owner := l.nodes[0].space
	if out := owner.Run(t, "nft", "list", "table", "inet", "seen"); !strings.Contains(out, "counter packets 0 ") {
		t.Errorf("replies go through the owner:\n%s", out)
	}
	if out := owner.Run(t, "conntrack", "-L", "-p", "tcp", "--dport", "80"); out != "" && !strings.Contains(out, " 0 flow entries") {
		t.Errorf("the owner keeps state:\n%s", out)
	}
	for range 4 {
		l.astray(t, all[0])
		l.astray(t, all[len(all)-1]) // over IPv6
	}
	live(t, "after segments that are not of it", []*talk{all[0], all[len(all)-1]})

	l.endpoints(t, "n1.1", "n1.2", "n1.3", "n1.4", "n2.1", "n2.2", "n2.3", "n2.4", "n3.1", "n3.2", "n3.3", "n3.4")
	l.sync(t)
	live(t, "with 12 endpoints", all)
	l.open(t, directVIPs[0], 20)
	for _, n := range l.nodes {
		n.engine.director.program.Close()
		n.engine.cfg.Dataplane.(*engines.Engine).Close()
		n.start(t)
	}
	live(t, "without agents", all)
	l.able(t, true, true, true)
	live(t, "with other agents", all)
	if got := l.nodes[0].graces(t); !slices.Equal(got, []director.Grace{director.NoGrace, director.NoGrace}) {
		t.Errorf("the next agent has graces %v", got)
	}
	l.endpoints(t, "n2.1", "n3.1", "n3.4")
	l.sync(t)
	live(t, "with 3 endpoints", all)
	l.falselyGone(t, all)
	if !asking { // nftables does not know that a connection is closed
		l.usedAgain(t)
	}

	l.ownerDies(t, all)
	l.offAndOn(t, all)
	l.dies(t, all)
}

// falselyGone has n3 declared gone, which lives.
func (l *directLab) falselyGone(t *testing.T, all []*talk) {
	t.Helper()
	l.nodes[2].gone = true
	l.sync(t)
	n := 0
	for _, k := range all { // not all: the others ask it for some seconds only
		if there := strings.HasPrefix(k.pod, "10.1.3.") || strings.HasPrefix(k.pod, "fd10:3:"); there && n < 10 {
			live(t, "a false verdict", []*talk{k})
			n++
		}
	}
	if n < 10 {
		t.Errorf("%d connections with pods of n3", n)
	}
	l.nodes[2].gone, l.nodes[2].back = false, true
	l.sync(t)
	live(t, "it is known to live", all)
	l.nodes[2].back = false
	l.sync(t)
	live(t, "it is as others are", all)
}

// usedAgain has clients use ports again whose connections ended at another node. The node
// that has them now forgets them, as one that loses its power does. Each client is told
// with one of its next segments, wherever the walk ends.
func (l *directLab) usedAgain(t *testing.T) {
	t.Helper()
	const ports = 12
	dial := func(i int) *talk {
		var c net.Conn
		l.client.Do(t, func() (err error) {
			d := net.Dialer{Timeout: directPatience, LocalAddr: &net.TCPAddr{IP: net.IPv4(198, 18, 0, 9), Port: 20000 + i}}
			c, err = d.DialContext(t.Context(), "tcp", directVIPs[0].String())
			return err
		})
		k := &talk{Conn: c}
		if pod, _, err := k.ask(); err != nil || pod == "" {
			t.Fatal(pod, err)
		}
		return k
	}
	l.nodes[1].space.Run(t, "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_close=120")
	l.endpoints(t, "n2.1")
	l.sync(t)
	for i := range ports {
		c := dial(i).Conn.(*net.TCPConn)
		_ = c.SetLinger(0) // so the port is free again
		_ = c.Close()
	}
	l.endpoints(t, "n3.1")
	l.sync(t)
	var all []*talk
	for i := range ports {
		all = append(all, dial(i))
	}
	for i := range all {
		l.nodes[2].space.Run(t, "conntrack", "-D", "-p", "tcp", "--dport", "80", "--sport", fmt.Sprint(20000+i))
	}
	for _, k := range all {
		if pod, _, err := k.ask(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s, which nobody has any longer: %q, %v", k.LocalAddr(), pod, err)
		}
		_ = k.Close()
	}
	l.endpoints(t, "n2.1", "n3.1", "n3.4")
	l.sync(t)
}

// ownerDies has the owner lose its power, and another node take the VIPs.
func (l *directLab) ownerDies(t *testing.T, all []*talk) {
	t.Helper()
	batch(t, l.bridge, "link set port1 down\n")
	l.nodes[0].gone = true
	l.owner(t, 2)
	l.sync(t)
	live(t, "after the owner's death", all)
}

// offAndOn turns directing off and on again. What is opened in between is masqueraded.
func (l *directLab) offAndOn(t *testing.T, all []*talk) {
	t.Helper()
	l.tell(t, "service default/web forwarding=Masquerade")
	l.sync(t)
	live(t, "no longer directed", all)
	var old []*talk
	l.client.Do(t, func() error {
		c, err := net.DialTimeout("tcp", directVIPs[0].String(), directPatience)
		old = append(old, &talk{Conn: c})
		return err
	})
	defer old[0].Close()
	pod, saw, err := old[0].ask()
	if old[0].pod = pod; err != nil || saw == "198.18.0.9" {
		t.Errorf("not masqueraded: %s %s %v", pod, saw, err)
	}
	l.tell(t, "service default/web forwarding=Direct")
	l.sync(t)
	live(t, "directed again", append(all, old...))
	// The other family's grace ends with the next list of connections, as it has none.
	if got := l.nodes[1].graces(t); !slices.Contains(got, director.OnGrace) {
		t.Errorf("graces %v", got)
	}
}

// dies has a pod die before the cluster knows of it. Its clients are told with
// the next segment. All others live on.
func (l *directLab) dies(t *testing.T, all []*talk) {
	t.Helper()
	batch(t, l.nodes[2].space, "route del 10.1.3.1 dev pods\nroute del fd10:3::1 dev pods\n")
	told, others := 0, []*talk(nil)
	for _, k := range all {
		if k.pod != "10.1.3.1" && k.pod != "fd10:3::1" {
			others = append(others, k)
			continue
		}
		began := time.Now()
		if pod, _, err := k.ask(); !errors.Is(err, syscall.ECONNRESET) || time.Since(began) > 10*time.Second {
			t.Errorf("its pod is gone: %q, %v after %v", pod, err, time.Since(began))
		}
		told++
	}
	if told == 0 || len(others) == 0 {
		t.Errorf("%d connections with the pod, %d with others", told, len(others))
	}
	live(t, "another pod died", others)
}

// A network that lets a node send from its own addresses alone, as one with protection from
// spoofing does, keeps that node apart: the owner has its part of the connections, and all
// others keep the client's address. Nothing is lost when the network lets it.
func TestDirectInPart(t *testing.T) {
	nstest.NeedRoot(t)
	l := newDirectLab(t)
	l.bridge.Pipe(t, `table bridge guard { chain c {
		type filter hook forward priority 0;
		iifname "port3" ip saddr != { 198.18.0.3, 203.0.113.80, 10.1.3.1 } drop
		iifname "port3" ip6 saddr 2001:db8::1 drop
	}; }`, "nft", "-f", "-")
	l.owner(t, 1)
	l.endpoints(t, "n2.1", "n3.1")
	l.able(t, true, true, false)
	if why := l.nodes[2].engine.director.Status().Why; !strings.Contains(why, "addresses of clients") {
		t.Errorf("n3 says %q", why)
	}
	var all []*talk
	saw := map[bool]int{} // whether the client
	for i := range 200 {
		var c net.Conn
		l.client.Do(t, func() (err error) {
			c, err = net.DialTimeout("tcp", directVIPs[i%2].String(), directPatience)
			return err
		})
		t.Cleanup(func() { c.Close() })
		k := &talk{Conn: c}
		pod, source, err := k.ask()
		if err != nil {
			t.Fatal(err)
		}
		kept := source == hostOf(c.LocalAddr()).String()
		saw[kept]++
		if able := pod == "10.1.2.1" || pod == "fd10:2::1"; kept != able {
			t.Errorf("%s saw the client: %t. Each node has to have what its slots have", pod, kept)
		}
		k.pod = pod
		all = append(all, k)
	}
	if saw[true] < 50 || saw[false] < 50 {
		t.Errorf("pods saw the client of %d connections, a node instead of %d", saw[true], saw[false])
	}
	l.bridge.Run(t, "nft", "delete", "table", "bridge", "guard")
	l.nodes[2].engine.director.program.Close()
	l.nodes[2].engine.director.hush()
	l.nodes[2].engine.cfg.Dataplane.(*engines.Engine).Close()
	l.nodes[2].start(t)
	l.able(t, true, true, true)
	live(t, "all nodes are able", all)
	l.owner(t, 2)
	live(t, "at another owner", all)
	l.open(t, directVIPs[0], 20) // which wants the client's address
}
