package announcer

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

var epoch = time.Unix(1_000_000, 0)

func second(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }

// TestRoster tells node "me" what it hears, a line each: the second, what, of
// whom. "view" wants what it then holds of the others: a capital for each that
// may be elected, and A alive, G agent gone, N node gone, Q quarantined too, B back
// and quarantined.
func TestRoster(t *testing.T) {
	three := "0 heard a\n0 heard b\n0 said a\n0 said b\n"
	five := three + "0 heard c\n0 heard d\n0 said c\n0 said d\n"
	tests := []struct{ name, script string }{
		{"who speaks and has reported is a candidate", "0 heard a\n1 view a:a\n1 said a\n1 view a:A"},
		{"a report before the first word counts from then on", "0 said a\n0 view\n1 heard a\n1 view a:A"},
		{"an unsettled node is none", "0 heard a\n0 unsettled a\n1 view a:a\n2 said a\n2 view a:A"},
		{"silent and not checked yet: nothing is known", three + "10 lost a\n10.1 view a:A b:A"},
		{"a lost node", three + "10 lost a\n10.15 mute a\n10.15 view a:Q b:A"},
		{"an agent that is gone keeps its VIPs for 20 s", three + "10 lost a\n10 answered a\n29 view a:G b:A\n31 view a:g b:A"},
		{"a check that could not be made is not a loss", three + "10 lost a\n10 unknown a\n29 view a:G b:A\n31 view a:g b:A"},
		{"an agent is gone, then its node", three + "10 lost a\n10 answered a\n15 mute a\n15 view a:Q b:A"},
		{"restarting: gone without a check, back with what it was", three + "10 restarting a\n10.1 view a:A b:A\n10.2 lost a\n10.2 view a:G b:A\n15 heard a\n15 view a:A b:A\n15 said a\n15 view a:A b:A"},
		{"restarting for too long", three + "10 restarting a\n10 lost a\n31 view a:g b:A"},
		{"restarting, but the power goes", three + "10 restarting a\n10 lost a\n12 mute a\n12 view a:Q b:A"},
		{"a lost node that returns has to report again", three + "10 lost a\n10.2 mute a\n20 heard a\n20 view a:b b:A\n20 said a\n20 view a:B b:A\n29 view a:B b:A\n30 view a:A b:A"},
		{"a report of before that comes late is not it", three + "10 lost a\n10.2 mute a\n15 said a\n20 heard a\n20 view a:b b:A"},
		{"an agent that is back but does not report: its 20 s are its own", three + "10 lost a\n10.2 answered a\n20 heard a\n29 view a:A b:A\n31 view a:a b:A"},
		{"silent twice without a report is one silence", three + "10 lost a\n10.2 mute a\n20 heard a\n21 lost a\n21 answered a\n22 view a:Q b:A"},
		{"a kernel that answers again is trusted after 60 s; its VIPs are others'", three + "10 lost a\n10.2 mute a\n20 answered a\n79 view a:Q b:A\n81 view a:g b:A\n82 mute a\n82 view a:Q b:A"},
		{"a check that comes too late", three + "10 lost a\n10.1 ask a\n10.2 heard a\n10.2 said a\n10.3 mute a\n10.3 view a:A b:A"},
		{"two of three at once: rather we are cut off", three + "10 lost a\n10.1 lost b\n10.2 mute a\n10.2 view a:n b:A guarded\n10.3 mute b\n10.3 view a:n b:n guarded cut-off"},
		{"two of three one after the other", three + "10 lost a\n10.2 mute a\n100 lost b\n100.2 mute b\n101 view a:Q b:Q"},
		{"cut off, and one is back: the other is lost", three + "10 lost a\n10 lost b\n10.2 mute a\n10.2 mute b\n60 heard a\n60 said a\n60 view a:A b:Q"},
		{"one of two is not more than half", "0 heard a\n0 said a\n10 lost a\n10.2 mute a\n11 view a:Q"},
		{"two of five", five + "10 lost a\n10 lost b\n10.2 mute a\n10.2 mute b\n11 view a:Q b:Q c:A d:A"},
		{"three of five", five + "10 lost a\n10 lost b\n11 lost c\n12 mute a\n12 mute b\n12 mute c\n13 view a:n b:n c:n d:A guarded cut-off"},
		{"all agents are killed, the kernels answer: nobody vanished", five + "10 lost a\n10 lost b\n10 lost c\n10 lost d\n10 answered a\n10 answered b\n10 answered c\n10 answered d\n11 view a:G b:G c:G d:G"},
		{"told by another of who is gone", "0 heard a\n0 said a\n0 recall b\n0 view a:A b:A\n0.2 mute b\n1 view a:A b:Q"},
		{"told by another of an agent that is gone for 10 s", "0 heard a\n0 said a\n0 recall b\n0.2 answered b\n9 view a:A b:G\n11 view a:A b:g"},
		{"told that one is gone, and its kernel answers", "0 heard a\n0 said a\n0 gone b\n0.2 answered b\n59 view a:A b:Q\n61 view a:A b:g"},
		{"told that one is gone, and it speaks on the same boot", "0 heard a\n0 said a\n0 gone b\n0.2 answered b\n1 heard b\n1 view a:A b:b\n1.1 said b\n1.1 view a:A b:A"},
		{"told that one is gone, and it has booted", "0 heard a\n0 said a\n0 gone b\n0.2 answered b\n1 heard b\n1.1 booted b\n1.1 view a:A b:B\n12 view a:A b:A"},
		{"told that one is gone, and another agent hears it", "0 heard a\n0 said a\n0 gone b\n0.2 answered b\n1 said b\n1 view a:A b:G"},
		{"told that one is gone, and its kernel does not answer", "0 heard a\n0 said a\n0 gone b\n0.2 mute b\n1 said b\n1 view a:A b:Q"},
		{"silent, and its reports still come: it keeps its VIPs", three + "10 lost a\n10 answered a\n29 lives a\n31 view a:A b:A\n33 view a:G b:A\n48 view a:G b:A\n50 view a:g b:A"},
		{"its reports still come, and then its node is lost", three + "10 lost a\n10 answered a\n11 lives a\n12 mute a\n12 view a:Q b:A\n13 lives a\n13 view a:Q b:A"},
		{"a proof of life of before counts for nothing", three + "10 lives a\n11 lost a\n11 answered a\n30 view a:G b:A\n32 view a:g b:A"},
		{"all agents fall silent at once, and are being checked", five + "10 lost a\n10 lost b\n10 lost c\n10 lost d\n10 view a:A b:A c:A d:A guarded"},
		{"told of one that speaks to us", three + "1 recall b\n1 view a:A b:A"},
		{"two nodes agree that its kernel does not answer: at once, whatever gossip says", three + "10 unreachable a\n10 view a:Q b:A\n10.4 lost a\n10.5 answered a\n10.5 view a:Q b:A\n20 unreachable\n20 view a:Q b:A\n21 heard a\n21 view a:b b:A\n21 said a\n21 view a:B b:A\n32 view a:A b:A"},
		{"unreachable for a moment, and gossip did not notice: it has to report again", three + "10 unreachable a\n10 view a:Q b:A\n11 said a\n11 view a:Q b:A\n12 unreachable\n12 view a:b b:A\n12.1 said a\n12.1 view a:B b:A"},
		{"unreachable, and silent when it can be reached again", three + "10 unreachable a\n10.5 lost a\n12 unreachable\n13 view a:Q b:A"},
		{"two of three unreachable: rather we are cut off", three + "10 unreachable a b\n10 view a:n b:n guarded cut-off"},
		{"forgotten: silent for long, and no node of the cluster", three + "10 lost a\n10.2 mute a\n500 forget b\n500 view a:Q b:A\n700 forget a b\n700 view a:Q b:A\n700 forget\n700 view a:Q b:A\n701 forget b\n701 view b:A"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { play(t, tt.script) })
	}
}

