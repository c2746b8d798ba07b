package l2

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/watch"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/urgent"
)

// Watcher asks the kernels of other nodes on links, and hears what other Watchers say. Its
// methods are safe for concurrent use.
type Watcher struct {
	// Changed, if given before Run, is called from Run when Seen is another. It must not
	// block.
	Changed func()

	log *slog.Logger

	mu    sync.Mutex
	seals seals
	want  announcer.Watching
	news  bool // want is not followed yet
	early bool // seen is from before want
	seen  Seen
	at    time.Time // of seen
}

// Seen is what a Watcher found, each list sorted.
type Seen struct {
	Lost      []watch.Target // nodes that do not answer on a link: two others agree. It may name this node
	Answering []watch.Target // targets that answer
	// Heard is when a host that is not missed was heard last on each link on which this node
	// can listen.
	Heard map[string]time.Time
	// Last is when each node of Lost answered this node last, as far as it asked.
	Last map[string]time.Time
}

// staleAfter is how long Seen is believed when the Watcher stands still.
const staleAfter = 20 * watch.Interval

// idlePoll is how long the Watcher of nobody waits for a word.
const idlePoll = 100 * time.Millisecond

// NewWatcher makes a Watcher that signs what it says with own, unless that is nil. It starts
// nothing, and neither speaks nor believes anybody before SetKeys.
func NewWatcher(own ed25519.PrivateKey, log *slog.Logger) *Watcher {
	return &Watcher{log: log, seals: seals{own: own}}
}

// Follow makes w what to watch.
func (w *Watcher) Follow(want announcer.Watching) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !reflect.DeepEqual(w.want, want) {
		w.want, w.news, w.early = want, true, true
	}
}

// Seen returns what was found last; nothing if that is too long ago.
func (w *Watcher) Seen() Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Answers and frames from before this thread stood still prove nothing now.
	if time.Since(w.at) > staleAfter {
		return Seen{Lost: w.seen.Lost, Last: w.seen.Last}
	}
	return w.seen
}

// HeardAt returns when a host that is not missed was heard last on link; zero: never, or it
// is not known yet. It is now for a link that cannot be listened on, and if w was given
// nothing to watch.
func (w *Watcher) HeardAt(link string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, listens := w.seen.Heard[link]
	switch {
	// A link on which nobody listened yet passed for one that is heard.
	case w.early && !listens: // its sockets are not open yet
		return time.Time{}
	case w.at.IsZero():
		return time.Now()
	case time.Since(w.at) > staleAfter:
		return time.Time{}
	// Nothing could ever prove a link that cannot be listened on, and its addresses would wait for good.
	case !listens:
		return time.Now()
	}
	return at
}

// Carries reports whether another node answered on link just now.
func (w *Watcher) Carries(link string) bool {
	return slices.ContainsFunc(w.Seen().Answering, func(at watch.Target) bool { return at.Link == link })
}

// Run watches until ctx ends. It keeps a thread to itself, which waits for nothing but the
// links, and has to be called in their network namespace.
func (w *Watcher) Run(ctx context.Context) {
	runtime.LockOSThread() // and never unlocks it: the thread's priority is to end with it
	if err := urgent.Thread(); err != nil {
		w.log.Warn("the watch over other nodes runs at ordinary priority: on busy CPUs a lost node is replaced later", "error", err)
	}
	t := w.newThread(time.Now())
	defer t.close()
	for ctx.Err() == nil {
		t.follow()
		t.turn()
	}
}

// newThread makes what Run keeps, at time now. The words of this node are numbered from then
// on, although it may say the first one much later: if its clock was set back by then, the
// others would take that word for an old one.
func (w *Watcher) newThread(now time.Time) *thread {
	return &thread{
		Watcher: w, ports: map[string]*watchPort{}, failed: map[string]string{}, heard: map[speaker]uint64{},
		serials: serials{start: now}, floor: numberAt(now.Add(-maxSkew)),
	}
}

// thread is what Run keeps.
type thread struct {
	*Watcher
	watch   watch.Watch
	ports   map[string]*watchPort // by link
	nodes   map[string]string     // by MAC
	answers map[answerKey]watch.Target
	frames  map[watch.Target][]byte
	macs    map[watch.Target]string
	wary    []string          // Watching.Listen
	failed  map[string]string // what was last logged, by link
	serials serials
	heard   map[speaker]uint64 // the last number of each
	floor   uint64             // no number below it is of one who speaks now
}

// speaker is a node on a link.
type speaker struct{ node, link string }

type answerKey struct {
	link, mac string
	addr      netip.Addr
}

// watchPort is the sockets on one link.
type watchPort struct {
	link                 snapshot.Link
	mac                  net.HardwareAddr
	arp, ndp, word, ears *socket // ears hears anybody, while that matters; else nil
	noEars               bool    // they could not be opened
}

func (p *watchPort) sockets() []*socket {
	return slices.DeleteFunc([]*socket{p.arp, p.ndp, p.word, p.ears}, func(s *socket) bool { return s == nil })
}

