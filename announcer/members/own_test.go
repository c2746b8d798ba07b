package members

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// An agent goes on where the last one stopped only if that was electable and its
// node was there all the time.
func TestWhatOthersRememberOfThisNode(t *testing.T) {
	settled := announcer.Report{Electable: snapshot.Electable{Node: "n"}, Boot: "now", Version: 7, Settled: true}
	for _, c := range []struct {
		name   string
		of     announcer.Remembered
		want   bool
		booted bool
	}{
		{"its agent restarted", announcer.Remembered{Report: settled, Silent: time.Second}, true, false},
		{"its kernel did not answer meanwhile", announcer.Remembered{Report: settled, Silent: time.Second, NodeGone: true}, false, true},
		{"it was silent for too long", announcer.Remembered{Report: settled, Silent: announcer.HoldFor}, false, false},
		{"it was not electable", announcer.Remembered{Report: announcer.Report{Electable: snapshot.Electable{Node: "n"}, Boot: "now", Version: 7}, Silent: time.Second}, false, false},
		{"the machine booted", announcer.Remembered{Report: announcer.Report{Electable: snapshot.Electable{Node: "n"}, Boot: "then", Version: 7, Settled: true}, Silent: time.Second}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := New(Config{Node: "n", Boot: "now", Bind: netip.MustParseAddrPort("192.0.2.1:7947"), Keys: [][]byte{make([]byte, 32)}, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.receive(c.of); err != nil {
				t.Fatal(err)
			}
			if got := m.formerReport != nil; got != c.want {
				t.Errorf("it goes on: %v", got)
			}
			if got := m.StartsOver(); got == c.want {
				t.Errorf("it starts over: %v", got)
			}
			if got := m.podsStart(time.Now()); got != c.booted {
				t.Errorf("its pods are left alone for now: %v", got)
			}
			if m.podsStart(time.Now().Add(announcer.PodsAfter)) {
				t.Error("its pods are left alone for good")
			}
			if m.usedVersion != 7 {
				t.Errorf("it would speak with a version below %d", c.of.Report.Version)
			}
		})
	}
}

// An agent that is told to stop as it wakes from a standstill does not leave its
// successor what it held before.
func TestLastReport(t *testing.T) {
	for stood, settled := range map[time.Duration]bool{0: true, time.Minute: false} {
		var places *Places
		m, err := New(Config{Node: "n", Boot: "now", Bind: netip.MustParseAddrPort("192.0.2.1:7947"), Keys: [][]byte{make([]byte, 32)},
			Places: func() *Places { return places }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		m.Say(announcer.Report{Electable: snapshot.Electable{InSync: true}})
		m.update(time.Now(), bootTime())
		if !m.self.Settled {
			t.Fatal("a node that is alone is not settled at once")
		}
		places = NewPlaces(map[string]netip.AddrPort{"other": netip.MustParseAddrPort("192.0.2.2:7947")})
		m.roster.Spoke("other", netip.MustParseAddrPort("192.0.2.2:7947"), time.Now())
		if _, err := m.receive(announcer.Remembered{Report: announcer.Report{Electable: snapshot.Electable{Node: "other", InSync: true}, Version: 1, Settled: true, LongSettled: true}}); err != nil {
			t.Fatal(err)
		}
		version := m.self.Version
		m.updated -= stood
		if r := m.lastReport(); r.Settled != settled || !r.Restarting || r.Version <= version {
			t.Errorf("after a standstill of %s it says %+v", stood, r)
		}
	}
}

// Without a guard, nodes may speak from addresses that their Node objects do not have.
func TestListensTo(t *testing.T) {
	node, other := netip.MustParseAddrPort("198.18.0.2:7946"), netip.MustParseAddr("198.18.0.9")
	m := &Members{cfg: Config{Bind: netip.MustParseAddrPort("198.18.0.1:7946"), Places: func() *Places { return NewPlaces(map[string]netip.AddrPort{"n": node}) }}}
	if !m.listensTo(node.Addr()) || m.listensTo(other) {
		t.Error("a node is refused, or a stranger is not")
	}
	if m.cfg.Open = true; !m.listensTo(other) {
		t.Error("without a guard somebody is refused")
	}
}
