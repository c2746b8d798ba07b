package announcer

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Verdict is what one node holds of another.
type Verdict uint8

// The three verdicts.
const (
	Alive     Verdict = iota // its agent speaks or reports, or fell silent just now and is being checked
	AgentGone                // its agent is silent, its kernel answers or the agent said that it restarts
	NodeGone                 // neither agent nor kernel answers
)

// Verdicts lists all of them.
var Verdicts = []Verdict{Alive, AgentGone, NodeGone}

func (v Verdict) String() string { return [...]string{"alive", "agent-gone", "node-gone"}[v] }

// The times by which a Roster judges.
const (
	// HoldFor is how long a node whose agent is gone keeps its VIPs. It is
	// shorter than what is left of the kernel's lease on them (Lease, less
	// Renew), so that the next owner is there when it ends: see Orphaned.
	HoldFor = 20 * time.Second
	// Together is the time within which nodes vanish at once.
	Together = 5 * time.Second
	// PodsAfter is how long the endpoints of a lost node take no traffic after its
	// agent is back: it may have booted, and until its kubelet has started the pods
	// again and said so, the cluster shows those that died.
	PodsAfter = 10 * time.Second
	// BackAfter is how long the kernel of a lost node has to answer again before
	// only its agent counts as gone: after a reboot the kernel answers long before
	// any pod runs.
	BackAfter = 60 * time.Second
	// ForgetAfter is how long a silent node is remembered that the cluster does
	// not have any more.
	ForgetAfter = 10 * time.Minute
	// provenFor is how long an agent that gossip calls silent counts as alive after a
	// report that proves that it lives: several of those that it is asked for may get lost.
	provenFor = 3 * time.Second
	// askAgain and askLate are the times between two checks of a silent node's
	// kernel, while it keeps its VIPs and later.
	askAgain, askLate = 500 * time.Millisecond, 2 * time.Second
)

// maxPeers bounds what a Roster remembers.
const maxPeers = 16_384

// Report is what an agent says of its node to the others: all that an election
// needs to know of it.
type Report struct {
	snapshot.Electable
	Boot        string    // the kernel's boot id
	Version     uint64    // the higher one of two reports of a node is the newer
	Restarting  bool      // the agent stops now, and is to come back
	Settled     bool      // may be elected: see SettleState
	LongSettled bool      // has been settled for SettleAfter
	Isolated    bool      // has lost sight of more than half of the nodes, now or just now
	Knows       Knowledge // how far its agent follows the API server
	Later       string    // what an agent of a later release says beyond this, as it is on the wire
}

// flags prints what is set.
func (r Report) flags() string {
	var out []string
	for _, f := range []struct {
		name string
		set  bool
	}{{"in-sync", r.InSync}, {"draining", r.Draining}, {"restarting", r.Restarting}, {"settled", r.Settled}, {"seasoned", r.LongSettled}, {"isolated", r.Isolated}} {
		if f.set {
			out = append(out, f.name)
		}
	}
	return strings.Join(out, ",")
}

// Member is one node in a View.
type Member struct {
	Node       string
	Addr       netip.AddrPort // where its agent speaks
	Verdict    Verdict
	Since      time.Time // since when its agent speaks or is silent, by this node's clock
	Candidate  bool      // may be elected, as far as its health goes
	Quarantine bool      // its endpoints take no traffic
	Report     *Report   // its last; nil if none came yet
	Stale      bool      // it has not reported since it was silent last
}

// View is what one node holds of all, itself included, sorted by name.
type View struct {
	Node    string
	Members []Member
	// Guarded says that more than half of the nodes vanished at once: most likely the
	// network broke, or this node is cut off. The election goes on with those that are left
	// (each side of a partition has its owner), but nothing that vanished then is
	// quarantined.
	Guarded bool
	// CutOff says the same of nodes whose kernels were asked and did not answer. Somebody
	// with the gossip's key can only make agents look silent.
	CutOff bool
	// Returns counts the nodes that were gone and spoke again. When it grows,
	// owners say again what they hold: both sides of a partition had one.
	Returns uint64
	// Clashes lists nodes whose name is used by two agents, with both addresses.
	Clashes []string
}

