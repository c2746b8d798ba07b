package members

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"log/slog"
	"maps"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// impostor has what is on one node, y: the gossip's key, the node's address, and the key
// that the node signs its reports with.
type impostor struct {
	t   *testing.T
	at  *port
	key ed25519.PrivateKey
}

func (c *cluster) impostor(t *testing.T) impostor {
	at := netip.MustParseAddrPort("192.0.2.200:7947")
	c.mu.Lock()
	c.also = map[string]netip.AddrPort{"y": at}
	c.mu.Unlock()
	return impostor{t, c.f.plug(at), keyOf("y")}
}

// keyOf is the key of a node of a test.
func keyOf(node string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte(node[:1]), ed25519.SeedSize))
}

// send sends a message of memberlist.
func (i impostor) send(to *node, message []byte) {
	if _, err := i.at.WriteTo(sealed(i.t, 1, message, false), to.addr.String()); err != nil {
		i.t.Error(err)
	}
}

// report sends a report.
func (i impostor) report(to *node, r announcer.Report) {
	const user = 8 // a message between agents
	i.send(to, append([]byte{user, msgReport}, encode(r)...))
}

// packed is a message of memberlist: its kind, then names and values, as MessagePack.
func packed(kind byte, fields ...any) []byte {
	b := []byte{kind, 0x80 | byte(len(fields)/2)}
	for _, f := range fields {
		switch f := f.(type) {
		case string:
			b = append(append(b, 0xa0|byte(len(f))), f...)
		case uint32:
			b = binary.BigEndian.AppendUint32(append(b, 0xce), f)
		case uint16:
			b = binary.BigEndian.AppendUint16(append(b, 0xcd), f)
		}
	}
	return b
}

// With the key, somebody says that the agent of a node has left, and that it is back at an
// address where nobody answers. Nobody takes the node's pods out for that.
func TestAttackByAForgedPlace(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	y := c.impostor(t)
	c.together(t)
	empty := netip.MustParseAddr("192.0.2.77").As4()
	quarantined, looks := 0, 0
	for incarnation := uint32(100); incarnation <= 300; incarnation += 100 {
		for _, to := range []*node{c.nodes["a"], c.nodes["b"]} {
			y.send(to, packed(dead, "Incarnation", incarnation, "Node", "c", "From", "c"))
		}
		time.Sleep(5 * time.Millisecond) // memberlist reads the other kind first, and c objects soon
		for _, to := range []*node{c.nodes["a"], c.nodes["b"]} {
			y.send(to, packed(alive, "Incarnation", incarnation+50, "Node", "c", "Addr", string(empty[:]), "Port", uint16(Port), "Meta", "", "Vsn", "\x01\x05\x02\x00\x00\x00"))
		}
		for began := time.Now(); time.Since(began) < time.Second; time.Sleep(10 * time.Millisecond) {
			for _, to := range []*node{c.nodes["a"], c.nodes["b"]} {
				looks++
				if m := to.View().Member("c"); m != nil && m.Quarantine {
					quarantined++
				}
			}
		}
	}
	t.Logf("attack: a node said to be elsewhere: quarantined in %d of %d looks", quarantined, looks)
	if quarantined > 0 {
		t.Error("a node whose kernel answers is quarantined")
	}
	if testutil.ToFloat64(c.nodes["a"].metrics.refused.WithLabelValues(refusedPlace)) == 0 {
		t.Error("no forged place came")
	}
	c.together(t)
}

// The kinds of memberlist's messages.
const (
	alive = 4
	dead  = 5
)

// highest is the last incarnation that memberlist counts to: a node cannot outbid it.
const highest = 1<<32 - 1

// death says that a node has left.
func (i impostor) death(to *node, of string, incarnation uint32) {
	i.send(to, packed(dead, "Incarnation", incarnation, "Node", of, "From", of))
}

// seasoned has a node be settled for a minute.
func (n *node) seasoned() {
	n.mu.Lock()
	n.settling = announcer.SettleState{}.Next(announcer.SettleInput{
		Now: time.Now(), InSync: true, Met: true, Restarted: &announcer.Report{Settled: true, LongSettled: true},
	})
	n.dirty = true
	n.mu.Unlock()
	n.poke()
}

// drain lets exchanges end that were under way when the last member stopped: the clock of a
// test that has ended stands still.
func drain() { time.Sleep(10 * time.Second) }

// newSigned makes a cluster whose nodes sign, and know each other's keys. All have been
// settled for a minute.
func newSigned(t *testing.T, names ...string) *cluster {
	c := newCluster(t)
	signers := map[string]ed25519.PublicKey{}
	for _, n := range names {
		signers[n] = publicOf(keyOf(n))
		c.start(n, func(cfg *Config) { cfg.Key = keyOf(cfg.Node) })
	}
	for _, n := range c.nodes {
		n.SetSigners(signers)
	}
	c.together(t)
	for _, n := range c.nodes {
		n.seasoned()
	}
	for _, n := range c.nodes {
		for _, about := range names {
			n.says(t, about, "alive candidate says in-sync,settled,seasoned")
		}
	}
	return c
}

