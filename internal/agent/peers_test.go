package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/asktest"
	"github.com/fairlead/fairlead/internal/test/earlier"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
)

// runPeer makes this test's binary the agent of a node: it holds a peerSpec.
const runPeer = "FAIRLEAD_AGENT_PEER"

// morePeer holds what the cluster has beside peersServices.
const morePeer = "FAIRLEAD_AGENT_PEER_MORE"

// peerSpec is what such an agent is given.
type peerSpec struct {
	name  string
	nodes string // the names of all nodes, with commas
	net   string // in which agents speak: the first three bytes of its addresses
	key   string // of the gossip
}

func (s peerSpec) String() string { return fmt.Sprint(s.name, " ", s.nodes, " ", s.net, " ", s.key) }

// cluster is the cluster that the agent follows.
func (s peerSpec) cluster() string {
	var b strings.Builder
	for i, name := range strings.Split(s.nodes, ",") {
		fmt.Fprintf(&b, "node %s ips=%s.%d\n", name, s.net, i+1)
	}
	return b.String() + peersServices + os.Getenv(morePeer)
}

// peersServices are three Services with an address of each family: version 0.1 knows no
// Service with two of one.
const peersServices = `
service default/web type=LoadBalancer ports=tcp/80 status=198.18.0.200,fd98:18::200 ip=10.96.0.10,fd00::10
endpoint default/web 10.1.1.5:80 node=a
endpoint default/web [fd00::5]:80 node=a
service default/shop type=LoadBalancer ports=tcp/80 status=198.18.0.201,fd98:18::201 ip=10.96.0.12,fd00::12
endpoint default/shop 10.1.1.5:80 node=a
endpoint default/shop [fd00::5]:80 node=a
service default/mail type=LoadBalancer ports=tcp/80 status=198.18.0.203,fd98:18::202 ip=10.96.0.13,fd00::13
endpoint default/mail 10.1.1.5:80 node=a
endpoint default/mail [fd00::5]:80 node=a
address 198.18.0.200 holder=default/web
address 198.18.0.201 holder=default/shop
address 198.18.0.203 holder=default/mail
address fd98:18::200 holder=default/web
address fd98:18::201 holder=default/shop
address fd98:18::202 holder=default/mail`

// laterServices is a Service that is made while the agents run.
const laterServices = `
service default/later type=LoadBalancer ports=tcp/80 status=198.18.0.210,198.18.0.211,198.18.0.212,198.18.0.213,fd98:18::210,fd98:18::211 ip=10.96.0.11,fd00::11
endpoint default/later 10.1.1.6:80 node=a
endpoint default/later [fd00::6]:80 node=a
address 198.18.0.210 holder=default/later created=100
address 198.18.0.211 holder=default/later created=100
address 198.18.0.212 holder=default/later created=100
address 198.18.0.213 holder=default/later created=101
address fd98:18::210 holder=default/later created=102
address fd98:18::211 holder=default/later created=102`

// addressesIn returns the addresses of a cluster's records.
func addressesIn(cluster string) (out []netip.Addr) {
	for _, line := range strings.Split(cluster, "\n") {
		if words := strings.Fields(line); len(words) > 0 && words[0] == "address" {
			out = append(out, netip.MustParseAddr(words[1]))
		}
	}
	return out
}

// peerKey is the gossip's.
const peerKey = "0123456789abcdef0123456789abcdef"

