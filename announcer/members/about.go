package members

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/fairlead/fairlead/announcer"
)

// How many other agents are asked about a silent node, and how many nodes this agent is
// asked about at one time.
const (
	askedOthers  = 3
	mostInquired = 64
)

// maxAbout is the length of the longest msgAbout.
const maxAbout = 1 + 2*binary.MaxVarintLen64 + 2*maxName

// opinions are what other agents find when they ask the kernel of one node.
type opinions struct {
	left    int // how many are still to come
	answers bool
	done    chan struct{} // closed when nothing more is waited for
}

// take takes in one of them. Members.mu is held.
func (o *opinions) take(answer announcer.Answer) {
	if o.left == 0 {
		return
	}
	o.left--
	if answer == announcer.Answered {
		o.answers, o.left = true, 0
	}
	if o.left == 0 {
		close(o.done)
	}
}

// check asks the kernel of a silent node. Before it finds that the kernel does not answer,
// it asks other agents to ask: what is broken may be the way from this node.
func (m *Members) check(ctx context.Context, ask announcer.Ask) announcer.Answer {
	if m.answersOnLink(ask.Node) {
		return announcer.Answered
	}
	own := make(chan announcer.Answer, 1)
	m.work.Go(func() { own <- m.cfg.Prober.Ask(ctx, m.addrOf(ask)) })
	select {
	case answer := <-own:
		return answer
	case <-time.After(askEvery): // most kernels have answered by now
	}
	// The others were asked when it first did not answer.
	if ask.Again {
		return <-own
	}
	others := m.askOthers(ask.Node)
	answer := <-own
	// A node that was cut from another one, and from all gossip for half a second, took its addresses
	// (TestCutFromOneNode).
	if answer == announcer.NoAnswer {
		select {
		case <-others.done:
		case <-time.After(askFor):
		case <-ctx.Done():
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.opinions, ask.Node)
	if answer == announcer.NoAnswer && others.answers {
		return announcer.Answered
	}
	return answer
}

// answersOnLink reports whether a node's kernel answered on a link just now.
func (m *Members) answersOnLink(node string) bool {
	return m.cfg.Answers != nil && m.cfg.Answers(node)
}

// askOthers has some agents ask the kernel of node, and returns where they answer.
func (m *Members) askOthers(node string) *opinions {
	// One more than are asked, or it could end before askAbout has counted them.
	o := &opinions{left: askedOthers + 1, done: make(chan struct{})}
	m.mu.Lock()
	m.opinions[node] = o
	m.mu.Unlock()
	asked := m.askAbout(node, askedOthers)
	m.mu.Lock()
	defer m.mu.Unlock()
	for range askedOthers - asked + 1 { // those that are not there
		o.take(announcer.Unknown)
	}
	return o
}

// askAbout asks other agents, some at most, what they know of node. It returns how many.
func (m *Members) askAbout(node string, most int) (asked int) {
	known := uint64(0)
	m.mu.Lock()
	if r := m.roster.Report(node); r != nil {
		known = r.Version
	}
	m.mu.Unlock()
	b := appendText(binary.AppendUvarint([]byte{msgAbout}, known), m.cfg.Node)
	others := m.others()
	shuffle(others)
	for _, n := range others {
		if n.Name != node && asked < most {
			asked++
			m.send(n, append(b, node...))
		}
	}
	return asked
}

// noteInquiry takes in a msgAbout without its kind: an agent wants to know of a node.
func (m *Members) noteInquiry(b []byte) error {
	d := reader{b: b}
	version, asker := d.number(maxVersion), d.text(maxName)
	if node := string(d.b); d.err == nil && node != m.cfg.Node {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.inquiries[node] == nil && len(m.inquiries) < mostInquired {
			m.inquiries[node] = map[string]uint64{}
		}
		if askers := m.inquiries[node]; askers != nil && len(askers) < mostInquired {
			askers[asker] = version
		}
	}
	return d.err
}

// noteOpinion takes in what another agent found when it asked the kernel of a node.
func (m *Members) noteOpinion(answer announcer.Answer, node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.opinions[node]; o != nil {
		o.take(answer)
	}
}

// answerInquiry tells askers what the kernel of node answers. They have these versions of
// node's report: they also get a newer one. If there is no newer one, node is asked for it.
func (m *Members) answerInquiry(ctx context.Context, node string, askers map[string]uint64) {
	at := m.cfg.Places().Of(node)
	// Nobody but the API says where a kernel is asked.
	if !at.IsValid() {
		return
	}
	m.mu.Lock()
	mem := m.view.Member(node)
	m.mu.Unlock()
	speaks := mem != nil && mem.Verdict == announcer.Alive && mem.Report != nil && !mem.Stale
	again := false
	for _, n := range m.others() {
		version, asks := askers[n.Name]
		again = again || asks && speaks && version >= mem.Report.Version
		if asks && speaks && version < mem.Report.Version {
			m.send(n, append([]byte{msgReport}, encode(*mem.Report)...))
		}
	}
	answer := announcer.Answered
	if !m.answersOnLink(node) {
		answer = m.cfg.Prober.Ask(ctx, at)
	}
	found := append([]byte{msgFound, byte(answer)}, node...)
	for _, n := range m.others() {
		if _, asks := askers[n.Name]; asks {
			m.send(n, found)
		}
		if n.Name == node && again {
			m.send(n, []byte{msgAgain})
		}
	}
}