func (p *watchPort) close() {
	for _, s := range p.sockets() {
		_ = s.conn.Close()
	}
}

func (t *thread) close() {
	for _, p := range t.ports {
		p.close()
	}
}

// follow takes in what to watch, if that is another.
func (t *thread) follow() {
	t.mu.Lock()
	want, news := t.want, t.news
	t.news = false
	t.mu.Unlock()
	if !news {
		return
	}
	t.nodes, t.wary = want.Nodes, want.Listen
	t.openPorts(want.Links)
	t.answers, t.frames, t.macs = map[answerKey]watch.Target{}, map[watch.Target][]byte{}, map[watch.Target]string{}
	var targets []watch.Target
	for _, q := range want.Ask {
		p := t.ports[q.Link]
		if p == nil {
			continue
		}
		frame, err := questionFrame(p.mac, q)
		t.logError(q.Link, err)
		if err != nil {
			continue
		}
		at := watch.Target{Node: q.Node, Link: q.Link}
		t.frames[at], t.macs[at] = frame, q.MAC
		t.answers[answerKey{q.Link, q.MAC, q.To}] = at
		targets = append(targets, at)
	}
	t.watch.Follow(targets)
}

// openPorts has sockets on links alone. A link whose sockets cannot be opened is tried again.
func (t *thread) openPorts(links []snapshot.Link) {
	for name, p := range t.ports {
		if !slices.ContainsFunc(links, func(l snapshot.Link) bool { return l.Name == name && l.Index == p.link.Index && l.MAC == p.link.MAC }) {
			p.close()
			delete(t.ports, name)
		}
	}
	for _, l := range links {
		if p := t.ports[l.Name]; p != nil {
			p.link = l // its addresses may have changed
			continue
		}
		p, err := openPort(l)
		t.logError(l.Name, err)
		if err == nil {
			t.ports[l.Name] = p
		}
	}
}

func openPort(l snapshot.Link) (*watchPort, error) {
	mac, err := net.ParseMAC(l.MAC)
	if err != nil {
		return nil, fmt.Errorf("watch on %s: %w", l.Name, err)
	}
	p := &watchPort{link: l, mac: mac}
	for _, s := range []struct {
		at     **socket
		kind   int
		filter []bpf.Instruction
	}{{&p.arp, etherARP, replyFilter}, {&p.ndp, etherIPv6, advertFilter}, {&p.word, etherWord, wordFilter}} {
		if *s.at, err = p.listen(s.kind, s.filter); err != nil {
			p.close()
			return nil, err
		}
	}
	if err := p.word.conn.JoinGroup(wordGroup); err != nil {
		p.close()
		return nil, fmt.Errorf("watch on %s: %w", l.Name, err)
	}
	return p, nil
}

func (p *watchPort) listen(kind int, filter []bpf.Instruction) (*socket, error) {
	program, err := bpf.Assemble(filter)
	if err != nil {
		return nil, fmt.Errorf("socket filter: %w", err)
	}
	conn, err := packet.Listen(&net.Interface{Index: p.link.Index, Name: p.link.Name, HardwareAddr: p.mac}, packet.Raw, kind, &packet.Config{Filter: program})
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", p.link.Name, err)
	}
	return &socket{conn: conn}, nil
}

// turn waits for a frame or the next round, and works on it.
func (t *thread) turn() {
	wait := idlePoll
	if len(t.frames) > 0 {
		wait = min(wait, time.Until(t.watch.Due()))
	}
	t.poll(wait)
	for name, p := range t.ports {
		t.hear(name, p)
	}
	t.say() // at once: others wait for it
	if now := time.Now(); len(t.frames) > 0 && !now.Before(t.watch.Due()) {
		for _, q := range t.watch.Round(now) {
			t.ask(q)
		}
		t.say()
	}
	t.listenClosely(time.Now())
	t.tell(time.Now())
}

// poll waits until a socket has something, for at most wait.
func (t *thread) poll(wait time.Duration) {
	if wait <= 0 {
		return
	}
	var fds []unix.PollFd
	for _, p := range t.ports {
		for _, s := range p.sockets() {
			if raw, err := s.conn.SyscallConn(); err == nil {
				_ = raw.Control(func(fd uintptr) { fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}) })
			}
		}
	}
	limit := unix.NsecToTimespec(wait.Nanoseconds())
	_, _ = unix.Ppoll(fds, &limit, nil) // an early end is the next turn
}

// hear takes in what has come on a link.
func (t *thread) hear(link string, p *watchPort) {
	now := time.Now()
	answer := func(frame []byte) {
		if addr, mac, ok := answerOf(frame); ok {
			if at, asked := t.answers[answerKey{link, mac, addr}]; asked {
				t.watch.Answered(at, now)
				t.watch.Heard(link, now)
			}
		}
	}
	_, a := p.arp.read(mostFrames, answer)
	_, b := p.ndp.read(mostFrames, answer)
	_, c := p.word.read(mostFrames, func(frame []byte) {
		t.hearWord(p.link, frame, now)
	})
	if p.ears != nil {
		t.listen(link, p, now)
	}
	// A socket says ENETDOWN once, and goes on when the link is up again.
	if err := errors.Join(a, b, c); err != nil && !errors.Is(err, unix.ENETDOWN) {
		t.logError(link, err)
		p.close()
		delete(t.ports, link)
		t.again()
	}
}