// peerMain is an agent with all of its layer 2 and gossip. Its engine holds everything.
// At SIGUSR1 its Node says what a kubelet says that systemd told to shut down, or takes that
// back. SIGUSR2 makes laterServices.
func peerMain(text string) error {
	var spec peerSpec
	if _, err := fmt.Sscan(text, &spec.name, &spec.nodes, &spec.net, &spec.key); err != nil {
		return err
	}
	name := spec.name
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	handle, err := netlink.NewHandle(syscall.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	d := &diary{Fake: dataplanetest.NewFake(), paths: map[string]bool{}, vips: map[netip.Addr]bool{}, fails: map[string]error{}, world: storytest.NewWorld()}
	if err := d.world.Do(spec.cluster()); err != nil {
		return err
	}
	cluster := &listed{diary: d}
	if err := cluster.read(); err != nil {
		return err
	}
	leases := l2.New(handle, 0, log)
	a := assemble(&Config{Node: name, MembersPort: 7947, Log: log, Dataplane: d, Clients: &kube.Clients{}}, leases)
	leases.Changed, leases.Sure = a.layer2.Again, a.gossip.Fresh
	leases.HeardAt, leases.Carries = a.reach.watcher.HeardAt, a.reach.watcher.Carries
	a.engine.proxy, a.cluster.store, a.routes.syncer = Fairlead, cluster, router{d}
	a.routes.unheld.withoutKernel()
	a.engine.follow = func(_ *snapshot.Snapshot, _, _ []netip.Addr) {}
	if err := a.links.read(); err != nil {
		return err
	}
	a.setKeys(keyring.Keys{[]byte(spec.key)})
	var wg sync.WaitGroup
	wg.Go(func() { cluster.change(ctx, name, a.decision.loop.Wake) })
	for _, run := range []func(context.Context){
		a.links.Run, a.gossip.Run, a.reach.watcher.Run, a.reach.Run, leases.Run, a.layer2.Run, a.engine.Run, a.dhcp.Run,
		func(ctx context.Context) { a.decision.loop.Run(ctx, a.step) },
		func(ctx context.Context) { a.routes.loop.Run(ctx, a.routes.step) },
	} {
		wg.Go(func() { run(ctx) })
	}
	wg.Wait()
	return nil
}

// listed is an API server.
type listed struct {
	*diary
	cluster atomic.Pointer[snapshot.Snapshot]
}

func (l *listed) Latest() (*snapshot.Snapshot, []time.Time) { return l.cluster.Load(), nil }
func (l *listed) Snapshot() *snapshot.Snapshot              { return l.cluster.Load() }

// read has the agent know what the world is like now.
func (l *listed) read() error {
	cluster, err := l.world.Snapshot()
	if err != nil {
		return err
	}
	for _, at := range cluster.Addresses {
		at.UID, at.ProbedAt = "u", time.Unix(1000, 0)
	}
	l.cluster.Store(cluster)
	return nil
}

// change changes the cluster as signals say, until ctx ends.
func (l *listed) change(ctx context.Context, node string, changed func()) {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1, syscall.SIGUSR2)
	for down := false; ; {
		text := laterServices
		select {
		case <-ctx.Done():
			return
		case s := <-told:
			if s == syscall.SIGUSR1 {
				down = !down
				text = fmt.Sprintf("node %s shutsdown=%t notready=%t", node, down, down)
			}
		}
		if err := errors.Join(l.world.Do(text), l.read()); err != nil {
			panic(err)
		}
		changed()
	}
}

// peers are such agents on one switch, with a client.
type peers struct {
	peerSetup
	sw, client nstest.Space
	names      []string
	spaces     map[string]nstest.Space // by node
	cmds       map[string]*exec.Cmd
	mac        map[string]string // by node
	logs       string            // folder
	addrs      []netip.Addr      // that the client asks for
}

// peerSetup is how peers differ from three nodes that nothing ails.
type peerSetup struct {
	nodes  string                       // instead of "a,b,c"
	more   string                       // lines of the cluster
	second bool                         // the agents speak over a link of their own
	keys   map[string]string            // by node, of those that have another
	before func(t *testing.T, p *peers) // is done before the agents start
	v010   map[string]bool              // the nodes whose agents are of version 0.1
	apart  time.Duration                // between the starts of two agents
}

func newPeers(t *testing.T, setup peerSetup) *peers {
	p := plugPeers(t, setup)
	for i, name := range p.names {
		if i > 0 {
			time.Sleep(p.apart)
		}
		p.start(t, name)
	}
	return p
}

