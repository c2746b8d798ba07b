package l2

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
)

// script tells a detector what happens to one address, a line at a time:
//
//	+1.2s                 time passes, and is looked at every 25 ms
//	want | want held      it is to be announced; it is held already
//	drop                  it is another node's
//	disputed              it is recorded in conflict and this node's to ask about
//	record uid=U [probed] [conflict=M]
//	ours M                M is a MAC of the cluster
//	claim M | probe M     heard on eth0
//	freeze                this process stood still
//	deaf | hears          nobody is heard on eth0, or somebody always is
//	deaf soon             somebody was heard on eth0 just now, and nobody is from now on
//	leaving               it is to be given up once its next owner announces it
//	left | left no        its last owner's agent is gone; or not
//	left second           it is, and another node's turn comes first
//
// What comes of it is written behind "->".
type script struct {
	*detector
	now  time.Time
	out  []string
	addr netip.Addr
}

func (s *script) do(t *testing.T, line string) {
	words := strings.Fields(line)
	k := s.known
	switch verb := words[0]; {
	case verb[0] == '+':
		d, err := time.ParseDuration(verb[1:])
		if err != nil {
			t.Fatal(err)
		}
		for end := s.now.Add(d); s.now.Before(end); {
			s.now = s.now.Add(25 * time.Millisecond)
			s.acts(s.tick(s.now, 10))
		}
	case verb == "want":
		held := len(words) > 1
		got := s.admit([]announcer.Claim{{Addr: s.addr, Link: "eth0"}}, func(netip.Addr) bool { return held }, s.now)
		s.out = append(s.out, fmt.Sprintf("admitted=%v", len(got) == 1))
		s.acts(s.tick(s.now, 10))
	case verb == "drop":
		s.admit(nil, func(netip.Addr) bool { return false }, s.now)
	case verb == "disputed":
		k.Disputed = []announcer.Claim{{Addr: s.addr, Link: "eth0"}}
		s.setKnown(k)
		s.admit(nil, func(netip.Addr) bool { return false }, s.now)
		s.acts(s.tick(s.now, 10))
	case verb == "record":
		r := announcer.Record{}
		for _, w := range words[1:] {
			name, value, _ := strings.Cut(w, "=")
			switch name {
			case "uid":
				r.UID = value
			case "probed":
				r.Probed = true
			case "conflict":
				r.Conflict = value
			}
		}
		k.Records, k.Disputed = map[netip.Addr]announcer.Record{s.addr: r}, nil
		s.setKnown(k)
	case verb == "ours":
		k.Ours = map[string]bool{words[1]: true}
		s.setKnown(k)
	case verb == "claim" || verb == "probe":
		s.acts(s.heard("eth0", assertion{s.addr, words[1], verb == "probe"}, s.now))
	case verb == "left":
		s.known.Orphaned = map[netip.Addr]int{s.addr: len(words) - 1}
		if strings.HasSuffix(line, "no") {
			s.known.Orphaned = nil
		}
	case verb == "leaving":
		s.known.Leaving = map[netip.Addr]bool{s.addr: true}
	case verb == "deaf" || verb == "hears":
		last := time.Time{}
		if len(words) > 1 {
			last = s.now
		}
		s.heardAt = func(string) time.Time {
			if verb == "hears" {
				return s.now
			}
			return last
		}
	case verb == "freeze":
		s.restartProbes(s.now)
	default:
		t.Fatalf("no verb %q", verb)
	}
}

func (s *script) acts(as []action) {
	switch {
	case len(as) > 1:
		s.out = append(s.out, fmt.Sprintf("probe*%d", len(as)))
	case len(as) == 1 && as[0].again:
		s.out = append(s.out, "again")
	case len(as) == 1 && as[0].defend:
		s.out = append(s.out, "defend")
	case len(as) == 1:
		s.out = append(s.out, "probe")
	}
}

func (s *script) tell() string {
	for _, f := range s.findings() {
		s.out = append(s.out, strings.TrimSpace(fmt.Sprintf("found(uid=%s probed=%v %s %s", f.UID, !f.ProbedAt.IsZero(), f.Conflict, f.Claimant))+")")
	}
	out := strings.Join(s.out, " ")
	s.out = nil
	return out
}

