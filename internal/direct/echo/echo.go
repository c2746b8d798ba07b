package echo

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/fairlead/fairlead/internal/direct"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// addrOf is a peer's address of a family, not valid if it has none.
func addrOf(p direct.Peer, v6 bool) netip.Addr {
	if v6 {
		return p.IPv6
	}
	return p.IPv4
}

// Times and bounds.
const (
	// answerWithin is how long an answer may take.
	answerWithin = time.Second
	// restFor is the time between two rounds if nothing is in doubt.
	restFor = 30 * time.Second
	// askAtOnce is how many nodes are asked in a round.
	askAtOnce = 4
	// answersPerSecond bounds what this node answers.
	answersPerSecond = 100
)

// Echo asks other nodes whether packets come through, and answers them. The zero value is
// not usable.
type Echo struct {
	log     *slog.Logger
	changed func() // Verdict returns something else
	begin   sync.Once
	done    chan struct{}
	limit   *rate.Limiter
	answer  chan frame

	mu       sync.Mutex
	stations map[int]*station // by link
	peers    []direct.Peer
	vips     []netip.Addr
	v4, v6   judge
}

// station is this node on one link.
type station struct {
	link   snapshot.Link // guarded by Echo.mu
	mac    net.HardwareAddr
	v4, v6 *packet.Conn
}

func (s *station) close() { _, _ = s.v4.Close(), s.v6.Close() }

// New returns an Echo that begins to ask with the first Set.
func New(log *slog.Logger, changed func()) *Echo {
	return &Echo{
		log: log, changed: changed, done: make(chan struct{}), answer: make(chan frame, 64),
		limit: rate.NewLimiter(answersPerSecond, answersPerSecond), stations: map[int]*station{},
	}
}

// Close ends it. It may be called once.
func (e *Echo) Close() {
	close(e.done)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.stations {
		s.close()
	}
	e.stations = nil
}

// Verdict says why the network does not let the director work, "" if it does. It is not
// known before some rounds.
func (e *Echo) Verdict() (why string, known bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return verdict(&e.v4, &e.v6)
}

// Set says on which links this node asks which other nodes, and for which VIPs. It opens
// sockets in the network namespace of its caller.
func (e *Echo) Set(links []snapshot.Link, peers []direct.Peer, vips []netip.Addr) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.peers, e.vips = peers, vips
	for index, s := range e.stations {
		if !slices.ContainsFunc(links, func(l snapshot.Link) bool { return l.Index == index && l.MAC == s.link.MAC }) {
			s.close()
			delete(e.stations, index)
		}
	}
	var failed []error
	for _, l := range links {
		if s := e.stations[l.Index]; s != nil {
			s.link = l // its addresses may be others
			continue
		}
		s, err := open(l)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		e.stations[l.Index] = s
		go e.listen(s, s.v4)
		go e.listen(s, s.v6)
	}
	e.begin.Do(func() { go e.ask() })
	return errors.Join(failed...)
}

func open(l snapshot.Link) (*station, error) {
	mac, err := net.ParseMAC(l.MAC)
	if err != nil {
		return nil, err
	}
	s := &station{link: l, mac: mac}
	for conn, family := range map[**packet.Conn]uint16{&s.v4: unix.ETH_P_IP, &s.v6: unix.ETH_P_IPV6} {
		program, err := filter(family == unix.ETH_P_IPV6)
		if err == nil {
			*conn, err = packet.Listen(&net.Interface{Index: l.Index, Name: l.Name, HardwareAddr: mac}, packet.Raw, int(family), &packet.Config{Filter: program})
		}
		if err != nil {
			for _, c := range []*packet.Conn{s.v4, s.v6} {
				if c != nil {
					_ = c.Close()
				}
			}
			return nil, fmt.Errorf("open packet socket on %s: %w", l.Name, err)
		}
	}
	return s, nil
}

