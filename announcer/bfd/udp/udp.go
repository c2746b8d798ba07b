// Package udp runs BFD sessions over UDP: one hop on port 3784 (RFC 5881), more
// on port 4784 (RFC 5883).
//
// One thread owns every socket and session. It empties the sockets before it
// judges a timer, so that a node that was too busy to read takes no packet that
// arrived meanwhile for lost.
package udp

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer/bfd"
	"github.com/fairlead/fairlead/internal/urgent"
)

// Peer is one neighbour to watch the path to.
type Peer struct {
	Addr     netip.Addr
	Source   netip.Addr // address to send from; invalid: the kernel chooses
	Multihop bool       // the neighbour is not on a link of this node
	Links    []string   // that its packets may come by; empty: any
	MinTTL   uint8      // that its packets must have over several hops; 0: any
	bfd.Config
}

// leastTTL is the TTL that the neighbour's packets must have. Over one hop it is the
// one that they were sent with (RFC 5881 section 5).
func (p Peer) leastTTL() int {
	if p.Multihop {
		return int(p.MinTTL)
	}
	return ttl
}

// same reports whether p asks for what o does.
func (p Peer) same(o Peer) bool {
	links := slices.Equal(p.Links, o.Links)
	p.Links, o.Links = nil, nil
	return links && reflect.DeepEqual(p, o)
}

// Status is what is known of one path.
type Status struct {
	Addr      netip.Addr
	State     bfd.State
	Remote    bfd.State
	Diag      bfd.Diag
	Since     time.Time     // of State
	Detection time.Duration // 0 before the neighbour spoke
	Flaps     uint64        // how often it left Up
}

// Speaker runs the sessions. Sync and Status may be called at any time, and
// have an effect while Run does.
type Speaker struct {
	log     *slog.Logger
	changed func(Status)

	mu      sync.Mutex
	wanted  []Peer
	status  []Status
	wake    int           // an eventfd; -1 before and after Run
	leaving chan struct{} // closed when every neighbour that can has agreed to wait; nil: nobody asked

	thread loop // Run's alone
}

// loop is what the thread owns.
type loop struct {
	peers   map[netip.Addr]*path
	sockets map[port]int
	buf     []byte
	oob     []byte
	failed  map[netip.Addr]string // what was last logged of it
	left    bool                  // the neighbours were asked to wait
	links   map[int]string        // names by index, as last looked up
}

// path is one session and its socket.
type path struct {
	Peer
	session *bfd.Session
	fd      int
	since   time.Time
	flaps   uint64
	leaving time.Time // when a session that was disabled is dropped; zero: it stays
}

// New makes a Speaker. changed is called, on the thread that keeps the
// sessions, with every change of a state: it must not block.
func New(log *slog.Logger, changed func(Status)) *Speaker {
	return &Speaker{log: log, changed: changed, wake: -1}
}

// Sync makes peers the neighbours whose paths are watched. A session that goes
// away tells its neighbour Admin Down first.
func (s *Speaker) Sync(peers []Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = slices.Clone(peers)
	s.poke()
}

// Status returns all paths, sorted by address.
func (s *Speaker) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.status)
}