// With the key, somebody says of an agent that it has left, with the highest incarnation,
// and says it again and again, to all or to all but the agent itself. Its signed reports
// still come, so its node keeps its addresses and its pods, for as long as the attack lasts.
func TestAttackByAForgedDeath(t *testing.T) {
	for name, of := range map[string][]string{"one node": {"c"}, "every node": {"a", "b", "c"}} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { forgeDeaths(t, of) }) })
	}
}

func forgeDeaths(t *testing.T, of []string) {
	t.Cleanup(drain)
	c := newSigned(t, "a", "b", "c")
	y := c.impostor(t)
	lost, looks := 0, 0
	for began := time.Now(); time.Since(began) < 2*announcer.HoldFor; time.Sleep(100 * time.Millisecond) {
		for _, to := range c.nodes {
			for _, node := range of {
				if node != to.cfg.Node {
					y.death(to, node, highest)
				}
			}
			for node := range c.nodes {
				looks++
				if m := to.View().Member(node); m == nil || !m.Candidate || m.Quarantine {
					lost++
				}
			}
		}
	}
	t.Logf("attack: a node said to be dead for 40 s: without its addresses or pods in %d of %d looks", lost, looks)
	if lost > 0 {
		t.Errorf("a node that lives lost something; a has\n%s", c.nodes["a"].View())
	}
	if len(of) > 1 {
		c.together(t) // also while the agents hand the lie on to each other
		return
	}
	// A node that is gone is found out all the same.
	c.f.power(c.nodes["c"].addr, false)
	took := c.nodes["a"].says(t, "c", "node-gone quarantine")
	if took > 3*time.Second {
		t.Errorf("a lost node is known after %s", took)
	}
}

// With the key, somebody says once to a node that all others have left. It hears them again
// at once, does not take itself for cut off, and keeps its addresses.
func TestAttackByForgedDeathsOfAll(t *testing.T) { synctest.Test(t, forgeDeathsOfAll) }

func forgeDeathsOfAll(t *testing.T) {
	t.Cleanup(drain)
	c := newSigned(t, "a", "b", "c", "d")
	y := c.impostor(t)
	a, unsettled, looks := c.nodes["a"], 0, 0
	for round := range uint32(10) {
		for _, n := range []string{"b", "c", "d"} {
			y.death(a, n, 100*(round+1))
		}
		for began := time.Now(); time.Since(began) < 200*time.Millisecond; time.Sleep(2 * time.Millisecond) {
			looks++
			if !a.View().Member("a").Candidate {
				unsettled++
			}
		}
	}
	t.Logf("attack: all other nodes said to be dead: the node gives its addresses up in %d of %d looks", unsettled, looks)
	if unsettled > 0 {
		t.Errorf("it counts itself as cut off:\n%s", a.View())
	}
}

// With the key, somebody tells an agent that starts that a node which lives is gone, and
// may say on and on that its agent has left as well. The node's pods are in as soon as the
// agent has heard of the node.
func TestAttackByAForgedLoss(t *testing.T) {
	for name, dies := range map[string]bool{"told once": false, "and said to be dead": true} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { forgeLoss(t, dies) }) })
	}
}

func forgeLoss(t *testing.T, dies bool) {
	t.Cleanup(drain)
	c := newSigned(t, "a", "b", "c")
	y := c.impostor(t)
	c.nodes["b"].stop()
	told := announcer.Remembered{Report: *c.nodes["a"].View().Member("c").Report, Addr: c.nodes["c"].addr, Silent: time.Second, NodeGone: true}
	signers := map[string]ed25519.PublicKey{"c": publicOf(keyOf("c"))}
	b := c.start("b", func(cfg *Config) { cfg.Key = keyOf("b") })
	b.SetSigners(signers)
	(&delegate{b.Members}).MergeRemoteState(encodeAll([]announcer.Remembered{told}), true)
	began, in := time.Now(), time.Duration(0)
	for ; time.Since(began) < announcer.HoldFor; time.Sleep(10 * time.Millisecond) {
		if dies {
			y.death(b, "c", highest)
		}
		if m := b.View().Member("c"); in == 0 && m != nil && m.Candidate && !m.Quarantine {
			in = time.Since(began)
		}
	}
	t.Logf("attack: an agent that starts is told that a node is gone: the node's pods are in after %s", in)
	if in == 0 || in > 5*time.Second {
		t.Errorf("they are in after %s:\n%s", in, b.View())
	}
	if m := b.View().Member("c"); !m.Candidate || m.Quarantine {
		t.Errorf("in the end\n%s", b.View())
	}
}