// Member returns one node, nil if it is not known.
func (v View) Member(node string) *Member {
	i, ok := slices.BinarySearchFunc(v.Members, node, func(m Member, n string) int { return strings.Compare(m.Node, n) })
	if !ok {
		return nil
	}
	return &v.Members[i]
}

// Candidates returns the nodes that may be elected as far as their health goes:
// Input.Alive.
func (v View) Candidates() map[string]bool {
	out := map[string]bool{}
	for _, m := range v.Members {
		out[m.Node] = m.Candidate
	}
	return out
}

// NodeStates is what the agents say of their nodes: Input.Others.
func (v View) NodeStates() map[string]snapshot.Electable {
	out := make(map[string]snapshot.Electable, len(v.Members))
	for _, m := range v.Members {
		if m.Report != nil {
			out[m.Node] = m.Report.Electable
		}
	}
	return out
}

// Quarantined returns the nodes whose endpoints must take no traffic, sorted.
func (v View) Quarantined() []string {
	var out []string
	for _, m := range v.Members {
		if m.Quarantine {
			out = append(out, m.Node)
		}
	}
	return out
}

// Same reports whether nothing differs between v and o on which a decision may depend. It
// is called often, with as many members as the cluster has nodes: reports that nobody sent
// again are one pointer.
func (v View) Same(o View) bool {
	return v.Guarded == o.Guarded && v.CutOff == o.CutOff && v.Returns == o.Returns &&
		slices.Equal(v.Clashes, o.Clashes) && slices.EqualFunc(v.Members, o.Members, Member.same)
}

// same reports whether m and o differ by no more than Since, which changes nothing by itself.
func (m Member) same(o Member) bool {
	return m.Node == o.Node && m.Addr == o.Addr && m.Verdict == o.Verdict && m.Candidate == o.Candidate &&
		m.Quarantine == o.Quarantine && m.Stale == o.Stale && sameReport(m.Report, o.Report)
}

// sameReport reports whether a and b say the same of their node.
func sameReport(a, b *Report) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Boot, x.Version, x.Later = y.Boot, y.Version, y.Later
	return reflect.DeepEqual(x, y)
}

// String prints everything that a decision may depend on, a line a node.
func (v View) String() string {
	var b strings.Builder
	for _, m := range v.Members {
		fmt.Fprintf(&b, "%s %s %s", m.Node, m.Addr, m.Verdict)
		if m.Candidate {
			b.WriteString(" candidate")
		}
		if m.Quarantine {
			b.WriteString(" quarantine")
		}
		if r := m.Report; r != nil {
			fmt.Fprintf(&b, " says %s", r.flags())
			if r.DrainsFor != 0 {
				fmt.Fprintf(&b, " drains-for=%s", r.DrainsFor)
			}
			if len(r.Stays) > 0 {
				fmt.Fprintf(&b, " stays=%v", r.Stays)
			}
			for _, l := range r.Links {
				fmt.Fprintf(&b, " %s=%s%v", l.Name, l.MAC, l.Prefixes)
			}
			if r.Director != nil {
				fmt.Fprintf(&b, " %s", r.Director)
			}
			if r.Knows.Count > 0 {
				fmt.Fprintf(&b, " knows %d+%d", r.Knows.Newest, r.Knows.Count)
			}
		}
		b.WriteByte('\n')
	}
	if v.Guarded {
		b.WriteString("guarded: more than half of the nodes vanished at once\n")
	}
	for _, c := range v.Clashes {
		fmt.Fprintf(&b, "clash: %s\n", c)
	}
	fmt.Fprintf(&b, "returns %d\n", v.Returns)
	return b.String()
}

// Answer is what the check of a silent node's kernel found.
type Answer uint8

// The answers.
const (
	Unasked  Answer = iota
	Answered        // the kernel answered
	NoAnswer        // it did not
	Unknown         // it could not be asked: never taken for gone
)

func (a Answer) String() string {
	return [...]string{"not asked yet", "answers", "does not answer", "cannot be asked"}[a]
}

// Roster keeps what is known of the other nodes and judges them. It has no
// clock: every method that depends on the time is given it, by this node's own
// clock and no other's.
type Roster struct {
	peers   map[string]*peer
	returns uint64
}

