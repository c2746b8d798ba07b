// Package members tells which nodes are alive. The agents gossip with each other
// (hashicorp/memberlist, encrypted), notice within half a second when one falls
// silent, and ask its kernel before they call the node gone. What an election
// needs to know of a node travels with the gossip; the API server plays no part.
// The judgement itself is announcer.Roster.
package members

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Port is where agents speak with each other, UDP and TCP, unless configured
// otherwise. 7946, memberlist's own, is taken on nodes with MetalLB or Swarm.
const Port = 7947

// Config is what a Members is made of.
type Config struct {
	Node    string
	Boot    string             // this kernel's boot id: BootID
	Bind    netip.AddrPort     // an address of this node, which the others reach
	Keys    [][]byte           // 16, 24 or 32 bytes each; the first encrypts, all decrypt
	Places  func() *Places     // the other nodes'; no other node is believed, or listened to unless Open
	Open    bool               // who has the key is listened to from any address
	Changed func()             // called when View prints differently; must not block
	Prober  Prober             // nil: the node's kernel is asked
	Key     ed25519.PrivateKey // signs this node's reports; nil: they have no signature
	// Answers, if given, reports whether a node's kernel answered on a link just now, this
	// node or another one. It is not asked otherwise then: a firewall may refuse for it.
	Answers func(node string) bool
	// Doubted, if given, is called when a report of a node was not signed by its key: the
	// key may have changed. It must not block or call a method here, and may be called often.
	Doubted func(node string)
	Log     *slog.Logger
	Metrics prometheus.Registerer

	transport memberlist.Transport // nil: UDP and TCP at Bind
	tuning    tuning               // zero: the package's own
}

// Members is one node's part in the gossip. New starts nothing.
type Members struct {
	cfg     Config
	keys    *memberlist.Keyring
	metrics *metrics
	wake    chan struct{}
	urgent  chan struct{}          // wakes the loop, and nothing more is waited for
	list    *memberlist.Memberlist // Run's
	queue   memberlist.TransmitLimitedQueue
	count   atomic.Int32   // members in view
	work    sync.WaitGroup // what the loop started

	mu           sync.Mutex
	roster       announcer.Roster
	signers      map[string]ed25519.PublicKey // see SetSigners
	self         announcer.Report
	settling     announcer.SettleState
	started      time.Time            // of this agent
	booted       time.Time            // is started if the node was gone before; else zero
	formerReport *announcer.Report    // what others remember of this node's earlier agent
	startsOver   bool                 // others remember one, and this is not where it stopped
	formerUntil  time.Time            // formerUntil when that counts
	usedVersion  uint64               // a version in which another agent spoke for this node
	raised       time.Time            // when the version was last raised above that
	heard        map[string]time.Time // last sign of life
	clashes      map[string]clash
	toAsk        map[string]byte              // who is to be asked for his report, and how
	askedAt      time.Time                    // when those were last asked who owe one
	askers       map[string]bool              // who asked for this node's
	owing        map[string]bool              // whose report was missing at the last look
	inquiries    map[string]map[string]uint64 // by node: who asks about it, and which version of its report each has
	opinions     map[string]*opinions         // by node
	again        bool                         // somebody asked for a newer one
	lost         bool                         // see SetLost
	met          bool
	dirty        bool          // the view may differ
	updated      time.Duration // bootTime of the last update; 0: none
	view         announcer.View
}

// clash is two agents that use one name.
type clash struct {
	text string
	at   time.Time
}

// tuning is how fast a member notices, see docs/announcer.md.
type tuning struct {
	interval, timeout time.Duration
	suspicion, most   int
	gossip            time.Duration
	pushPull          time.Duration
	seeds             time.Duration
	// update is how often all is judged again if nothing happens: holding, settling and
	// the like end by themselves.
	update time.Duration
}

var standard = tuning{
	interval: 100 * time.Millisecond, timeout: 60 * time.Millisecond, suspicion: 2, most: 3,
	gossip: 40 * time.Millisecond, pushPull: 10 * time.Second, seeds: 2 * time.Second, update: 500 * time.Millisecond,
}