// plugPeers makes the nodes and the client, without agents.
func plugPeers(t *testing.T, setup peerSetup) *peers {
	p := &peers{peerSetup: setup, spaces: map[string]nstest.Space{}, addrs: addressesIn(peersServices), sw: nstest.New(t, "switch"), client: nstest.New(t, "client"), cmds: map[string]*exec.Cmd{}, mac: map[string]string{}, logs: t.TempDir()}
	p.sw.Run(t, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1") // or its ports speak
	if p.nodes == "" {
		p.nodes = "a,b,c"
	}
	p.names = strings.Split(p.nodes, ",")
	for _, bridge := range []string{"br0", "br1"} {
		p.sw.Run(t, "ip", "link", "add", bridge, "type", "bridge")
		p.sw.Run(t, "ip", "link", "set", bridge, "up")
	}
	p.wire(t, p.client, "client", 100)
	for i, name := range p.names {
		p.spaces[name] = nstest.New(t, name)
		p.mac[name] = p.wire(t, p.spaces[name], name, i+1)
	}
	t.Cleanup(func() { p.print(t) })
	if p.before != nil {
		p.before(t, p)
	}
	return p
}

// print prints what the agents of a test that failed said.
func (p *peers) print(t *testing.T) {
	for _, name := range p.names {
		if text, err := os.ReadFile(p.logs + "/" + name); t.Failed() && err == nil {
			t.Logf("%s says:\n%s", name, text)
		}
	}
}

// wire connects s with the switch, and returns its MAC.
func (p *peers) wire(t *testing.T, s nstest.Space, name string, number int) string {
	t.Helper()
	plug := func(port, bridge, link, prefix string) {
		p.sw.Run(t, "ip", "link", "add", "name", port+name, "type", "veth", "peer", "name", link, "netns", s.Name)
		p.sw.Run(t, "ip", "link", "set", port+name, "master", bridge, "up")
		s.Run(t, "ip", "addr", "add", prefix, "dev", link)
		s.Run(t, "sysctl", "-qw", "net.ipv6.conf."+link+".accept_dad=0")
	}
	plug("to-", "br0", "eth0", fmt.Sprintf("198.18.0.%d/24", number))
	s.Run(t, "ip", "addr", "add", fmt.Sprintf("fd98:18::%d/64", number), "dev", "eth0", "nodad")
	s.Run(t, "ip", "link", "set", "eth0", "up")
	if p.second {
		plug("by-", "br1", "eth1", fmt.Sprintf("198.19.0.%d/24", number))
		s.Run(t, "ip", "link", "set", "eth1", "up")
	}
	link, err := s.Netlink(t).LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().HardwareAddr.String()
}

// program is how the agent of spec is run.
func (p *peers) program(t *testing.T, spec peerSpec) []string {
	t.Helper()
	if !p.v010[spec.name] {
		return []string{os.Args[0]}
	}
	dir := t.TempDir()
	cluster := &listed{diary: &diary{world: storytest.NewWorld()}}
	if err := errors.Join(cluster.world.Do(spec.cluster()), cluster.read()); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"Version": 1, "Node": spec.name, "Written": time.Now(), "Proxy": Fairlead, "Snapshot": cluster.Snapshot()})
	keys := keyring.Keys{[]byte(spec.key)}.Format()
	if err = errors.Join(err, os.WriteFile(dir+"/snapshot.json", text, 0o600), os.WriteFile(dir+"/members.keys", keys, 0o600)); err != nil {
		t.Fatal(err)
	}
	return []string{earlier.Program(t), "agent", spec.name, dir}
}

// start starts the agent of a node.
func (p *peers) start(t *testing.T, name string) {
	t.Helper()
	p.startIn(t, p.spaces[name], name)
}