func play(t *testing.T, script string) {
	var r Roster
	versions, asks := map[string]uint64{}, map[string]Ask{}
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		var s float64
		var what string
		if _, err := fmt.Sscan(line, &s, &what); err != nil {
			t.Fatal(line, err)
		}
		at, rest := second(s), strings.Fields(line)[2:]
		who := strings.Join(rest, " ")
		for _, a := range r.Due(at) {
			asks[a.Node] = a
		}
		rep := Report{Electable: snapshot.Electable{Node: who, InSync: true}, Settled: true}
		switch what {
		case "heard":
			r.Spoke(who, addrOf(who), at)
		case "lost":
			r.FellSilent(who, at)
		case "lives":
			r.Lives(who, at)
		case "said", "unsettled", "restarting", "recall", "gone", "booted":
			versions[who]++
			rep.Version, rep.Settled, rep.Restarting = versions[who], what != "unsettled", what == "restarting"
			if what == "booted" {
				rep.Boot = "another"
			}
			m := Remembered{Report: rep, Addr: addrOf(who), NodeGone: what == "gone"}
			if what == "recall" || what == "gone" {
				m.Silent = 10 * time.Second
			}
			if news := r.Recall(m, at); m.Silent == 0 && (!news || r.Recall(m, at)) {
				t.Error("a report is news once")
			}
		case "mute":
			r.Answered(asks[who], NoAnswer, at)
		case "answered":
			r.Answered(asks[who], Answered, at)
		case "unknown":
			r.Answered(asks[who], Unknown, at)
		case "unreachable":
			lost := map[string]bool{}
			for _, n := range rest {
				lost[n] = true
			}
			r.SetLost(lost, at)
		case "ask":
		case "forget":
			var cluster []netip.AddrPort
			for _, n := range rest {
				cluster = append(cluster, addrOf(n))
			}
			r.Forget(cluster, at)
		case "view":
			if got := short(r.View(Report{Electable: snapshot.Electable{Node: "me"}}, addrOf("me"), at)); got != who {
				t.Errorf("at %v s: %q, want %q", s, got, who)
			}
		default:
			t.Fatal(line)
		}
	}
}