const (
	ticks      = 5 // looks in the time of one update
	freshFor   = 3 // updates is how long a view is good for
	gather     = 10 * time.Millisecond
	raisePause = 200 * time.Millisecond // pause between two raised versions
	// datagram keeps gossip in one packet, on every network that carries IPv6.
	datagram = 1232
	// maxGossip is the longest report that is gossiped; a longer one goes to every
	// member by TCP.
	maxGossip = 1000
	clashFor  = time.Minute
	joinMost  = 3 // seeds asked at one time by one who knows nobody
)

// label marks the messages of this gossip.
const label = "fairlead"

// The first byte of a message between agents.
const (
	msgReport   = 'r' // a report follows
	msgAgain    = 'a' // send your report again, with a higher version
	msgQuestion = 'q' // a name follows: tell that node your report
	msgAbout    = 'o' // a version and two names follow: tell the first node what you know of the second
	msgFound    = 'f' // an Answer and a name follow: what that node's kernel was found to do
)

// BootID returns this kernel's boot id.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// New makes a Members. It fails if the keys are none.
func New(cfg Config) (*Members, error) {
	m := &Members{
		cfg: cfg, started: time.Now(), keys: &memberlist.Keyring{}, metrics: newMetrics(cfg.Metrics), wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
		self: announcer.Report{Electable: snapshot.Electable{Node: cfg.Node, Protocol: announcer.Protocol}, Boot: cfg.Boot, Version: 1}, heard: map[string]time.Time{}, clashes: map[string]clash{}, toAsk: map[string]byte{}, askers: map[string]bool{},
		inquiries: map[string]map[string]uint64{}, opinions: map[string]*opinions{},
	}
	if m.cfg.tuning == (tuning{}) {
		m.cfg.tuning = standard
	}
	if m.cfg.Prober == nil {
		m.cfg.Prober = kernelProber{from: cfg.Bind.Addr()}
	}
	m.queue.RetransmitMult, m.queue.NumNodes = 4, func() int { return int(m.count.Load()) }
	if err := m.SetKeys(cfg.Keys); err != nil {
		return nil, err
	}
	return m, nil
}

// SetKeys changes the keys while the gossip goes on. To rotate: add the new key
// behind the old one everywhere, then put it first everywhere, then take the old
// one away. It refuses an empty list and keys of other lengths than Config.Keys has, and then
// changes nothing.
func (m *Members) SetKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("members: no key; agents do not gossip in the clear")
	}
	// All before the first is taken in: an error must not leave half of the keys changed.
	for _, k := range keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return fmt.Errorf("members: %w", err)
		}
	}
	for _, k := range keys {
		if err := m.keys.AddKey(k); err != nil {
			return fmt.Errorf("members: %w", err)
		}
	}
	if err := m.keys.UseKey(keys[0]); err != nil {
		return fmt.Errorf("members: %w", err)
	}
	for _, k := range slices.Clone(m.keys.GetKeys()) {
		if !slices.ContainsFunc(keys, func(want []byte) bool { return slices.Equal(k, want) }) {
			if err := m.keys.RemoveKey(slices.Clone(k)); err != nil {
				return fmt.Errorf("members: %w", err)
			}
		}
	}
	return nil
}

// Say tells the others how this node is: what an election reads and Knows are taken, the
// rest is added here.
func (m *Members) Say(r announcer.Report) {
	m.mu.Lock()
	m.self.InSync, m.self.Draining, m.self.Links = r.InSync, r.Draining, slices.Clone(r.Links)
	m.self.DrainsFor, m.self.Stays = r.DrainsFor, slices.Clone(r.Stays)
	m.self.Director, m.self.Knows = r.Director, r.Knows
	m.dirty = true
	m.mu.Unlock()
	m.poke()
}