// startIn starts an agent that takes itself for a node's.
func (p *peers) startIn(t *testing.T, s nstest.Space, name string) {
	t.Helper()
	log, err := os.OpenFile(p.logs+"/"+name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	spec := peerSpec{name: name, nodes: p.nodes, net: "198.18.0", key: cmp.Or(p.keys[name], peerKey)}
	if p.second {
		spec.net = "198.19.0"
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", s.Name}, p.program(t, spec)...)...)
	cmd.Env, cmd.Stderr = append(os.Environ(), runPeer+"="+spec.String(), morePeer+"=\n"+p.more), log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.cmds[name] = cmd
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
}

// end ends the agent of a node by a signal, and waits for that.
func (p *peers) end(t *testing.T, name string, s syscall.Signal) {
	t.Helper()
	p.signal(t, name, s)
	_ = p.cmds[name].Wait()
}

func (p *peers) signal(t *testing.T, name string, s syscall.Signal) {
	t.Helper()
	if err := p.cmds[name].Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// cut makes the switch drop what matches one of rules, and nothing else.
func (p *peers) cut(t *testing.T, rules ...string) {
	t.Helper()
	text := "table bridge cut\ndelete table bridge cut\n"
	if len(rules) > 0 {
		drop := strings.Join(rules, " drop\n") + " drop\n"
		// The switch says things itself, too.
		text += "table bridge cut { chain forward { type filter hook forward priority 0;\n" + drop + "}; chain output { type filter hook output priority 0;\n" + drop + "}; }\n"
	}
	p.sw.Pipe(t, text, "nft", "-f", "-")
}

// ask has the client ask for all addresses until stop is called.
func (p *peers) ask(t *testing.T) (stop func() map[netip.Addr]*asktest.Heard) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var heard map[netip.Addr]*asktest.Heard
	done := make(chan error, 1)
	go func() {
		done <- p.client.In(func() (err error) {
			heard, err = asktest.Ask(ctx, "eth0", p.addrs)
			return err
		})
	}()
	return func() map[netip.Addr]*asktest.Heard {
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return heard
	}
}

// listen asks for d.
func (p *peers) listen(t *testing.T, d time.Duration) map[netip.Addr]*asktest.Heard {
	t.Helper()
	stop := p.ask(t)
	time.Sleep(d)
	return stop()
}

// settled waits until each address is answered by one node, and each node has one. It
// returns who has what.
func (p *peers) settled(t *testing.T) map[netip.Addr]string {
	t.Helper()
	owners := map[netip.Addr]string{}
	nstest.Eventually(t, "one node answers for each address", func() bool {
		same := len(owners) > 0
		for addr, h := range p.listen(t, time.Second) {
			macs := h.Moves()
			if len(macs) != 1 {
				owners = map[netip.Addr]string{}
				return false
			}
			same = same && owners[addr] == p.node(macs[0])
			owners[addr] = p.node(macs[0])
		}
		return same
	})
	return owners
}

func (p *peers) node(mac string) string {
	for name, at := range p.mac {
		if at == mac {
			return name
		}
	}
	return mac
}

// broken is something that breaks in part.
type broken struct {
	name   string
	rules  []string // what the switch drops; X is the node
	first  []string // what it drops for the first second too
	stop   bool     // its agent stands still as well
	kill   bool     // it is killed
	speaks bool     // its switch itself speaks to it
	during time.Duration
	moves  bool // X's addresses may move
}

// gossipFrames are what agents say to each other, for the switch to drop.
var gossipFrames = []string{`ip protocol udp udp dport 7947`, `ip protocol tcp tcp dport 7947`}

// TestNodesThatBreakInPart: while something breaks in part and after it, a client asks for
// all addresses. One node answers for each, no address moves that need not, and the last
// announcement is the owner's.
func TestNodesThatBreakInPart(t *testing.T) {
	for _, b := range []broken{
		{name: "it loses power", rules: []string{`iifname to-X`, `oifname to-X`}, kill: true, during: 3 * time.Second, moves: true},
		{name: "it hears its switch alone", rules: []string{`oifname to-X`}, speaks: true, during: 6 * time.Second, moves: true},
		{name: "it stands still for 3 s", rules: []string{`iifname to-X`, `oifname to-X`}, stop: true, during: 3 * time.Second, moves: true},
		{name: "it is cut from another", rules: []string{`iifname to-X oifname to-c`, `iifname to-c oifname to-X`}, first: gossipFrames, during: 6 * time.Second},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			b.try(t)
		})
	}
}

func (b broken) try(t *testing.T) {
	p := newPeers(t, peerSetup{})
	owners := p.settled(t)
	t.Log("at first", owners)
	const node = "a"
	var rules []string
	for _, r := range b.rules {
		rules = append(rules, strings.ReplaceAll(r, "X", node))
	}
	if b.speaks {
		p.switchSpeaks(t, node)
	}
	stop := p.ask(t)
	time.Sleep(3 * time.Second) // so that all have been watched
	if b.first != nil {
		p.cut(t, slices.Concat(rules, b.first)...)
		time.Sleep(time.Second)
	}
	p.cut(t, rules...)
	switch {
	case b.kill:
		p.signal(t, node, syscall.SIGKILL)
	case b.stop:
		p.signal(t, node, syscall.SIGSTOP)
	}
	time.Sleep(b.during)
	if b.stop {
		p.signal(t, node, syscall.SIGCONT)
	}
	if !b.kill {
		p.cut(t)
	}
	time.Sleep(4 * time.Second)
	end := time.Now()
	heard := stop()
	for _, addr := range p.addrs {
		p.judge(t, addr, heard[addr], owners[addr] == node && b.moves, asktest.Wide, end)
	}
	p.agreed(t, heard)
	if b.kill && slices.Contains(slices.Collect(maps.Values(owners)), node) {
		p.measured(t)
	}
}