func TestConflictDetection(t *testing.T) {
	for _, tc := range []struct{ name, script string }{
		{"probed once, then announced", `
			record uid=u
			want -> admitted=false probe
			+550ms -> probe probe
			want -> admitted=false
			+50ms -> found(uid=u probed=true)
			want -> admitted=true found(uid=u probed=true)
			record uid=u probed
			+60s ->`},
		{"a take-over waits until the last owner's kernel is silent", `
			record uid=u probed
			left
			ours 02:00:00:00:00:11
			want -> admitted=false probe
			claim 02:00:00:00:00:11 ->
			+500ms -> probe probe*5 probe*5
			want -> admitted=true
			+60s ->`},
		{"the second in turn begins when it hears", `
			record uid=u probed
			left second
			deaf
			want -> admitted=false probe
			+10s -> probe*5 probe*5
			hears
			+400ms -> probe probe*5 probe*5 probe probe probe probe probe probe probe probe
			want -> admitted=true`},
		{"it answers several times", `
			record uid=u probed
			left
			want -> admitted=false probe
			claim 02:00:00:00:00:11 ->
			+25ms ->
			claim 02:00:00:00:00:11 ->
			+50ms -> probe
			claim 02:00:00:00:00:11 ->
			want -> admitted=false
			+125ms -> probe probe*5 probe*5
			want -> admitted=true`},
		{"an answer is lost", `
			record uid=u probed
			left
			want -> admitted=false probe
			+25ms -> probe*5
			claim 02:00:00:00:00:11 ->
			claim 02:00:00:00:00:11 ->
			+50ms -> probe
			want -> admitted=false`},
		{"a node that hears nobody waits, and asks again when it hears", `
			record uid=u probed
			left
			deaf
			want -> admitted=false probe
			+60s -> probe*5 probe*5
			want -> admitted=false
			hears
			+75ms -> probe
			want -> admitted=false
			+100ms -> probe*5 probe*5
			want -> admitted=true`},
		{"what a node heard before it asked proves nothing", `
			record uid=u probed
			deaf soon
			+500ms ->
			left
			want -> admitted=false probe
			+200ms -> probe*5 probe*5
			want -> admitted=false
			hears
			+150ms -> probe probe*5 probe*5
			want -> admitted=true`},
		{"the second in turn takes it in the same moment as another node", `
			record uid=u probed
			left second
			want -> admitted=false probe
			+300ms -> probe*5 probe*5 probe probe probe probe probe probe probe probe
			want -> admitted=true
			left no
			claim 02:00:00:00:00:99 ->
			want held -> admitted=false
			want -> admitted=false
			left second
			+50ms -> probe
			claim 02:00:00:00:00:99 ->
			+200ms -> probe probe*5 probe*5 probe probe probe probe
			claim 02:00:00:00:00:99 ->
			want -> admitted=false
			+400ms -> probe probe*5 probe*5 probe probe probe probe probe probe probe probe
			want -> admitted=true
			left no
			want held -> admitted=true
			+3s ->
			claim 02:00:00:00:00:99 -> defend
			want held -> admitted=true`},
		{"it hears that node before its kernel answers", `
			record uid=u probed
			left second
			want -> admitted=false probe
			+300ms -> probe*5 probe*5 probe probe probe probe probe probe probe probe
			claim 02:00:00:00:00:99 ->
			want -> admitted=false`},
		{"that node asks as well", `
			record uid=u probed
			left second
			want -> admitted=false probe
			+300ms -> probe*5 probe*5 probe probe probe probe probe probe probe probe
			want -> admitted=true
			probe 02:00:00:00:00:99 ->
			want held -> admitted=true`},
		{"gossip is back when it has given way", `
			record uid=u probed
			left second
			want -> admitted=false probe
			+300ms -> probe*5 probe*5 probe probe probe probe probe probe probe probe
			want -> admitted=true
			left no
			claim 02:00:00:00:00:99 ->
			want held -> admitted=false
			deaf
			want -> admitted=false
			+2.9s -> probe probe*5 probe*5
			want -> admitted=false
			+100ms ->
			want -> admitted=true`},
		{"the first in turn keeps it, and tells of no foreign host at once", `
			record uid=u probed
			left
			want -> admitted=false probe
			+100ms -> probe*5 probe*5
			want -> admitted=true
			left no
			claim 02:00:00:00:00:99 -> defend
			claim 02:00:00:00:00:99 ->
			want held -> admitted=true
			+3s ->
			claim 02:00:00:00:00:99 -> found(uid=u probed=false  02:00:00:00:00:99)`},
		{"its agent is back", `
			record uid=u probed
			left
			want -> admitted=false probe
			left no
			want -> admitted=true
			+1s ->`},
		{"the next owner announces what is handed over", `
			record uid=u probed
			ours 02:00:00:00:00:11
			want held -> admitted=true
			leaving
			want held -> admitted=true
			probe 02:00:00:00:00:11 ->
			want held -> admitted=true
			claim 02:00:00:00:00:11 ->
			want held -> admitted=false
			+1s ->
			want held -> admitted=false`},
		{"it did so before this node heard that it is the owner", `
			record uid=u probed
			ours 02:00:00:00:00:11
			want held -> admitted=true
			claim 02:00:00:00:00:11 -> again
			+100ms ->
			want held -> admitted=true
			leaving
			want held -> admitted=false`},
		{"it did so long ago", `
			record uid=u probed
			ours 02:00:00:00:00:11
			want held -> admitted=true
			claim 02:00:00:00:00:11 -> again
			+1s ->
			leaving
			want held -> admitted=true`},
		{"another node of ours announces what this one owns", `
			record uid=u probed
			ours 02:00:00:00:00:11
			want held -> admitted=true
			probe 02:00:00:00:00:11 ->
			claim 02:00:00:00:00:11 -> again
			claim 02:00:00:00:00:11 ->
			+11s ->
			claim 02:00:00:00:00:11 -> again
			want held -> admitted=true`},
		{"nobody asks for what is held already", `
			record uid=u probed
			left
			want held -> admitted=true
			+1s ->`},
		{"a second time", `
			record uid=u probed
			left
			want -> admitted=false probe
			+200ms -> probe*5 probe*5
			want -> admitted=true
			drop
			left no
			want -> admitted=true
			drop
			left
			want -> admitted=false probe`},
		{"never at a take-over", `
			record uid=u probed
			want -> admitted=true
			+60s ->`},
		{"without a record nothing is held up", `
			want -> admitted=true`},
		{"another assignment is probed again", `
			record uid=u probed
			want held -> admitted=true
			drop ->
			record uid=v
			want -> admitted=false probe`},
		{"what is held goes on while it is probed", `
			record uid=u
			want held -> admitted=true probe
			+1s -> probe probe found(uid=u probed=true)
			want held -> admitted=true found(uid=u probed=true)`},
		{"another node has probed meanwhile", `
			record uid=u
			want -> admitted=false probe
			record uid=u probed
			want -> admitted=true
			+1s ->`},
		{"a foreign host answers", `
			record uid=u
			want -> admitted=false probe
			claim 02:00:00:00:00:99 -> found(uid=u probed=true 02:00:00:00:00:99)
			want -> admitted=false found(uid=u probed=true 02:00:00:00:00:99)
			record uid=u probed conflict=02:00:00:00:00:99
			disputed ->
			+44s ->
			+2s -> probe probe probe found(uid=u probed=true)
			record uid=u probed
			want -> admitted=true`},
		{"a foreign host wants the address too", `
			record uid=u
			want -> admitted=false probe
			probe 02:00:00:00:00:99 -> found(uid=u probed=true 02:00:00:00:00:99)`},
		{"a conflict that lasts is asked about again", `
			record uid=u probed conflict=02:00:00:00:00:99
			disputed -> probe
			claim 02:00:00:00:00:99 ->
			+44s ->
			+2s -> probe probe probe found(uid=u probed=true)`},
		{"our own nodes are not a conflict", `
			record uid=u
			ours 02:00:00:00:00:99
			want -> admitted=false probe
			claim 02:00:00:00:00:99 ->
			+1s -> probe probe found(uid=u probed=true)`},
		{"a node of ours that was not known", `
			record uid=u
			want -> admitted=false probe
			claim 02:00:00:00:00:99 -> found(uid=u probed=true 02:00:00:00:00:99)
			ours 02:00:00:00:00:99 -> found(uid=u probed=true)
			want -> admitted=true found(uid=u probed=true)`},
		{"the API server is away: the own probe is enough", `
			record uid=u
			want -> admitted=false probe
			+700ms -> probe probe found(uid=u probed=true)
			want -> admitted=true found(uid=u probed=true)
			+1h -> found(uid=u probed=true)
			want held -> admitted=true found(uid=u probed=true)`},
		{"a claim is defended, and told if it goes on", `
			record uid=u probed
			want -> admitted=true
			claim 02:00:00:00:00:99 -> defend
			+1s ->
			claim 02:00:00:00:00:99 -> found(uid=u probed=false  02:00:00:00:00:99)
			+8s -> found(uid=u probed=false  02:00:00:00:00:99)
			claim 02:00:00:00:00:99 -> found(uid=u probed=false  02:00:00:00:00:99)
			+1s -> found(uid=u probed=false  02:00:00:00:00:99)
			claim 02:00:00:00:00:98 -> defend found(uid=u probed=false  02:00:00:00:00:99)
			want held -> admitted=true found(uid=u probed=false  02:00:00:00:00:99)
			+61s ->`},
		{"a host that yields to the defence is not told of", `
			record uid=u probed
			want -> admitted=true
			claim 02:00:00:00:00:99 -> defend
			+5m ->
			claim 02:00:00:00:00:99 -> defend`},
		{"the kernel answers probes for what is announced", `
			record uid=u probed
			want -> admitted=true
			probe 02:00:00:00:00:99 ->`},
		{"what is another node's is not defended", `
			record uid=u probed
			want -> admitted=true
			drop ->
			claim 02:00:00:00:00:99 ->`},
		{"probes start over after a freeze", `
			record uid=u
			want -> admitted=false probe
			+300ms -> probe
			freeze ->
			+550ms -> probe probe probe
			+100ms -> found(uid=u probed=true)`},
		{"a conflict that came from elsewhere is asked about at once", `
			record uid=u probed
			want -> admitted=true
			record uid=u probed conflict=02:00:00:00:00:99
			disputed -> probe
			+1s -> probe probe found(uid=u probed=true)`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &script{detector: newDetector(), now: time.Unix(1000, 0), addr: vip4}
			for line := range strings.Lines(strings.TrimSpace(tc.script)) {
				do, want, _ := strings.Cut(strings.TrimSpace(line), "->")
				s.do(t, do)
				if got := s.tell(); got != strings.TrimSpace(want) && strings.Contains(line, "->") {
					t.Fatalf("%s\ngot  %s\nwant %s", do, got, strings.TrimSpace(want))
				}
			}
		})
	}
}

