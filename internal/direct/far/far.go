package far

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/fairlead/fairlead/internal/direct"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy/director"
)

// answersPerSecond bounds what this node answers.
const answersPerSecond = 500

// Far asks nodes of other subnets, and answers them.
type Far struct {
	log     *slog.Logger
	changed func() // Ways returns something else
	done    chan struct{}
	kick    chan struct{} // there are other targets
	limit   *rate.Limiter

	mu      sync.Mutex
	open    bool
	routes  *netlink.Handle // of the network namespace of the first Set
	v4, v6  *socket         // nil: the node does without the family
	links   map[int]bool
	targets map[netip.Addr]*target
	accept  map[netip.Addr]bool
	last    map[netip.Addr]direct.Way
}

// New returns a Far that begins to ask with the first Set that has targets.
func New(log *slog.Logger, changed func()) *Far {
	return &Far{
		log: log, changed: changed, done: make(chan struct{}), kick: make(chan struct{}, 1), limit: rate.NewLimiter(answersPerSecond, answersPerSecond),
		targets: map[netip.Addr]*target{}, last: map[netip.Addr]direct.Way{},
	}
}

// Set says which addresses of nodes of other subnets are asked, over which of this node's links,
// and whether there is an agent to answer; and which addresses are answered. The way to a node
// whose agent does not speak stays as it was: packets get there. Set opens sockets in the network
// namespace of its caller.
func (f *Far) Set(links []snapshot.Link, targets map[netip.Addr]bool, accept []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(targets)+len(accept) > 0 && !f.open {
		if err := f.begin(); err != nil {
			return err
		}
	}
	f.links, f.accept = map[int]bool{}, map[netip.Addr]bool{}
	for _, l := range links {
		f.links[l.Index] = true
	}
	for _, a := range accept {
		f.accept[a] = true
	}
	maps.DeleteFunc(f.targets, func(a netip.Addr, _ *target) bool { _, stays := targets[a]; return !stays })
	for a, speaks := range targets {
		if t := f.targets[a]; t != nil {
			t.mute = !speaks
		} else {
			f.targets[a] = &target{route: f.route(a), mute: !speaks} // the caller is to know the link at once
			select {
			case f.kick <- struct{}{}:
			default:
			}
		}
	}
	return nil
}

func (f *Far) begin() (err error) {
	if f.routes, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	var failed4, failed6 error
	f.v4, failed4 = listen(false)
	f.v6, failed6 = listen(true)
	if failed4 != nil && failed6 != nil {
		f.routes.Close()
		return errors.Join(failed4, failed6)
	}
	f.open = true
	for _, s := range []*socket{f.v4, f.v6} {
		if s != nil {
			go f.hear(s)
		}
	}
	go f.run()
	return nil
}

// Close ends it. It may be called once.
func (f *Far) Close() {
	close(f.done)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.open {
		return
	}
	f.routes.Close()
	for _, s := range []*socket{f.v4, f.v6} {
		if s != nil {
			_ = s.Close()
		}
	}
}

// Ways are those to the targets that have answered.
func (f *Far) Ways() map[netip.Addr]direct.Way {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ways()
}

func (f *Far) ways() map[netip.Addr]direct.Way {
	out := map[netip.Addr]direct.Way{}
	for a, t := range f.targets {
		if w, ok := t.way(); ok {
			out[a] = w
		}
	}
	return out
}

// Asking reports whether a target has neither answered nor been asked so often that it would have.
func (f *Far) Asking() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.targets {
		if t.route.Link != 0 && !t.mute && t.proven == 0 && t.missed < lostRounds {
			return true
		}
	}
	return false
}

// Links are the indexes of those of this node's links that routes to targets take, whether they
// answer or not.
func (f *Far) Links() map[int]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[int]bool{}
	for _, t := range f.targets {
		if t.route.Link != 0 {
			out[t.route.Link] = true
		}
	}
	return out
}

// route is how this node's routes lead to an address, by one of its links.
func (f *Far) route(to netip.Addr) (w direct.Way) {
	list, err := f.routes.RouteGet(to.AsSlice())
	if err != nil || len(list) == 0 || !f.links[list[0].LinkIndex] {
		return w
	}
	r := list[0]
	from, ok := netip.AddrFromSlice(r.Src)
	l, err := f.routes.LinkByIndex(r.LinkIndex)
	if !ok || err != nil {
		return w
	}
	w = direct.Way{Link: r.LinkIndex, From: from.Unmap(), MTU: l.Attrs().MTU}
	if r.MTU > 0 {
		w.MTU = min(w.MTU, r.MTU)
	}
	return w
}

