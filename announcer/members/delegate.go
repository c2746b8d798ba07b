package members

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/fairlead/fairlead/announcer"
)

// delegate is what memberlist calls. Nothing here blocks or calls back.
type delegate struct{ m *Members }

// NodeMeta is empty: its 512 bytes are too few for a report.
func (d *delegate) NodeMeta(int) []byte { return nil }

// GetBroadcasts returns the messages to spread.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.m.queue.GetBroadcasts(overhead, limit)
}

// NotifyMsg takes in a message of another agent.
func (d *delegate) NotifyMsg(b []byte) {
	m := d.m
	switch {
	case len(b) == 1 && b[0] == msgAgain:
		m.mu.Lock()
		m.again, m.dirty = true, true
		m.mu.Unlock()
		m.poke()
	case len(b) > 1 && len(b) <= 1+maxName && b[0] == msgQuestion:
		m.mu.Lock()
		if len(m.askers) < maxReports {
			m.askers[string(b[1:])] = true
		}
		m.mu.Unlock()
		m.poke()
	case len(b) > 1 && len(b) <= maxAbout && b[0] == msgAbout:
		if err := m.noteInquiry(b[1:]); err != nil {
			m.refuse(err)
			return
		}
		m.poke()
	case len(b) > 2 && len(b) <= 2+maxName && b[0] == msgFound:
		m.noteOpinion(announcer.Answer(b[1]), string(b[2:]))
	case len(b) > maxReport:
		m.metrics.refused.WithLabelValues(refusedSize).Inc()
	case len(b) > 0 && b[0] == msgReport:
		r, err := decode(b[1:])
		if err != nil {
			m.refuse(err)
			return
		}
		// Handed on as it came: one that was written again lost what a later release had appended.
		if news, err := m.receive(announcer.Remembered{Report: r}); news && err == nil && len(b) <= maxGossip {
			m.queue.QueueBroadcast(broadcast{node: r.Node, b: append([]byte(nil), b...)})
		}
	default:
		m.refuse(errors.New("unknown kind of message"))
	}
}

// LocalState is given to an agent that joins, and to some other one now and then.
func (d *delegate) LocalState(bool) []byte {
	m := d.m
	m.mu.Lock()
	self, others := m.self, m.roster.Reports(time.Now())
	m.mu.Unlock()
	return encodeAll(append(others, announcer.Remembered{Report: signed(self, m.cfg.Key)}))
}

// MergeRemoteState takes in what another agent gave.
func (d *delegate) MergeRemoteState(b []byte, _ bool) {
	all, err := decodeAll(b)
	if err != nil {
		d.m.refuse(err)
	}
	forged := 0
	for _, r := range all {
		if _, err := d.m.receive(r); errors.Is(err, errForged) {
			forged++
		}
		if forged > maxForged {
			break // each takes time
		}
	}
	d.m.mu.Lock()
	d.m.met, d.m.dirty = true, true
	d.m.mu.Unlock()
	d.m.poke()
}

// NotifyAlive lets those in who speak in the name of a node, and from its address. It
// does not keep this node from its own name.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	m := d.m
	// A forged place where no kernel answers had all nodes take out the pods of the node.
	at := m.cfg.Places().Of(n.Name)
	if n.Name == m.cfg.Node || at.IsValid() && at == addrOf(n) {
		return nil
	}
	m.metrics.refused.WithLabelValues(refusedPlace).Inc()
	if !at.IsValid() {
		return errors.New("the API has no such node")
	}
	m.noteClash(n.Name, at, addrOf(n))
	return fmt.Errorf("the node is at %s", at)
}

// NotifyJoin is called when a member begins to speak.
func (d *delegate) NotifyJoin(n *memberlist.Node) {
	m, now := d.m, time.Now()
	if n.Name == m.cfg.Node {
		return
	}
	m.mu.Lock()
	returned := m.roster.Spoke(n.Name, addrOf(n), now)
	m.heard[n.Name], m.dirty = now, true
	if returned {
		// What it said before its silence does not count. If it holds this node for gone as
		// well, it asks by itself: with every restart all nodes would report again otherwise.
		m.toAsk[n.Name] = msgAgain
	}
	m.mu.Unlock()
	m.cfg.Log.Info("agent speaks", "node", n.Name, "address", addrOf(n), "returned", returned)
	m.poke()
}

// NotifyLeave is called when a member is silent or said good-bye.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	m := d.m
	if n.Name == m.cfg.Node {
		return
	}
	m.mu.Lock()
	m.roster.FellSilent(n.Name, time.Now())
	m.dirty = true
	m.mu.Unlock()
	m.poke()
}

// NotifyUpdate is about NodeMeta.
func (d *delegate) NotifyUpdate(*memberlist.Node) {}

// NotifyConflict is called when an agent speaks from one address in the name of
// an agent that speaks from another.
func (d *delegate) NotifyConflict(known, other *memberlist.Node) {
	d.m.noteClash(known.Name, addrOf(known), addrOf(other))
}