// SetLost takes in which nodes do not answer on the link of their agents' address, and
// whether this node is called so by the others. It may be called again with the same.
func (m *Members) SetLost(nodes map[string]bool, self bool) {
	m.mu.Lock()
	returned, changed := m.roster.SetLost(nodes, time.Now())
	for _, node := range returned {
		m.toAsk[node], m.again = msgAgain, true
	}
	changed = changed || self != m.lost
	m.lost, m.dirty = self, m.dirty || changed
	m.mu.Unlock()
	if !changed {
		return
	}
	select {
	// Not by wake, which waits for more: clients wait for a lost node's addresses.
	case m.urgent <- struct{}{}:
	default:
	}
}

// View returns what this node holds of all now. It must not be changed.
func (m *Members) View() announcer.View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view
}

// Fresh reports whether View is current. It is not before Run, nor after the process stood
// still: the others may have decided something else.
func (m *Members) Fresh() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.updated != 0 && bootTime()-m.updated < freshFor*m.cfg.tuning.update
}

// StartsOver reports whether others said that this node does not go on where its earlier agent
// stopped: there is nothing to wait for.
func (m *Members) StartsOver() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.startsOver
}

func (m *Members) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run takes part in the gossip until ctx ends. Then it says that it restarts and
// leaves; the others let the node keep its VIPs for announcer.HoldFor.
func (m *Members) Run(ctx context.Context) error {
	conf := m.configuration()
	inner := m.cfg.transport
	if inner == nil {
		var err error
		if inner, err = listen(m.cfg.Bind, conf.Logger); err != nil {
			return fmt.Errorf("members: listen on %s: %w", m.cfg.Bind, err)
		}
	}
	guard := guarded(inner, m.listensTo, m.metrics)
	conf.Transport = guard
	list, err := memberlist.Create(conf)
	if err != nil {
		return errors.Join(fmt.Errorf("members: listen on %s: %w", m.cfg.Bind, err), guard.Shutdown())
	}
	m.list = list
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	m.work.Go(func() { m.join(work) })
	m.loop(work)
	m.goodbye()
	m.work.Wait()
	if err := list.Shutdown(); err != nil {
		return fmt.Errorf("members: %w", err)
	}
	return nil
}

// listensTo reports whether messages from addr are read.
func (m *Members) listensTo(addr netip.Addr) bool {
	return m.cfg.Open || addr == m.cfg.Bind.Addr() || m.cfg.Places().Has(addr)
}

func (m *Members) configuration() *memberlist.Config {
	t, c := m.cfg.tuning, memberlist.DefaultLANConfig()
	c.Name, c.Label, c.Keyring = m.cfg.Node, label, m.keys
	c.BindAddr, c.BindPort = m.cfg.Bind.Addr().String(), int(m.cfg.Bind.Port())
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.ProbeInterval, c.ProbeTimeout = t.interval, t.timeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = t.suspicion, t.most
	c.GossipInterval, c.GossipNodes, c.PushPullInterval = t.gossip, 3, t.pushPull
	c.TCPTimeout, c.UDPBufferSize, c.EnableCompression = 10*t.interval, datagram, false
	c.DeadNodeReclaimTime, c.MsgpackUseNewTimeFormat = time.Second, true
	d := &delegate{m}
	c.Delegate, c.Events, c.Conflict, c.Ping, c.Alive = d, d, d, d, d
	c.Logger = logger(m.cfg.Log, m.metrics)
	return c
}

// loop keeps the view current until ctx ends.
func (m *Members) loop(ctx context.Context) {
	ticker := time.NewTicker(m.cfg.tuning.update / ticks)
	defer ticker.Stop()
	for {
		m.step(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-m.urgent:
		case <-m.wake:
			// More follows soon when many speak at once.
			select {
			case <-ctx.Done():
			case <-time.After(gather):
			}
		}
	}
}

// bootTime is a clock that goes on while the machine is suspended, which
// time.Now's does not.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// step judges all again, tells the others if this node's own report changed, has
// silent kernels asked, and calls Changed if the view did.
func (m *Members) step(ctx context.Context) {
	now, boot := time.Now(), bootTime()
	m.mu.Lock()
	due := m.roster.Due(now)
	var say, changed bool
	if m.dirty || m.updated == 0 || boot-m.updated >= m.cfg.tuning.update {
		say, changed = m.update(now, boot)
	}
	self, ask, curious := m.self, m.toAsk, m.askers
	inquiries := m.inquiries
	m.toAsk, m.askers, m.inquiries = map[string]byte{}, map[string]bool{}, map[string]map[string]uint64{}
	m.mu.Unlock()

	if say {
		m.spreadReport(self)
	}
	m.exchangeReports(self, ask, curious)
	for _, d := range due {
		m.work.Go(func() { m.askKernel(ctx, d) })
	}
	for node, askers := range inquiries {
		m.work.Go(func() { m.answerInquiry(ctx, node, askers) })
	}
	if changed {
		m.cfg.Changed()
	}
}