func (f *Far) run() {
	beat := time.NewTicker(tick)
	defer beat.Stop()
	for {
		select {
		case <-f.done:
			return
		case <-beat.C:
			f.round(true)
		case <-f.kick:
			f.round(false)
		}
	}
}

// round asks those targets that are due. With judge it first takes in what was answered.
func (f *Far) round(judge bool) {
	f.mu.Lock()
	now := time.Now()
	for a, t := range f.targets {
		if judge {
			t.judge(now)
		}
		if t.asked == nil && !t.mute && !now.Before(t.due) {
			f.ask(a, t)
		}
	}
	is := f.ways()
	other := !maps.Equal(f.last, is)
	if f.last = is; other {
		f.log.Info("ways to other subnets", "asked", len(f.targets), "carry packets", len(is))
	}
	f.mu.Unlock()
	if other {
		f.changed()
	}
}

// ask asks a target with packets of some lengths.
func (f *Far) ask(a netip.Addr, t *target) {
	t.route, t.asked = f.route(a), map[uint64]int{}
	s, header := f.socket(a), direct.Header(a)
	if t.route.Link == 0 || s == nil {
		return
	}
	for _, size := range sizes(t.route.MTU, header) {
		nonce := rand.Uint64()
		t.asked[nonce] = size
		s.send(message(hello, nonce, size-header), t.route.From, a)
		if size == t.proven {
			break
		}
	}
}

func (f *Far) socket(a netip.Addr) *socket {
	if a.Is6() {
		return f.v6
	}
	return f.v4
}

// hear takes in what comes by one socket, until it is closed.
func (f *Far) hear(s *socket) {
	b := make([]byte, 1<<16)
	for {
		n, from, to, err := s.read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // what ICMP said of a packet
		}
		w, nonce, ok := parse(b[:n])
		switch {
		case !ok:
		case w == came:
			f.answered(from, nonce)
		default:
			f.reply(s, from, to, nonce)
		}
	}
}

func (f *Far) answered(from netip.Addr, nonce uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.targets[from]; t != nil {
		t.best = max(t.best, t.asked[nonce])
	}
}

// reply answers a node whose packets this node's program takes.
func (f *Far) reply(s *socket, from, to netip.Addr, nonce uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.accept[from] && f.limit.Allow() {
		s.send(message(came, nonce, 0), to, from)
	}
}

// socket is the header's port of one family.
type socket struct {
	net.PacketConn
	v4 *ipv4.PacketConn
	v6 *ipv6.PacketConn
}

// listen opens the header's port. What it sends is never split, and as long as the link takes.
func listen(v6 bool) (*socket, error) {
	network, level, option := "udp4", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if v6 {
		network, level, option = "udp6", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), level, option, unix.IP_PMTUDISC_PROBE) // the same number for IPv6
		})
		return errors.Join(err, failed)
	}}
	c, err := config.ListenPacket(context.Background(), network, fmt.Sprintf(":%d", director.Port))
	if err != nil {
		return nil, err
	}
	s := &socket{PacketConn: c}
	if v6 {
		s.v6 = ipv6.NewPacketConn(c)
		err = s.v6.SetControlMessage(ipv6.FlagDst, true)
	} else {
		s.v4 = ipv4.NewPacketConn(c)
		err = s.v4.SetControlMessage(ipv4.FlagDst, true)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return s, nil
}

// read returns a message, who sent it, and to which address of this node.
func (s *socket) read(b []byte) (n int, from, to netip.Addr, err error) {
	var source net.Addr
	var at net.IP
	if s.v6 != nil {
		var m *ipv6.ControlMessage
		if n, m, source, err = s.v6.ReadFrom(b); m != nil {
			at = m.Dst
		}
	} else {
		var m *ipv4.ControlMessage
		if n, m, source, err = s.v4.ReadFrom(b); m != nil {
			at = m.Dst
		}
	}
	if u, ok := source.(*net.UDPAddr); ok && u.Port == director.Port {
		from = u.AddrPort().Addr().Unmap()
	}
	to, _ = netip.AddrFromSlice(at)
	return n, from, to.Unmap(), err
}

// send sends a message from one of this node's addresses. What is lost is seen by its answer,
// which does not come.
func (s *socket) send(b []byte, from, to netip.Addr) {
	at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, director.Port))
	if s.v6 != nil {
		_, _ = s.v6.WriteTo(b, &ipv6.ControlMessage{Src: from.AsSlice()}, at)
		return
	}
	_, _ = s.v4.WriteTo(b, &ipv4.ControlMessage{Src: from.AsSlice()}, at)
}