func addrOf(node string) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, node[0]}), 7947)
}

func short(v View) string {
	var out []string
	for _, m := range v.Members {
		if m.Node == v.Node {
			continue
		}
		c := [...]string{"a", "g", "n"}[m.Verdict]
		switch {
		case m.Quarantine && m.Verdict == Alive:
			c = "b"
		case m.Quarantine:
			c = "Q"
		}
		if m.Candidate {
			c = strings.ToUpper(c)
		}
		out = append(out, m.Node+":"+c)
	}
	if v.Guarded {
		out = append(out, "guarded")
	}
	if v.CutOff {
		out = append(out, "cut-off")
	}
	return strings.Join(out, " ")
}

// TestDue: each silent kernel is asked at once, one question at a time, and
// again now and then.
func TestDue(t *testing.T) {
	var r Roster
	asked := func(s float64) (out []Ask) { return r.Due(second(s)) }
	r.Spoke("b", addrOf("b"), second(0))
	r.Spoke("a", addrOf("a"), second(0))
	if len(asked(1)) > 0 {
		t.Error("who speaks is asked")
	}
	r.FellSilent("a", second(10))
	r.FellSilent("b", second(10))
	first := asked(10)
	if len(first) != 2 || first[0].Node != "a" || first[0].Addr != addrOf("a") {
		t.Fatal(first)
	}
	if len(asked(11)) > 0 {
		t.Error("asked again before the answer")
	}
	if was := r.Answered(first[0], Answered, second(11)); was != Unasked {
		t.Error(was)
	}
	if next := asked(11.4); len(next) != 1 || next[0].Node != "a" {
		t.Error("not asked again:", next)
	} else if was := r.Answered(next[0], NoAnswer, second(11.5)); was != Answered {
		t.Error(was)
	}
	if len(asked(11.6)) > 0 {
		t.Error("asked too soon")
	}
	late := asked(60)
	if len(late) != 1 {
		t.Fatal(late)
	}
	r.Answered(late[0], NoAnswer, second(60))
	if len(asked(61)) > 0 || len(asked(62.1)) != 1 {
		t.Error("a node long gone is asked every 2 s")
	}
}