// With the key, somebody reports in the name of a node that it drains, and takes a version
// that no later one of the node is above. Nobody believes it, and the node is heard.
func TestAttackByAForgedReport(t *testing.T) {
	for name, lists := range map[string]bool{"the nodes sign": true, "nobody signs yet": false} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			y := c.impostor(t)
			signers := map[string]ed25519.PublicKey{"y": publicOf(y.key)}
			for _, n := range []string{"a", "b", "c"} {
				signers[n] = publicOf(keyOf(n))
				c.start(n, func(cfg *Config) { cfg.Key = keyOf(cfg.Node) })
			}
			if lists {
				for _, n := range c.nodes {
					n.SetSigners(signers)
				}
			}
			c.together(t)
			forged := announcer.Report{Electable: snapshot.Electable{Node: "c", InSync: true, Draining: true}, Version: 1 << 48, Settled: true}
			for _, to := range c.nodes {
				y.report(to, forged)
				y.report(to, signed(forged, y.key))
			}
			for _, n := range c.nodes {
				for end := time.Now().Add(patience); testutil.ToFloat64(n.metrics.refused.WithLabelValues(refusedForged)) < 2; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%s did not refuse both, and has\n%s", n.cfg.Node, n.View())
					}
				}
				if n.View().Member("c").Report.Draining {
					t.Errorf("%s believes it", n.cfg.Node)
				}
			}
			c.nodes["c"].Say(announcer.Report{Electable: snapshot.Electable{InSync: true, Links: links("new")}})
			took := c.nodes["a"].says(t, "c", "alive candidate says in-sync,settled eth-new=")
			t.Logf("attack: a forged report of version 2^48: refused, and the node is heard after %s", took.Round(10*time.Millisecond))
		})
	}
}