// exchangeReports asks those who owe a report, and tells this node's to those who asked.
func (m *Members) exchangeReports(self announcer.Report, ask map[string]byte, curious map[string]bool) {
	if len(ask)+len(curious) == 0 {
		return
	}
	others := m.others()
	for _, n := range others {
		switch {
		case curious[n.Name]:
			m.send(n, append([]byte{msgReport}, encode(signed(self, m.cfg.Key))...))
		case ask[n.Name] == msgQuestion:
			m.send(n, append([]byte{msgQuestion}, self.Node...))
		case ask[n.Name] == msgAgain:
			m.send(n, []byte{msgAgain})
		case ask[n.Name] == msgAbout:
			m.send(n, []byte{msgAgain})
			m.askAbout(n.Name, 1)
		}
		delete(curious, n.Name)
	}
	// Who has the key can tell this agent, too, that the one who asks has left.
	for node := range curious {
		if at := m.cfg.Places().Of(node); at.IsValid() && node != m.cfg.Node {
			m.send(nodeAt(node, at), append([]byte{msgReport}, encode(signed(self, m.cfg.Key))...))
		}
	}
}

// send sends a message to one other agent, which need not be a member. It may be lost.
func (m *Members) send(to *memberlist.Node, b []byte) {
	if len(b) > maxGossip {
		return // the next exchange brings it
	}
	if err := m.list.SendBestEffort(to, b); err != nil {
		m.cfg.Log.Debug("message was not sent", "node", to.Name, "error", err)
	}
}

func nodeAt(name string, at netip.AddrPort) *memberlist.Node {
	return &memberlist.Node{Name: name, Addr: at.Addr().AsSlice(), Port: at.Port()}
}

// noteMissingReports notes whom to ask: members without a report, or with one from before they
// were silent. Gossip may lose one. Of a node that still owes it at the next look another one
// is asked as well: there may be no way between that node and this one. m.mu is held.
func (m *Members) noteMissingReports(v announcer.View, now time.Time) {
	if now.Sub(m.askedAt) < m.cfg.tuning.update {
		return
	}
	owed := m.owing
	m.askedAt, m.owing = now, map[string]bool{}
	for _, mem := range v.Members {
		if mem.Node == m.cfg.Node || mem.Verdict != announcer.Alive || mem.Report != nil && !mem.Stale {
			continue
		}
		m.owing[mem.Node] = true
		switch {
		case owed[mem.Node]:
			m.toAsk[mem.Node] = msgAbout
		case mem.Report == nil:
			m.toAsk[mem.Node] = msgQuestion
		default:
			m.toAsk[mem.Node] = msgAgain
		}
	}
}