// TestReturns counts who was lost and spoke again; a restart is none.
func TestReturns(t *testing.T) {
	var r Roster
	at := func(s float64, answer Answer) {
		r.FellSilent("a", second(s))
		r.Answered(r.Due(second(s))[0], answer, second(s))
		r.Spoke("a", addrOf("a"), second(s+1))
		r.Reported(Report{Electable: snapshot.Electable{Node: "a"}, Version: uint64(s)}, second(s+1))
	}
	r.Spoke("a", addrOf("a"), second(0))
	at(10, NoAnswer)
	at(20, Answered)
	at(30, NoAnswer)
	if n := r.View(Report{Electable: snapshot.Electable{Node: "me"}}, addrOf("me"), second(40)).Returns; n != 2 {
		t.Errorf("%d returns", n)
	}
}

// TestReports: what one roster tells another makes the same view there, whatever
// the other's clock says.
func TestReports(t *testing.T) {
	var r, other Roster
	for i, n := range []string{"a", "b", "c"} {
		r.Spoke(n, addrOf(n), second(0))
		r.Reported(Report{Electable: snapshot.Electable{Node: n}, Version: uint64(i + 1), Settled: true}, second(0))
	}
	r.FellSilent("c", second(10))
	skewed := second(-40_000_000)
	for _, m := range r.Reports(second(22)) {
		other.Recall(m, skewed)
	}
	other.Spoke("a", addrOf("a"), skewed)
	other.Spoke("b", addrOf("b"), skewed)
	ask := other.Due(skewed)
	if len(ask) != 1 || ask[0].Node != "c" {
		t.Fatal(ask)
	}
	other.Answered(ask[0], Answered, skewed)
	for after, want := range map[time.Duration]string{7 * time.Second: "a:A b:A c:G", 9 * time.Second: "a:A b:A c:g"} {
		if got := short(other.View(Report{Electable: snapshot.Electable{Node: "me"}}, addrOf("me"), skewed.Add(after))); got != want {
			t.Errorf("after %s %q, want %q", after, got, want)
		}
	}
}

func TestViewPrints(t *testing.T) {
	var r Roster
	r.Spoke("a", addrOf("a"), second(0))
	r.Reported(Report{Electable: snapshot.Electable{Node: "a", InSync: true}, Version: 7, Settled: true, LongSettled: true}, second(0))
	r.Spoke("b", addrOf("b"), second(0))
	r.FellSilent("b", second(1))
	r.Answered(r.Due(second(1))[0], NoAnswer, second(1))
	v := r.View(Report{Electable: snapshot.Electable{Node: "me", Draining: true}}, addrOf("me"), second(2))
	v.Clashes = []string{"x is used twice"}
	want := `a 192.0.2.97:7947 alive candidate says in-sync,settled,seasoned
b 192.0.2.98:7947 node-gone quarantine
me 192.0.2.109:7947 alive says draining
clash: x is used twice
returns 0
`
	if got := v.String(); got != want {
		t.Errorf("got\n%s", got)
	}
	if !v.Candidates()["a"] || v.Candidates()["b"] || !slices.Equal(v.Quarantined(), []string{"b"}) || v.Member("nobody") != nil {
		t.Error("the view's questions")
	}
}

// TestPeersAreBounded: names that agents invent do not fill the memory.
func TestPeersAreBounded(t *testing.T) {
	var r Roster
	for i := range maxPeers + 10 {
		r.Reported(Report{Electable: snapshot.Electable{Node: fmt.Sprint(i)}}, second(0))
		r.Spoke(fmt.Sprint(i), addrOf("a"), second(0))
	}
	if len(r.peers) != maxPeers {
		t.Errorf("%d peers", len(r.peers))
	}
}

// TestGossipDocs: docs/announcer.md tells the verdicts and the times.
func TestGossipDocs(t *testing.T) {
	data, err := os.ReadFile("../docs/announcer.md")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprintf("addresses for **%.0f s**", HoldFor.Seconds()), fmt.Sprintf("after **%.0f s** of health", SettleAfter.Seconds()),
		fmt.Sprintf("for **%.0f s** before its node", BackAfter.Seconds()), fmt.Sprintf("vanish within %.0f s", Together.Seconds()),
	}
	for _, v := range Verdicts {
		want = append(want, "| `"+v.String()+"` |")
	}
	text := strings.Join(strings.Fields(string(data)), " ")
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("docs/announcer.md does not say %s", w)
		}
	}
}