type peer struct {
	addr        netip.AddrPort
	since       time.Time // of its speech or silence; zero: never spoke
	speaks      bool
	asking      bool
	asked       time.Time // last
	answer      Answer
	answerSince time.Time // since when answer has been the same
	nodeGone    bool      // its kernel did not answer in this silence
	told        *Report   // nodeGone is what another agent remembers of the node since this report, and no more
	lives       time.Time // when its agent last proved in a silence that it lives: see Lives
	lost        bool      // see SetLost
	gossips     bool      // while it is lost: its agent speaks all the same
	returnedAt  time.Time // when it spoke after it had been quarantined; zero: never
	stale       bool      // report is from before the last silence
	report      *Report
}

func (r *Roster) peer(node string) *peer {
	if r.peers == nil {
		r.peers = map[string]*peer{}
	}
	p := r.peers[node]
	if p == nil && len(r.peers) < maxPeers {
		p = &peer{}
		r.peers[node] = p
	}
	return p
}

// Spoke takes in that node's agent speaks, at addr. It reports whether it was
// silent before: then it has to report again before it counts.
func (r *Roster) Spoke(node string, addr netip.AddrPort, at time.Time) (returned bool) {
	p := r.peer(node)
	if p == nil {
		return false
	}
	p.addr = addr
	// Two nodes got no answer from its kernel: a word of its agent from just before proves nothing.
	if p.lost {
		p.gossips = true
		return false
	}
	if p.speaks {
		return false
	}
	returned = !p.since.IsZero()
	// Others answered for its addresses meanwhile. The owners announce again, so that the last
	// announcement is an owner's.
	if p.nodeGone {
		r.returns++
	}
	// It may have booted. Until its kubelet started the pods again, the cluster shows those that
	// died.
	if p.verdict(at) == NodeGone && !r.guarded(at)[node] {
		p.returnedAt = at
	}
	// The time of the silence stays known until the node reports: a restart
	// keeps what it held.
	if !returned {
		p.since = at
	}
	p.speaks, p.asking, p.answer = true, false, Unasked
	return returned
}

// FellSilent takes in that node's agent is silent.
func (r *Roster) FellSilent(node string, at time.Time) {
	p := r.peers[node]
	if p != nil {
		p.gossips = false
	}
	if p == nil || !p.speaks {
		return
	}
	if !p.stale { // else it fell silent again before it reported: one silence
		p.since, p.nodeGone, p.told = at, false, nil
	}
	p.speaks, p.stale = false, true
}

// SetLost takes in which nodes do not answer on the link of their agents' address: all of
// them. Such a node is gone, whether or not its agent was heard a moment ago. It returns
// those that answer again and whose agents speak, which have to say again how they are, and
// whether anything changed.
func (r *Roster) SetLost(lost map[string]bool, at time.Time) (returned []string, changed bool) {
	for node, p := range r.peers {
		switch {
		// A node that never spoke has no silence that could begin.
		case lost[node] && !p.lost && !p.since.IsZero():
			speaks := p.speaks
			r.FellSilent(node, at)
			p.lost, p.gossips, p.nodeGone, p.told = true, speaks, true, nil
			// The kernel was asked on the link: no TCP connection has to confirm it, which takes 150 ms.
			p.answer, p.answerSince, p.asked = NoAnswer, at, at
			changed = true
		case !lost[node] && p.lost:
			p.lost, changed = false, true
			if p.gossips && r.Spoke(node, p.addr, at) {
				returned = append(returned, node)
			}
		}
	}
	slices.Sort(returned)
	return returned, changed
}

// Reported takes in a report and reports whether it is news.
func (r *Roster) Reported(rep Report, at time.Time) bool {
	p := r.peer(rep.Node)
	if p == nil || p.report != nil && rep.Version <= p.report.Version {
		return false
	}
	p.report = &rep
	// It may have booted in its silence: only a report from after it says how it is.
	if p.speaks && p.stale {
		p.stale, p.nodeGone, p.told, p.since = false, false, nil, at
	}
	return true
}

// Lives takes in that node's agent said something new of itself, although it is silent
// here. Who has the gossip's key can say in another's name that it has left. So the node
// counts as alive, and keeps its VIPs for HoldFor from then on, as long as its kernel
// answers. The lie outlives the liar: agents hand it on to each other.
func (r *Roster) Lives(node string, at time.Time) {
	if p := r.peers[node]; p != nil && !p.speaks && !p.since.IsZero() {
		p.lives = at
	}
}