// switchSpeaks has the switch say to a node, ten times a second until the test ends, what
// switches say of their spanning tree. A port says that also while it forwards nothing.
func (p *peers) switchSpeaks(t *testing.T, node string) {
	t.Helper()
	var port *packet.Conn
	p.sw.Do(t, func() error {
		ifi, err := net.InterfaceByName("to-" + node)
		if err != nil {
			return err
		}
		port, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_802_2, nil)
		return err
	})
	group := net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0}
	frame := append(slices.Clone(group), 2, 0, 0, 0, 0, 0x99, 0, 38, 0x42, 0x42, 3)
	frame = append(frame, make([]byte, 35)...)
	ctx, end := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for every := time.Tick(100 * time.Millisecond); ctx.Err() == nil; <-every {
			if _, err := port.WriteTo(frame, &packet.Addr{HardwareAddr: group}); err != nil {
				t.Errorf("the switch cannot speak: %v", err)
				return
			}
		}
	})
	t.Cleanup(func() { end(); wg.Wait(); _ = port.Close() })
}

// agreed waits until one node answers for each address, and is the last to have announced it
// since heard began.
func (p *peers) agreed(t *testing.T, heard map[netip.Addr]*asktest.Heard) {
	t.Helper()
	nstest.Eventually(t, "one answers for each address, and is the last to have announced it", func() bool {
		agree := true
		for addr, h := range p.listen(t, time.Second) {
			was := heard[addr]
			was.Answers, was.Said = append(was.Answers, h.Answers...), append(was.Said, h.Said...)
			n := len(was.Said)
			agree = agree && len(h.Answers) > 0 && (n == 0 || was.Said[n-1].MAC == was.Answers[len(was.Answers)-1].MAC)
		}
		return agree
	})
}

// measured checks that who took the addresses of a dead node knows for how long nobody
// answered.
func (p *peers) measured(t *testing.T) {
	t.Helper()
	var said []string
	for _, node := range p.names {
		text, err := os.ReadFile(p.logs + "/" + node)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "took addresses of a node that died") {
				said = append(said, node+": "+line)
			}
		}
	}
	t.Log(said)
	if len(said) == 0 {
		t.Error("nobody measured a gap")
	}
}

// judge judges what was heard of an address until end, and returns for how long nobody and
// for how long two answered. It may have moved if moves is set.
func (p *peers) judge(t *testing.T, addr netip.Addr, h *asktest.Heard, moves bool, most asktest.Limits, end time.Time) (silence, doubled time.Duration) {
	t.Helper()
	silence, doubled = h.Silence(end), h.Doubled(100*time.Millisecond)
	var nodes []string
	for _, mac := range h.Moves() {
		nodes = append(nodes, p.node(mac))
	}
	if len(nodes) > 8 {
		nodes = nodes[:8]
	}
	t.Logf("%s: %v without an answer, %v with two, at %v", addr, silence.Round(time.Millisecond), doubled.Round(time.Millisecond), nodes)
	if silence > most.Silence || doubled > most.Doubled {
		t.Errorf("%s: no answer for %v, two for %v; at most %v and %v", addr, silence, doubled, most.Silence, most.Doubled)
	}
	if !moves && len(nodes) != 1 {
		t.Errorf("%s moved: %v", addr, nodes)
	}
	return silence, doubled
}

// TestHandOverIsAnswered: while a node that shuts down hands its addresses over, and has them
// back, somebody answers for each of them all the time.
func TestHandOverIsAnswered(t *testing.T) {
	t.Parallel()
	p := newPeers(t, peerSetup{})
	const node = "a"
	owners := p.settled(t)
	stop := p.ask(t)
	for _, where := range []string{"shutting down", "back"} {
		time.Sleep(time.Second)
		p.signal(t, node, syscall.SIGUSR1)
		nstest.Eventually(t, "its addresses are elsewhere when it is "+where, func() bool {
			moved := true
			for addr, h := range p.listen(t, time.Second/2) {
				macs := h.Moves()
				moved = moved && len(macs) == 1 && (owners[addr] != node || (p.node(macs[0]) == node) == (where == "back"))
			}
			return moved
		})
	}
	end := time.Now()
	for addr, h := range stop() {
		silence, doubled := h.Silence(end), h.Doubled(100*time.Millisecond)
		t.Logf("%s of %s: %v without an answer, %v with two", addr, owners[addr], silence.Round(time.Millisecond), doubled.Round(time.Millisecond))
		if silence > 2*time.Second || doubled > asktest.Wide.Doubled {
			t.Errorf("%s: no answer for %v, two for %v", addr, silence, doubled)
		}
		if owners[addr] != node && len(h.Moves()) != 1 {
			t.Errorf("%s moved", addr)
		}
	}
}