// listen takes in what comes by one socket, until it is closed.
func (e *Echo) listen(s *station, conn *packet.Conn) {
	b := make([]byte, 256)
	for {
		n, _, err := conn.ReadFrom(b)
		if errors.Is(err, unix.ENETDOWN) {
			continue // the socket says so once
		}
		if err != nil {
			return
		}
		f, ok := parse(b[:n])
		if !ok || !bytes.Equal(f.to, s.mac) {
			continue // what this node sends is seen as well
		}
		if f.from = bytes.Clone(f.from); f.word == came {
			select {
			case e.answer <- f:
			default:
			}
			continue
		}
		e.reply(s, conn, f)
	}
}

// reply answers a node that this one knows, at the address that it has.
func (e *Echo) reply(s *station, conn *packet.Conn, f frame) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.IndexFunc(e.peers, func(p direct.Peer) bool { return p.Link == s.link.Index && bytes.Equal(p.MAC, f.from) })
	v6 := conn == s.v6
	own := s.own(v6)
	if i < 0 || !addrOf(e.peers[i], v6).IsValid() || !own.IsValid() || !e.limit.Allow() {
		return
	}
	s.send(v6, frame{from: s.mac, to: f.from, source: own, ip: addrOf(e.peers[i], v6), word: came, kind: f.kind, nonce: f.nonce})
}

// own is an address of this node on the link, not valid if it has none of the family.
func (s *station) own(v6 bool) (a netip.Addr) {
	for _, p := range s.link.Prefixes {
		if p.Addr().Is6() == v6 && !p.Addr().IsLinkLocalUnicast() {
			return p.Addr()
		}
	}
	return a
}

// send sends a frame. What is lost is seen by its answer, which does not come.
func (s *station) send(v6 bool, f frame) {
	conn := s.v4
	if v6 {
		conn = s.v6
	}
	_, _ = conn.WriteTo(f.bytes(), &packet.Addr{HardwareAddr: f.to})
}

// ask asks in rounds.
func (e *Echo) ask() {
	for {
		settled := e.round()
		rest := restFor
		if !settled {
			rest = answerWithin
		}
		select {
		case <-e.done:
			return
		case <-time.After(rest):
		}
	}
}

// round asks some nodes, and takes in what they answer. It reports whether the next one can
// wait.
func (e *Echo) round() bool {
	asked := e.send()
	e.collect(asked)
	var v4, v6 []heard
	for _, q := range asked {
		if q.v6 {
			v6 = append(v6, q.heard)
		} else {
			v4 = append(v4, q.heard)
		}
	}
	e.mu.Lock()
	before, was := verdict(&e.v4, &e.v6)
	if len(e.stations) > 0 {
		e.v4.add("IPv4", v4)
		e.v6.add("IPv6", v6)
	}
	after, is := verdict(&e.v4, &e.v6)
	settled := e.v4.settled() && e.v6.settled()
	e.mu.Unlock()
	if before != after || was != is {
		e.log.Info("the network, for the director", "drops", after)
		e.changed()
	}
	return settled
}

// question is what one node is asked in a round, by its nonce.
type question struct {
	v6 bool
	heard
}

// send asks some nodes for packets from an address of each kind.
func (e *Echo) send() map[uint64]*question {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked := map[uint64]*question{}
	for _, i := range rand.Perm(len(e.peers)) {
		p := e.peers[i]
		s := e.stations[p.Link]
		if s == nil || len(asked) >= 2*askAtOnce {
			continue
		}
		for _, v6 := range []bool{false, true} {
			own, to := s.own(v6), addrOf(p, v6)
			if !own.IsValid() || !to.IsValid() {
				continue
			}
			nonce := rand.Uint64()
			asked[nonce] = &question{v6: v6}
			from := [kinds]netip.Addr{ownAddress: own}
			from[client], from[vip] = sources(v6, e.vips)
			for k, source := range from {
				s.send(v6, frame{from: s.mac, to: p.MAC, source: source, ip: to, kind: kind(k), nonce: nonce})
			}
		}
	}
	return asked
}

// collect takes in answers until all are there, or they are late.
func (e *Echo) collect(asked map[uint64]*question) {
	late := time.After(answerWithin)
	for left := len(asked) * int(kinds); left > 0; {
		select {
		case f := <-e.answer:
			if q := asked[f.nonce]; q != nil && !q.heard[f.kind] {
				q.heard[f.kind] = true
				left--
			}
		case <-late:
			return
		case <-e.done:
			return
		}
	}
}
