package agent

import (
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/asktest"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// TestVersion01BesideThisOne: while one agent is of version 0.1 and two are of this one, each
// address has one answer, and a power loss of either kind of node is made good. One agent
// goes back to version 0.1 meanwhile, which moves nothing.
func TestVersion01BesideThisOne(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]string{"the lost node has this version": "b", "the lost node has version 0.1": "a"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeers(t, peerSetup{v010: map[string]bool{"a": true}})
			nstest.Eventually(t, "a, which starts seconds later than the others, has its share", func() bool {
				text, err := os.ReadFile(p.logs + "/a")
				return err == nil && strings.Contains(string(text), "msg=announcing")
			})
			owners := p.settled(t)
			t.Log("a of version 0.1, b and c of this one:", owners)
			p.loses(t, lost, owners)
		})
	}
	t.Run("after the way back", func(t *testing.T) {
		t.Parallel()
		p := newPeers(t, peerSetup{})
		owners := p.settled(t)
		stop := p.ask(t)
		p.signal(t, "a", syscall.SIGTERM)
		_ = p.cmds["a"].Wait()
		p.v010 = map[string]bool{"a": true}
		p.start(t, "a")
		nstest.Eventually(t, "a holds its addresses in the way of version 0.1", func() bool {
			for addr, owner := range owners {
				if out := p.spaces["a"].Run(t, "ip", "addr", "show", "dev", "eth0", "to", addr.String()); (out != "") != (owner == "a") {
					return false
				}
			}
			return true
		})
		end := time.Now()
		for addr, h := range stop() {
			t.Logf("%s of %s: %v without an answer on the way back", addr, owners[addr], h.Silence(end).Round(time.Millisecond))
			if h.Silence(end) > asktest.Wide.Silence || len(h.Moves()) != 1 {
				t.Errorf("%s moved on the way back, or was not answered: %d times", addr, len(h.Moves()))
			}
		}
		p.loses(t, "b", owners)
	})
}

// loses takes the power of a node away, and checks that the others have its addresses.
func (p *peers) loses(t *testing.T, node string, owners map[netip.Addr]string) {
	t.Helper()
	stop := p.ask(t)
	time.Sleep(3 * time.Second) // so that all have been watched
	p.cut(t, "iifname to-"+node, "oifname to-"+node)
	p.signal(t, node, syscall.SIGKILL)
	nstest.Eventually(t, "the others answer for all", func() bool {
		all := true
		for _, h := range p.listen(t, time.Second/2) {
			all = all && len(h.Moves()) == 1 && p.node(h.Moves()[0]) != node
		}
		return all
	})
	end := time.Now()
	for addr, h := range stop() {
		t.Logf("%s of %s: %v without an answer after the power loss of %s", addr, owners[addr], h.Silence(end).Round(time.Millisecond), node)
		if h.Silence(end) > asktest.Wide.Silence {
			t.Errorf("%s: no answer for %v", addr, h.Silence(end))
		}
		if owners[addr] != node && len(h.Moves()) != 1 {
			t.Errorf("%s moved", addr)
		}
	}
}