func (s *Speaker) poke() {
	if s.wake >= 0 {
		_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// leaveWithin is how long Leave waits for answers, which come at once.
const leaveWithin = 500 * time.Millisecond

// Leave asks every neighbour with a Restart to keep its session up for so long, and
// returns when they have agreed, or after half a second. The caller ends Run next: Run
// says Admin Down to those that have not agreed, and nothing to the others.
func (s *Speaker) Leave() {
	s.mu.Lock()
	if s.wake < 0 {
		s.mu.Unlock()
		return
	}
	s.leaving = make(chan struct{})
	agreed := s.leaving
	s.poke()
	s.mu.Unlock()
	select {
	case <-agreed:
	case <-time.After(leaveWithin):
	}
}

// leave asks the neighbours to wait, once, and takes in when they have agreed.
func (s *Speaker) leave(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving == nil {
		return
	}
	settled := true
	for _, p := range s.thread.peers {
		if !s.thread.left {
			p.session.Leave(now)
		}
		settled = settled && (p.Restart == 0 || p.session.Settled())
	}
	s.thread.left = true
	if settled {
		close(s.leaving)
		s.leaving = nil
	}
}

// farewell is how long a session that is dropped goes on saying Admin Down.
const farewell = 50 * time.Millisecond

// Run keeps the sessions until ctx ends, and then says Admin Down to every neighbour
// that has not agreed to wait (see Leave). It keeps the goroutine's thread to itself, in the network namespace
// that it was called in. The error tells what could not be started.
func (s *Speaker) Run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	s.mu.Lock()
	s.wake = wake
	s.mu.Unlock()
	defer s.close()
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.poke()
	})
	defer stop()
	s.thread = loop{peers: map[netip.Addr]*path{}, sockets: map[port]int{}, buf: make([]byte, 512), oob: make([]byte, 128), failed: map[netip.Addr]string{}, links: map[int]string{}}
	// An ordinary thread with short turns (Linux 6.12) was no better than one without: at 50 ms x 3,
	// with two busy programs on each of two cores, 24 and 21 sessions went down within 40 s, and 1
	// with SCHED_RR.
	if err := urgent.Thread(); err != nil {
		s.log.Warn("BFD runs at ordinary priority: busy CPUs may take sessions down", "error", err)
	}
	for ctx.Err() == nil {
		s.follow(time.Now())
		s.leave(time.Now())
		s.wait()
		s.drain()
		s.tick(time.Now())
		s.publish()
	}
	return nil
}