// update decides this node's own standing and judges the others. It reports whether
// there is a new report of this node to tell, and whether the view differs. Both
// times were read before anything else, at once: if the process stands still
// after that, the view is not Fresh, and the next update finds out.
// m.mu is held.
func (m *Members) update(now time.Time, boot time.Duration) (say, changed bool) {
	stood := time.Duration(0)
	if m.updated != 0 {
		// The clock since boot goes on while the machine is suspended, and nobody can set it.
		stood = max(0, boot-m.updated-m.cfg.tuning.update)
	}
	places := m.cfg.Places().All()
	m.dirty, m.updated = false, boot
	m.roster.Forget(places, now)
	v := m.roster.View(m.self, m.cfg.Bind, now)
	m.settle(v, now, stood, len(places) == 0)
	same := m.reportInView()
	same.Version = m.self.Version
	say = !bytes.Equal(encode(same), encode(m.self))
	// An earlier agent of this node spoke with that version: the others hear only a higher one.
	if m.again || m.usedVersion >= m.self.Version {
		if now.Sub(m.raised) < raisePause {
			m.dirty = true // many ask at once, or two agents of one name outbid each other
		} else {
			m.self.Version, m.raised, m.again, say = max(m.usedVersion, m.self.Version), now, false, true
		}
	}
	if say {
		m.self.Version++
	}
	// Gossip is not repeated for one that missed it.
	m.noteMissingReports(v, now)
	if stood >= announcer.FrozenAfter {
		for _, mem := range v.Members {
			m.toAsk[mem.Node] = msgAgain // what they said meanwhile was not heard
		}
	}
	self := m.self
	mine := v.Member(m.cfg.Node)
	mine.Report, mine.Candidate, mine.Quarantine = &self, self.Settled, m.podsStart(now)
	return say, m.setView(v, now)
}

// podsStart reports whether this node booted just now, so that what the cluster shows
// of its pods is from before: its own engine leaves them alone as others' do.
func (m *Members) podsStart(now time.Time) bool {
	return !m.booted.IsZero() && now.Sub(m.booted) < announcer.PodsAfter
}

// settle decides this node's own standing among those of v. m.mu is held.
func (m *Members) settle(v announcer.View, now time.Time, stood time.Duration, alone bool) {
	// It counts once: after a failure of its own this agent waits as any other.
	if m.settling.Settled || now.After(m.formerUntil) {
		m.formerReport = nil
	}
	a := announcer.SettleInput{
		Now: now, InSync: m.self.InSync, StoodStill: stood, CutOff: v.CutOff, Lost: m.lost, Met: m.met || alone, Restarted: m.formerReport,
		Booted: m.podsStart(now),
	}
	for _, o := range v.Members {
		if o.Node == m.cfg.Node || !o.Candidate {
			continue
		}
		if o.Report.LongSettled {
			a.OthersLongSettled++
		}
		// A node that was cut off as well did not go on without this one.
		if o.Verdict == announcer.Alive && !o.Report.Isolated {
			a.OthersInTouch++
		}
	}
	was := m.settling.Settled
	m.settling = m.settling.Next(a)
	if m.settling.Settled != was {
		m.cfg.Log.Info("this node's health", "electable", !was, "in-sync", a.InSync, "stood-still", stood.Round(time.Millisecond),
			"cut-off", a.CutOff, "seasoned-others", a.OthersLongSettled, "restarted", a.Restarted != nil)
	}
	m.self.Settled, m.self.LongSettled, m.self.Isolated = m.settling.Settled, m.settling.LongSettled, m.settling.Isolated
}

// reportInView is the report of this node in the last view.
func (m *Members) reportInView() announcer.Report {
	if mem := m.view.Member(m.cfg.Node); mem != nil {
		return *mem.Report
	}
	return announcer.Report{}
}

// setView makes v the view and reports whether it differs from the last. m.mu is held.
func (m *Members) setView(v announcer.View, now time.Time) bool {
	for name, c := range m.clashes {
		if now.Sub(c.at) > clashFor {
			delete(m.clashes, name)
			continue
		}
		v.Clashes = append(v.Clashes, c.text)
	}
	slices.Sort(v.Clashes)
	// As text, this took a fifth of an agent's CPU time among 400 nodes.
	changed := !v.Same(m.view)
	m.view = v
	m.metrics.viewed(v)
	m.count.Store(int32(len(v.Members)))
	return changed
}

// askKernel has one silent kernel asked.
func (m *Members) askKernel(ctx context.Context, ask announcer.Ask) {
	answer := m.check(ctx, ask)
	if ctx.Err() != nil {
		return
	}
	if answer == announcer.Answered {
		m.askForProof(ask)
	}
	now := time.Now()
	m.mu.Lock()
	was := m.roster.Answered(ask, answer, now)
	heard, known := m.heard[ask.Node]
	m.dirty = true
	m.mu.Unlock()
	if was != answer {
		m.cfg.Log.Warn("agent is silent", "node", ask.Node, "address", ask.Addr, "kernel", answer)
	}
	if was == announcer.Unasked && was != answer && known {
		m.metrics.detection.Observe(now.Sub(heard).Seconds())
	}
	m.poke()
}

