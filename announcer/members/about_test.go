package members

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
)

// a and c are cut from each other, and b hears both. To c, a falls silent. Others get answers
// from its kernel, so it is not gone, and c has its next report from them.
func TestCutFromOneNode(t *testing.T) {
	t.Parallel()
	cl := newCluster(t)
	for _, name := range []string{"a", "b", "c"} {
		cl.start(name, func(cfg *Config) { cfg.tuning.pushPull = time.Hour })
	}
	cl.together(t)
	a, c := cl.nodes["a"], cl.nodes["c"]
	cl.f.cut(a.addr, c.addr)
	now := time.Now()
	c.mu.Lock()
	c.roster.FellSilent("a", now)
	c.dirty = true
	c.mu.Unlock()
	for strings.HasPrefix(c.line("a"), "alive") {
		if time.Sleep(10 * time.Millisecond); time.Since(now) > patience {
			t.Fatal("its kernel was never asked")
		}
	}
	if line := c.line("a"); strings.HasPrefix(line, "node-gone") {
		t.Error("c says of a, whose kernel b can ask:", line)
	}
	c.mu.Lock()
	c.roster.Spoke("a", a.addr, time.Now())
	c.dirty = true
	c.mu.Unlock()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if m := c.View().Member("a"); m.Verdict == announcer.Alive && !m.Stale {
			break
		}
		if time.Since(began) > patience {
			t.Fatalf("c never had another report of a:\n%s", c.View())
		}
	}
}

// A node that loses its power answers nobody, and one that asks in the name of nobody is not
// answered.
func TestOthersDoNotVouchForTheDead(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, "a", "b", "c", "d")
	cl.together(t)
	cl.f.power(cl.nodes["a"].addr, false)
	for _, n := range []string{"b", "c", "d"} {
		cl.nodes[n].says(t, "a", "node-gone quarantine")
	}
	d := &delegate{cl.nodes["b"].Members}
	d.NotifyMsg([]byte{msgAbout, 0xff})                          // ends early
	d.NotifyMsg([]byte{msgAbout, 0, 1, 'z', 'a'})                // of an agent that is not there
	d.NotifyMsg([]byte{msgAbout, 0, 1, 'c', 'n', 'o'})           // of a node that is not there
	d.NotifyMsg([]byte{msgAbout, 0, 1, 'c', 'b'})                // of itself
	d.NotifyMsg([]byte{msgFound, byte(announcer.Answered), 'a'}) // nobody asked
	b := cl.nodes["b"]
	b.mu.Lock()
	defer b.mu.Unlock()
	if askers := b.inquiries["b"]; askers != nil {
		t.Errorf("it is to tell %v of itself", askers)
	}
	if m := b.view.Member("a"); m.Verdict != announcer.NodeGone {
		t.Errorf("nobody asked, and a is %v", m.Verdict)
	}
}