func (s *Speaker) close() {
	now := time.Now()
	for _, p := range s.thread.peers {
		waits := s.thread.left && p.Restart > 0 && p.session.State() == bfd.Up && p.session.Settled()
		if !waits {
			p.send(p.session.Disable(now))
		}
		_ = unix.Close(p.fd)
	}
	for _, fd := range s.thread.sockets {
		_ = unix.Close(fd)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = unix.Close(s.wake)
	s.wake, s.status = -1, nil
}

// follow brings the sessions up to what is wanted.
func (s *Speaker) follow(now time.Time) {
	s.mu.Lock()
	wanted := s.wanted
	s.mu.Unlock()
	keep := map[netip.Addr]bool{}
	for _, w := range wanted {
		keep[w.Addr] = true
		if err := s.want(w, now); err != nil {
			s.complain(w.Addr, err)
		} else {
			delete(s.thread.failed, w.Addr)
		}
	}
	for addr, p := range s.thread.peers {
		switch {
		case keep[addr]:
		case p.leaving.IsZero():
			p.leaving = now.Add(farewell)
			p.send(p.session.Disable(now))
		case !now.Before(p.leaving):
			_ = unix.Close(p.fd)
			delete(s.thread.peers, addr)
		}
	}
	if len(s.thread.peers) == 0 {
		s.closeSockets()
	}
}

// complain logs an error of addr once, until it is another.
func (s *Speaker) complain(addr netip.Addr, err error) {
	if s.thread.failed[addr] != err.Error() {
		s.thread.failed[addr] = err.Error()
		s.log.Error("BFD", "peer", addr, "error", err)
	}
}

func (s *Speaker) want(w Peer, now time.Time) error {
	have := s.thread.peers[w.Addr]
	if have != nil && have.same(w) && have.leaving.IsZero() {
		return nil
	}
	// Its socket fits, so the session goes on: the neighbour learns of other times by a poll.
	if have != nil && have.Source == w.Source && have.Multihop == w.Multihop && have.leaving.IsZero() {
		have.Peer = w
		have.session.Configure(w.Config, now)
		return nil
	}
	if have != nil {
		_ = unix.Close(have.fd)
		delete(s.thread.peers, w.Addr)
	}
	if err := s.listen(portOf(w)); err != nil {
		return err
	}
	fd, err := dial(w)
	if err != nil {
		return err
	}
	s.thread.peers[w.Addr] = &path{Peer: w, session: bfd.NewSession(s.discriminator(w), w.Config, now), fd: fd, since: now}
	return nil
}

// discriminator is one that no other session has. With a Restart it is the same as
// before the restart.
func (s *Speaker) discriminator(w Peer) uint32 {
	d := rand.Uint32()
	if w.Restart > 0 {
		h := fnv.New32a()
		_, _ = fmt.Fprint(h, w.Addr, w.Source, w.Multihop)
		d = h.Sum32()
	}
	for ; ; d = rand.Uint32() {
		if d != 0 && s.byDiscriminator(d) == nil {
			return d
		}
	}
}

func (s *Speaker) byDiscriminator(d uint32) *path {
	for _, p := range s.thread.peers {
		if p.session.Discriminator() == d {
			return p
		}
	}
	return nil
}

// arrival is how a packet came.
type arrival struct {
	from     netip.Addr
	multihop bool // by that port
	ttl      int  // or hop limit; 0: unknown
	link     int  // its index; 0: unknown
}

// receive hands a packet to its session. One that could come from somebody else than
// the neighbour is not believed.
func (s *Speaker) receive(b []byte, a arrival, now time.Time) {
	packet, err := bfd.Decode(b)
	if err != nil {
		return
	}
	p := s.thread.peers[a.from]
	if p == nil || p.Multihop != a.multihop || a.ttl < p.leastTTL() || !s.by(p.Links, a.link) {
		return
	}
	s.act(p, func() []bfd.Packet { return p.session.Receive(packet, now, rand.Float64()) }, now)
}

// by reports whether link is one of names. A link's name is looked up again when it
// does not fit: a new link may have the index of an earlier one.
func (s *Speaker) by(names []string, link int) bool {
	if len(names) == 0 || slices.Contains(names, s.thread.links[link]) {
		return true
	}
	delete(s.thread.links, link)
	return slices.Contains(names, s.linkName(link))
}

// linkName returns the name of the link with an index, or "" if it does not exist.
func (s *Speaker) linkName(link int) string {
	name, known := s.thread.links[link]
	if !known {
		l, err := net.InterfaceByIndex(link)
		if err != nil {
			return ""
		}
		name = l.Name
		s.thread.links[link] = name
	}
	return name
}

// tick lets every session do what is due.
func (s *Speaker) tick(now time.Time) {
	for _, p := range s.thread.peers {
		if at := p.session.Deadline(); !at.IsZero() && !now.Before(at) {
			s.act(p, func() []bfd.Packet { return p.session.Tick(now, rand.Float64()) }, now)
		}
	}
}

func (s *Speaker) act(p *path, do func() []bfd.Packet, now time.Time) {
	before := p.session.State()
	p.send(do())
	if p.session.State() == before {
		return
	}
	p.since = now
	if before == bfd.Up {
		p.flaps++
	}
	s.changed(p.status())
}

func (p *path) status() Status {
	return Status{
		Addr: p.Addr, State: p.session.State(), Remote: p.session.Remote(), Diag: p.session.Diag(), Since: p.since,
		Detection: p.session.Detection(), Flaps: p.flaps,
	}
}

func (s *Speaker) publish() {
	var out []Status
	for _, p := range s.thread.peers {
		if p.leaving.IsZero() {
			out = append(out, p.status())
		}
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Or(a.Addr.Compare(b.Addr)) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = out
}

// pause is the time until a session has something to do, a second at most.
func (s *Speaker) pause(now time.Time) time.Duration {
	out := time.Second
	for _, p := range s.thread.peers {
		if at := p.session.Deadline(); !at.IsZero() {
			out = min(out, at.Sub(now))
		}
		if !p.leaving.IsZero() {
			out = min(out, p.leaving.Sub(now))
		}
	}
	return max(out, 0)
}