// hearWord takes in a word of another node, if it is one: neither forged, nor heard before,
// nor said on another link.
func (t *thread) hearWord(link snapshot.Link, frame []byte, now time.Time) {
	w, err := parseWord(frame)
	from := speaker{t.nodes[w.mac], link.Name}
	// A host on two links repeated on one what was said on the other, where nodes have the same
	// MAC on both, as with VLANs of one port (TestWordCountsOnItsLinkAlone).
	if err != nil || from.node == "" || from.node == w.node || !w.saidOn(link) {
		return
	}
	serial, err := t.sealed().open(frame, w.size, from.node)
	// Somebody may have recorded it.
	if err != nil || serial <= max(t.heard[from], t.floor) {
		return
	}
	t.heard[from] = serial
	t.watch.Heard(link.Name, now)
	t.watch.Told(from.node, watch.Target{Node: w.node, Link: link.Name}, w.say, now)
}

// again has what to watch followed once more.
func (t *thread) again() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.news = true
}

// listenClosely opens the ears on links where somebody is missed.
func (t *thread) listenClosely(now time.Time) {
	doubtful := t.watch.Doubtful()
	for name, p := range t.ports {
		// What waits for silence needs a frame that is younger than its questions.
		switch need := slices.Contains(t.wary, name) || slices.Contains(doubtful, name) && t.watch.Listens(name, now); {
		case need && p.ears == nil:
			ears, err := p.listen(unix.ETH_P_ALL, witnessFilter)
			t.logError(name, err)
			if p.noEars = err != nil; err == nil {
				p.ears = ears
			}
		case !need && p.ears != nil:
			_ = p.ears.conn.Close()
			p.ears = nil
		}
	}
}

// lastHeard returns when somebody was heard last on each link that can be listened on.
func (t *thread) lastHeard() map[string]time.Time {
	out := make(map[string]time.Time, len(t.ports))
	for name, p := range t.ports {
		if !p.noEars {
			out[name] = t.watch.LastHeard(name)
		}
	}
	return out
}

// listen looks for a frame of a host that is not missed.
func (t *thread) listen(link string, p *watchPort, now time.Time) {
	_, _ = p.ears.read(mostFrames, func(frame []byte) {
		if len(frame) < etherLen {
			return
		}
		from := net.HardwareAddr(frame[6:12]).String()
		// Some bonds hand back what was sent.
		if from == p.link.MAC {
			return
		}
		for at, mac := range t.macs {
			if at.Link == link && mac == from && t.watch.Missed(at) {
				return
			}
		}
		t.watch.Heard(link, now)
	})
}

func (t *thread) ask(q watch.Question) {
	p := t.ports[q.Link]
	frame := t.frames[q.Target]
	if p == nil || frame == nil {
		return
	}
	s := p.arp
	if frame[12] == etherIPv6>>8 {
		s = p.ndp
	}
	for range q.Times {
		t.send(q.Link, s, frame)
	}
}

// say says what is to be said.
func (t *thread) say() {
	for _, word := range t.watch.Words() {
		p := t.ports[word.Link]
		if p == nil {
			continue
		}
		frame, err := wordFrame(p.link, p.mac, word)
		t.logError(word.Link, err)
		if sealed := t.sealed().close(frame, t.serials.next()); err == nil && sealed != nil {
			t.send(word.Link, p.word, sealed)
		}
	}
}

func (t *thread) send(link string, s *socket, frame []byte) {
	_, err := s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
	t.logError(link, err)
}

// tell keeps what is found, and calls Changed if it is another.
func (t *thread) tell(now time.Time) {
	seen := Seen{Heard: t.lastHeard(), Lost: t.watch.Lost(now), Answering: t.watch.Answering(now)}
	for _, at := range seen.Lost {
		if seen.Last == nil {
			seen.Last = map[string]time.Time{}
		}
		seen.Last[at.Node] = t.watch.LastAnswer(at.Node)
	}
	t.mu.Lock()
	was := t.seen
	t.seen, t.at, t.early = seen, now, t.news
	t.mu.Unlock()
	if slices.Equal(was.Lost, seen.Lost) {
		return
	}
	t.log.Info("nodes on links", "lost", seen.Lost)
	if t.Changed != nil {
		t.Changed()
	}
}

// logError logs an error of a link, once as long as it stays the same.
func (t *thread) logError(link string, err error) {
	if err == nil {
		return
	}
	if t.failed[link] != err.Error() {
		t.failed[link] = err.Error()
		t.log.Warn("cannot watch nodes on a link", "link", link, "error", err)
	}
}