// newSilent makes a member of the name a that does not run, and knows the node c.
func newSilent(t *testing.T, change func(*Config)) *Members {
	t.Helper()
	places := NewPlaces(map[string]netip.AddrPort{"c": netip.MustParseAddrPort("192.0.2.3:7947")})
	cfg := Config{Node: "a", Boot: "boot", Bind: netip.MustParseAddrPort("192.0.2.1:7947"), Keys: [][]byte{key}, Log: slog.New(slog.DiscardHandler), Places: func() *Places { return places }}
	if change != nil {
		change(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func says(node string, version uint64) announcer.Report {
	return announcer.Report{Electable: snapshot.Electable{Node: node}, Version: version}
}

// Which reports count: those that the node signed, as soon as its key is known. A node
// without a key is of version 0.1, or new.
func TestWhoSigned(t *testing.T) {
	mine, its, other := keyOf("a"), keyOf("c"), keyOf("y")
	later := says("c", 7)
	later.Later = "a field of a later release"
	cut := signed(says("c", 7), its)
	cut.Later = cut.Later[1:]
	changed := signed(says("c", 7), its)
	changed.Version++
	for name, c := range map[string]struct {
		signs  bool // c's key is known
		report announcer.Report
		want   bool
	}{
		"nobody knows its key":               {false, says("c", 7), true},
		"nobody knows the key that signed":   {false, signed(says("c", 7), its), true},
		"a far version without a signature":  {false, says("c", maxJump+1), false},
		"its key":                            {true, signed(says("c", 7), its), true},
		"its key, a far version":             {true, signed(says("c", maxJump+1), its), true},
		"its key, with a later field":        {true, signed(later, its), true},
		"no signature":                       {true, says("c", 7), false},
		"no signature, with a later field":   {true, later, false},
		"the key of another node":            {true, signed(says("c", 7), other), false},
		"a signature that is cut":            {true, cut, false},
		"a signature of another report":      {true, changed, false},
		"a node that the API does not have":  {true, says("d", 7), false},
		"this node, unsigned, not far":       {false, says("a", 7), true},
		"this node, unsigned, far":           {false, says("a", maxJump+2), false},
		"this node, by its key":              {true, signed(says("a", maxJump+2), mine), true},
		"this node, by the key of another":   {true, signed(says("a", 7), other), false},
		"this node, unsigned, its key known": {true, says("a", 7), false},
	} {
		m := newSilent(t, func(cfg *Config) { cfg.Key = mine })
		if c.signs {
			m.SetSigners(map[string]ed25519.PublicKey{"a": publicOf(mine), "c": publicOf(its)})
		}
		_, err := m.receive(announcer.Remembered{Report: c.report})
		if got := err == nil; got != c.want {
			t.Errorf("%s: believed: %v, %v", name, got, err)
		}
		if r := m.roster.Report("c"); c.report.Node == "c" && (r != nil) != c.want {
			t.Errorf("%s: it is kept: %+v", name, r)
		}
		if outbids := m.usedVersion > 0; c.report.Node == "a" && outbids != c.want {
			t.Errorf("%s: this node outbids it: %v", name, outbids)
		}
	}
}

// What was believed before a node's key was known does not stand against what the node
// signs, whatever its version. A key that is asked for again may have changed.
func TestKeyIsLearnt(t *testing.T) {
	var doubted atomic.Int32
	m := newSilent(t, func(cfg *Config) { cfg.Doubted = func(string) { doubted.Add(1) } })
	keys := map[string]ed25519.PublicKey{"c": publicOf(keyOf("c"))}
	hears := func(what string, r announcer.Report, want bool) {
		t.Helper()
		if news, _ := m.receive(announcer.Remembered{Report: r}); news != want {
			t.Errorf("%s: news: %v", what, news)
		}
	}
	hears("forged, nobody signs", says("c", 1000), true)
	m.SetSigners(keys)
	hears("forged again", says("c", 2000), false)
	hears("its first", signed(says("c", 5), keyOf("c")), true)
	m.SetSigners(map[string]ed25519.PublicKey{"c": publicOf(keyOf("c"))})
	hears("an old one", signed(says("c", 4), keyOf("c")), false)
	if doubted.Load() != 1 {
		t.Errorf("its key was asked for %d times", doubted.Load())
	}
	m.SetSigners(map[string]ed25519.PublicKey{"c": publicOf(keyOf("other"))})
	hears("its next key", signed(says("c", 1), keyOf("other")), true)
	m.SetSigners(nil)
	hears("of version 0.1 again", says("c", 6), true)
}

// An agent that starts is told that a node is gone, at an address where nobody answers. It
// asks at the node's own.
func TestAttackByAForgedMemory(t *testing.T) {
	m := newSilent(t, nil)
	r := announcer.Remembered{Report: says("c", 7), Addr: netip.MustParseAddrPort("192.0.2.77:7947"), Silent: time.Second}
	if _, err := m.receive(r); err != nil {
		t.Fatal(err)
	}
	due := m.roster.Due(time.Now())
	if len(due) != 1 || m.addrOf(due[0]) != m.cfg.Places().Of("c") || due[0].Addr != m.cfg.Places().Of("c") {
		t.Errorf("it asks %v", due)
	}
}

// One exchange has an agent look at few signatures that are wrong.
func TestAttackByManySignatures(t *testing.T) {
	m := newSilent(t, nil)
	m.SetSigners(map[string]ed25519.PublicKey{"c": publicOf(keyOf("c"))})
	var all []announcer.Remembered
	for i := range 4000 {
		all = append(all, announcer.Remembered{Report: signed(says("c", uint64(i+1)), keyOf("y"))})
	}
	b := encodeAll(all)
	began := time.Now()
	(&delegate{m}).MergeRemoteState(b, false)
	got := testutil.ToFloat64(m.metrics.refused.WithLabelValues(refusedForged))
	t.Logf("attack: an exchange of 4,000 forged reports: %v are looked at, in %s", got, time.Since(began).Round(time.Millisecond))
	if got != maxForged+1 {
		t.Errorf("%v signatures were looked at", got)
	}
}

// BenchmarkVouch is what a report that is news costs.
func BenchmarkVouch(b *testing.B) {
	r, public := signed(full, keyOf("w")), publicOf(keyOf("w"))
	for b.Loop() {
		if !signedBy(r, public) {
			b.Fatal("it is refused")
		}
	}
}

// An agent of version 0.1 follows one that signed. The others do not believe it until they
// have heard that its node has no key any more; then it is what it was.
func TestAgentThatStopsSigning(t *testing.T) {
	c := newCluster(t)
	signers, doubted := map[string]ed25519.PublicKey{}, make(chan string, 1)
	for _, n := range []string{"a", "b", "c"} {
		signers[n] = publicOf(keyOf(n))
		c.start(n, func(cfg *Config) {
			cfg.Key = keyOf(cfg.Node)
			cfg.Doubted = func(node string) {
				select {
				case doubted <- node:
				default:
				}
			}
		})
	}
	for _, n := range c.nodes {
		n.SetSigners(signers)
	}
	c.together(t)
	c.nodes["c"].stop()
	c.start("c", nil)
	select {
	case node := <-doubted:
		if node != "c" {
			t.Errorf("%s is doubted", node)
		}
	case <-time.After(patience):
		t.Fatal("nobody is doubted")
	}
	without := maps.Clone(signers)
	delete(without, "c")
	for _, n := range []string{"a", "b"} {
		c.nodes[n].SetSigners(without)
	}
	c.together(t)
}