// noteClash notes that a node's name is used at another address as well.
func (m *Members) noteClash(node string, at, other netip.AddrPort) {
	m.metrics.clashes.Inc()
	text := fmt.Sprintf("%s is used by two agents, at %s and %s", node, at, other)
	m.mu.Lock()
	_, noted := m.clashes[node]
	m.clashes[node] = clash{text, time.Now()}
	m.dirty = true
	m.mu.Unlock()
	if !noted {
		m.cfg.Log.Error("two nodes have one name: ignoring the second", "clash", text)
	}
}

// NotifyPingComplete notes a sign of life. It has n asked for its report if that is newer
// than the one known here: gossip may lose a report.
func (d *delegate) NotifyPingComplete(n *memberlist.Node, _ time.Duration, payload []byte) {
	m := d.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard[n.Name] = time.Now()
	// An earlier release sends no version.
	known := uint64(0)
	if r := m.roster.Report(n.Name); r != nil {
		known = r.Version
	}
	if len(payload) >= 8 && binary.BigEndian.Uint64(payload) > known {
		m.toAsk[n.Name] = msgQuestion
		m.poke()
	}
}

// AckPayload is the version of this node's report.
func (d *delegate) AckPayload() []byte {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return binary.BigEndian.AppendUint64(nil, d.m.self.Version)
}

// receive takes in a report and reports whether it is news. It returns an error, which is
// counted, if it is not to be believed.
func (m *Members) receive(r announcer.Remembered) (news bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := r.Report.Node
	if node == m.cfg.Node {
		return false, m.receiveOwn(r)
	}
	// The address in a report would let who has the key choose whose kernel is asked.
	if r.Addr = m.cfg.Places().Of(node); !r.Addr.IsValid() {
		m.metrics.refused.WithLabelValues(refusedPlace).Inc()
		return false, fmt.Errorf("the API has no node %s", node)
	}
	// What is not news costs no signature.
	if known := m.roster.Report(node); known == nil || r.Report.Version > known.Version {
		if err := m.vouch(r.Report, known); err != nil {
			m.metrics.refused.WithLabelValues(refusedForged).Inc()
			return false, err
		}
	}
	now := time.Now()
	news = m.roster.Recall(r, now)
	if news {
		if m.provesLife(r) {
			m.roster.Lives(node, now)
		}
		m.dirty = true
		m.poke()
	}
	return news, nil
}

// provesLife reports whether r, which is news, can only come from an agent that runs and
// that the others hear. m.mu is held.
func (m *Members) provesLife(r announcer.Remembered) bool {
	_, signs := m.signers[r.Report.Node]
	return signs && r.Silent == 0 && !r.Report.Restarting && !r.Report.Isolated
}

// receiveOwn takes in what others remember of this node. If an earlier agent said
// it, this one has to speak with a higher version to be heard; if only that agent was
// gone, and not the node, this one goes on where it stopped; if the node was, its pods
// start over. m.mu is held.
func (m *Members) receiveOwn(r announcer.Remembered) error {
	if r.Report.Version < m.self.Version {
		return nil
	}
	if err := m.vouchOwn(r.Report); err != nil {
		m.metrics.refused.WithLabelValues(refusedForged).Inc()
		return err
	}
	own := m.self
	own.Version, r.Report.Later = r.Report.Version, ""
	// This agent said it itself.
	if r.Report.Version == m.self.Version && bytes.Equal(encode(own), encode(r.Report)) {
		return nil
	}
	// After HoldFor the others have taken over what it held.
	if m.formerReport == nil && r.Report.Version > m.self.Version && !r.NodeWasGone(m.cfg.Boot) && r.Report.Settled && r.Silent < announcer.HoldFor {
		m.formerReport, m.formerUntil = &r.Report, time.Now().Add(announcer.HoldFor-r.Silent)
	}
	m.startsOver = m.startsOver || m.formerReport == nil && r.Report.Version > m.self.Version
	young := time.Since(m.started) < announcer.MeetFor
	// Later on, gone means that it was cut off, not that it booted.
	if young && r.Report.Version > m.self.Version && r.NodeWasGone(m.cfg.Boot) {
		m.booted = m.started
	}
	m.usedVersion, m.dirty = max(m.usedVersion, r.Report.Version), true
	m.poke()
	return nil
}

func (m *Members) refuse(err error) {
	m.metrics.refused.WithLabelValues(refusedGarbage).Inc()
	m.cfg.Log.Debug("a message was refused", "error", err)
}

// broadcast is a report on its way. A newer one of the same node replaces it.
type broadcast struct {
	node string
	b    []byte
}

func (b broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(broadcast)
	return ok && o.node == b.node
}
func (b broadcast) Name() string    { return b.node }
func (b broadcast) Message() []byte { return b.b }
func (b broadcast) Finished()       {}

func addrOf(n *memberlist.Node) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(ip.Unmap(), n.Port)
}

func shuffle[T any](s []T) {
	rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}