// askForProof asks a silent agent whose kernel answers for a new report. If it lives, and
// somebody said in its name that it has left, the report shows that: see Roster.Lives.
func (m *Members) askForProof(ask announcer.Ask) {
	to := nodeAt(ask.Node, m.addrOf(ask))
	m.send(to, []byte{msgAgain})
	m.send(to, append([]byte{msgQuestion}, m.cfg.Node...))
}

// addrOf returns where to ask a kernel: at the address that the API has of the node. A
// node that is not in the API any more is asked where it spoke last.
func (m *Members) addrOf(ask announcer.Ask) netip.AddrPort {
	if at := m.cfg.Places().Of(ask.Node); at.IsValid() {
		return at
	}
	return ask.Addr
}

// spreadReport spreads a report of this node.
func (m *Members) spreadReport(r announcer.Report) {
	b := append([]byte{msgReport}, encode(signed(r, m.cfg.Key))...)
	if len(b) > maxReport {
		m.cfg.Log.Error("this node's report is too long to send: too many links or addresses", "bytes", len(b))
		return
	}
	// A longer one would not fit into one packet (datagram), and a lost fragment loses all of it.
	if len(b) <= maxGossip {
		m.queue.QueueBroadcast(broadcast{node: r.Node, b: b})
		return
	}
	others := m.others()
	m.work.Go(func() {
		for _, n := range others {
			if err := m.list.SendReliable(n, b); err != nil {
				m.cfg.Log.Debug("report was not sent; the next exchange will", "node", n.Name, "error", err)
			}
		}
	})
}

func (m *Members) others() []*memberlist.Node {
	return slices.DeleteFunc(m.list.Members(), func(n *memberlist.Node) bool { return n.Name == m.cfg.Node })
}

// goodbye says that this agent restarts, to everybody at once and twice, and
// leaves.
func (m *Members) goodbye() {
	b := append([]byte{msgReport}, encode(signed(m.lastReport(), m.cfg.Key))...)
	// One datagram may be lost, and nobody asks again an agent that is gone.
	for range 2 {
		for _, n := range m.others() {
			if err := m.list.SendBestEffort(n, b); err != nil {
				m.cfg.Log.Debug("good-bye was not sent", "node", n.Name, "error", err)
			}
		}
	}
	if err := m.list.Leave(300 * time.Millisecond); err != nil {
		m.cfg.Log.Debug("leaving", "error", err)
	}
}

// lastReport is this agent's last report. It updates once more: an agent that is told to stop
// as it wakes must not say of its node what held before it stood still.
func (m *Members) lastReport() announcer.Report {
	now, boot := time.Now(), bootTime()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.update(now, boot)
	m.self.Restarting = true
	m.self.Version++
	return m.self
}

// join asks seeds that are not members to let this node in: at once, and every
// few seconds, so that a cluster that fell apart finds itself again.
func (m *Members) join(ctx context.Context) {
	for ctx.Err() == nil {
		missing, pause, most := m.missing(), m.cfg.tuning.seeds, 1
		// After MeetFor an agent takes itself for the first one: it has to meet others before.
		if m.list.NumMembers() == 1 {
			pause, most = pause/4, joinMost
		}
		var asked sync.WaitGroup
		for _, seed := range missing[:min(len(missing), most)] {
			asked.Go(func() {
				if _, err := m.list.Join([]string{seed}); err != nil {
					m.cfg.Log.Debug("join", "error", err)
				}
			})
		}
		asked.Wait()
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// missing returns the seeds that do not speak, in another order each time.
func (m *Members) missing() []string {
	present := map[netip.AddrPort]bool{m.cfg.Bind: true}
	for _, n := range m.list.Members() {
		present[addrOf(n)] = true
	}
	var out []string
	for _, s := range m.cfg.Places().All() {
		if !present[s] {
			out = append(out, s.String())
		}
	}
	shuffle(out)
	return out
}