// proven reports whether the agent of a node that gossip calls silent has shown just now
// that it lives.
func (p *peer) proven(at time.Time) bool {
	return !p.lost && !p.nodeGone && p.answer == Answered && at.Sub(p.lives) < provenFor
}

// heard is when the agent of a silent node last gave a sign of life.
func (p *peer) heard() time.Time {
	if p.lives.After(p.since) {
		return p.lives
	}
	return p.since
}

// Report returns the last report of a node, which must not be changed; nil if none came.
func (r *Roster) Report(node string) *Report {
	if p := r.peers[node]; p != nil {
		return p.report
	}
	return nil
}

// Doubt has the next report of a node count as news, whatever its version.
func (r *Roster) Doubt(node string) {
	if p := r.peers[node]; p != nil && p.report != nil {
		doubted := *p.report
		doubted.Version = 0
		p.report = &doubted
	}
}

// Ask is a silent node whose kernel has to be checked. The caller gives it back with the
// Answer.
type Ask struct {
	Node  string
	Addr  netip.AddrPort
	Again bool // the last check found that it does not answer
	since time.Time
}

// Due returns the nodes to check now, sorted by name. A node is not due again before
// Answered was called for it.
func (r *Roster) Due(at time.Time) []Ask {
	var out []Ask
	for node, p := range r.peers {
		if p.speaks || p.asking || p.since.IsZero() {
			continue
		}
		pause := askAgain
		// It is a candidate no longer, so no address waits for the answer.
		if at.Sub(p.heard()) > HoldFor {
			pause = askLate
		}
		if p.answer != Unasked && at.Sub(p.asked) < pause {
			continue
		}
		p.asking, p.asked = true, at
		out = append(out, Ask{node, p.addr, p.answer == NoAnswer, p.since})
	}
	slices.SortFunc(out, func(a, b Ask) int { return strings.Compare(a.Node, b.Node) })
	return out
}

// Answered takes in what a check found, and returns what the one before found.
// An answer that comes too late, of an earlier silence, is its own former.
func (r *Roster) Answered(ask Ask, answer Answer, at time.Time) (was Answer) {
	p := r.peers[ask.Node]
	if p == nil || p.speaks || !p.since.Equal(ask.since) {
		return answer
	}
	was, p.asking = p.answer, false
	if was != answer {
		p.answer, p.answerSince = answer, at
	}
	if answer == NoAnswer {
		p.nodeGone, p.told = true, nil
	}
	return was
}

// Forget drops who has been silent for ForgetAfter and is at none of the
// cluster's addresses. No addresses at all means that they are not known now.
func (r *Roster) Forget(cluster []netip.AddrPort, at time.Time) {
	for node, p := range r.peers {
		if len(cluster) > 0 && !p.speaks && !p.since.IsZero() && at.Sub(p.since) > ForgetAfter && !slices.Contains(cluster, p.addr) {
			delete(r.peers, node)
		}
	}
}

// Remembered is a node's last report, and for how long its agent has been
// silent: 0 if it speaks. It is what one agent tells another that knows nothing
// yet; an age means the same by every clock.
type Remembered struct {
	Report   Report
	Addr     netip.AddrPort
	Silent   time.Duration
	NodeGone bool // the node's kernel did not answer in this silence
}

// NodeWasGone reports whether more than the agent was, if the node runs with this boot
// id now.
func (m Remembered) NodeWasGone(boot string) bool { return m.NodeGone || m.Report.Boot != boot }

// Reports returns what is remembered of every other node, sorted by name.
func (r *Roster) Reports(at time.Time) []Remembered {
	var out []Remembered
	for _, p := range r.peers {
		if p.report == nil || p.since.IsZero() {
			continue
		}
		m := Remembered{Report: *p.report, Addr: p.addr}
		if p.stale {
			// 0 would say that it speaks.
			m.Silent, m.NodeGone = max(at.Sub(p.since), time.Millisecond), p.nodeGone
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Remembered) int { return strings.Compare(a.Report.Node, b.Report.Node) })
	return out
}