// A thousand addresses are probed at once, so many at a look.
func TestProbesAreConcurrent(t *testing.T) {
	d, now := newDetector(), time.Unix(1000, 0)
	k, claims := announcer.Set{Records: map[netip.Addr]announcer.Record{}}, []announcer.Claim{}
	for a := netip.MustParseAddr("198.18.4.0"); len(claims) < 1000; a = a.Next() {
		k.Records[a] = announcer.Record{UID: "u"}
		claims = append(claims, announcer.Claim{Addr: a, Link: "eth0"})
	}
	d.setKnown(k)
	free := func(netip.Addr) bool { return false }
	if got := d.admit(claims, free, now); len(got) != 0 {
		t.Fatalf("%d are announced without a probe", len(got))
	}
	for range 20 {
		if n := len(d.tick(now, mostAddresses)); n > mostAddresses {
			t.Fatalf("%d probes at a look", n)
		}
		now = now.Add(50 * time.Millisecond)
	}
	if got := d.admit(claims, free, now); len(got) != 1000 {
		t.Errorf("after a second %d of 1000 are free", len(got))
	}
}

// An announcement is repeated for two seconds, and for 32 on a link that carries nothing.
// Where a refresh is asked for, it is repeated after that, without an end.
func TestAnnouncementsAreRepeated(t *testing.T) {
	for _, tt := range []struct {
		name        string
		carriesFrom int // announcements until the link carries
		refresh     time.Duration
		want        []time.Duration // the first nine
	}{
		{"a link that carries", 0, 0, []time.Duration{0, 100 * time.Millisecond, 700 * time.Millisecond, 2 * time.Second}},
		{"a port that opens after some time", 6, 0, []time.Duration{0, 100 * time.Millisecond, 700 * time.Millisecond, 2 * time.Second, 4 * time.Second, 8 * time.Second}},
		{"a port that opens, refreshed", 5, time.Minute, []time.Duration{0, 100 * time.Millisecond, 700 * time.Millisecond, 2 * time.Second, 4 * time.Second, 64 * time.Second, 124 * time.Second, 184 * time.Second, 244 * time.Second}},
		{"a port that never opens", 100, 0, []time.Duration{0, 100 * time.Millisecond, 700 * time.Millisecond, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second}},
	} {
		sent := 0
		r := &runner{Leases: &Leases{detector: newDetector(), Carries: func(string) bool { return sent >= tt.carriesFrom }}}
		r.detector.known.Refresh = map[netip.Addr]time.Duration{vip4: tt.refresh}
		got, more := []time.Duration{0}, true
		for more && sent < 8 {
			var pause time.Duration
			sent++
			if pause, more = r.pauseAfter(sent, on4); more {
				got = append(got, got[len(got)-1]+pause)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