// Recall takes in what another agent remembers. A silent node that this one
// never heard is checked and judged like one that fell silent before its eyes:
// an agent that restarts does not forget who is gone. That is one agent's word. It ends
// when the node reports, or another agent hears it, on the same boot: then its pods run.
func (r *Roster) Recall(m Remembered, at time.Time) bool {
	if p := r.peers[m.Report.Node]; p != nil && p.told != nil && m.Silent == 0 && m.Report.Boot == p.told.Boot {
		p.nodeGone, p.told, p.returnedAt = false, nil, time.Time{}
	}
	news := r.Reported(m.Report, at)
	p := r.peers[m.Report.Node]
	// What this agent saw itself counts more than another one's word.
	if p != nil && p.since.IsZero() && m.Silent > 0 && m.Addr.IsValid() {
		p.addr, p.since, p.stale, p.nodeGone = m.Addr, at.Add(-m.Silent), true, m.NodeGone
		if m.NodeGone {
			p.told = &m.Report
		}
	}
	return news
}

// View judges all at the time at. self is this node's own report and own where
// it speaks.
func (r *Roster) View(self Report, own netip.AddrPort, at time.Time) View {
	v := View{Node: self.Node, Returns: r.returns, Members: make([]Member, 0, len(r.peers)+1)}
	v.Members = append(v.Members, Member{Node: self.Node, Addr: own, Candidate: self.Settled, Report: &self})
	guarded := r.guarded(at)
	for node, p := range r.peers {
		if p.since.IsZero() || node == self.Node {
			continue
		}
		m := Member{Node: node, Addr: p.addr, Since: p.since, Verdict: p.verdict(at), Candidate: p.candidate(at), Report: p.report, Stale: p.stale}
		// If the network broke, the pods of most nodes that vanished at once still run.
		m.Quarantine = m.Verdict == NodeGone && !guarded[node] || p.speaks && !p.returnedAt.IsZero() && at.Sub(p.returnedAt) < PodsAfter
		v.Members = append(v.Members, m)
	}
	v.Guarded, v.CutOff = len(guarded) > 0, r.cutOff(at)
	slices.SortFunc(v.Members, func(a, b Member) int { return strings.Compare(a.Node, b.Node) })
	return v
}

func (p *peer) verdict(at time.Time) Verdict {
	switch {
	case p.lost:
		return NodeGone
	case p.speaks, p.proven(at):
		return Alive
	case p.answer == Unasked && !p.restarting():
		return Alive // being checked
	case p.answer == NoAnswer, p.nodeGone && (p.answer != Answered || at.Sub(p.answerSince) < BackAfter):
		return NodeGone
	}
	return AgentGone
}

func (p *peer) restarting() bool { return p.report != nil && p.report.Restarting }

func (p *peer) candidate(at time.Time) bool {
	if p.report == nil || !p.report.Settled {
		return false
	}
	// The kernel of a silent agent forwards as before, and an upgrade makes every agent silent.
	return p.speaks && !p.stale || !p.nodeGone && at.Sub(p.heard()) < HoldFor
}

// guarded returns the nodes that vanished at once with more than half of all.
// Those that are being checked count: with them it is clear a moment earlier.
func (r *Roster) guarded(at time.Time) map[string]bool {
	return r.vanished(at, func(p *peer) bool { return p.verdict(at) != AgentGone })
}

// cutOff reports whether more than half of all vanished at once, and do not answer.
func (r *Roster) cutOff(at time.Time) bool {
	return len(r.vanished(at, func(p *peer) bool { return p.lost || p.answer == NoAnswer })) > 0
}

// vanished returns the silent nodes for which gone holds and that vanished at once with
// more than half of all.
func (r *Roster) vanished(at time.Time, gone func(*peer) bool) map[string]bool {
	alive, vanished := 1, map[string]time.Time{}
	for node, p := range r.peers {
		switch {
		case p.since.IsZero():
		case p.speaks, p.proven(at):
			alive++
		case gone(p):
			vanished[node] = p.since
		}
	}
	out := map[string]bool{}
	for node, since := range vanished {
		n := 0
		for _, other := range vanished {
			// Nodes that fail one after the other did not vanish with the network.
			if d := since.Sub(other); d <= Together && d >= -Together {
				n++
			}
		}
		// In a cluster of two, one node is not more than half: it can be lost as any other.
		if 2*n > alive+n {
			out[node] = true
		}
	}
	return out
}
