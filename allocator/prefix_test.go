package allocator

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// seen is what nodes see at a time: a word for each of n1, n2 and so on, with a letter for
// each prefix. A small one is let go by the router, "-" sees none, "!" is not ready.
type seen struct {
	at    time.Duration
	nodes string
	want  string // the prefixes by state, the reason, and when to look again
}

// letters are prefixes of a story.
var letters = map[rune]netip.Prefix{
	'A': netip.MustParsePrefix("2001:db8:a::/64"), 'B': netip.MustParsePrefix("2001:db8:b::/64"), 'C': netip.MustParsePrefix("2001:db8:c::/64"),
	'D': netip.MustParsePrefix("2001:db8:d::/64"), 'E': netip.MustParsePrefix("2001:db8:e::/64"), 'F': netip.MustParsePrefix("2001:db8:f::/64"),
	'U': netip.MustParsePrefix("fd00:1::/64"),
}

func letter(p netip.Prefix) string {
	for l, of := range letters {
		if of == p {
			return string(l)
		}
	}
	return p.String()
}

// look makes the Nodes and NodeStates of words.
func look(words string) (s snapshot.Snapshot) {
	for i, word := range strings.Fields(words) {
		name := fmt.Sprint("n", i+1)
		st := &snapshot.NodeState{Electable: snapshot.Electable{Node: name, Links: []snapshot.Link{{Name: "eth0"}}}}
		for _, l := range strings.Trim(word, "-!") {
			p, deprecated := letters[l], false
			if !p.IsValid() {
				p, deprecated = letters[l-'a'+'A'], true
			}
			st.Prefixes = append(st.Prefixes, snapshot.LinkPrefix{Link: "eth0", Prefix: p, Deprecated: deprecated}, snapshot.LinkPrefix{Link: "eth1", Prefix: letters['F']})
		}
		s.NodeStates = append(s.NodeStates, st)
		s.Nodes = append(s.Nodes, &snapshot.Node{Name: name, Ready: !strings.HasPrefix(word, "!")})
	}
	return s
}

// TestFollow tells what a pool makes of what nodes see, step by step.
func TestFollow(t *testing.T) {
	began := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		name  string
		ula   bool
		held  bool // a record has an address of A for ever
		steps []seen
	}{
		{"a first prefix is followed at once", false, false, []seen{
			{0, "- - -", "PrefixUnseen"},
			{time.Second, "A - -", "PrefixDisputed"},
			{2 * time.Second, "A A -", "Current:A PrefixAgreed"},
		}},
		{"the router lets one go and announces another", false, false, []seen{
			{0, "A A A", "Current:A PrefixAgreed"},
			{time.Minute, "aB A A", "Current:A PrefixAgreed"},
			{61 * time.Second, "aB aB A", "Current:A Candidate:B PrefixChanging 1m11s"},
			{70 * time.Second, "aB aB aB", "Current:A Candidate:B PrefixChanging 1m11s"},
			{71 * time.Second, "aB aB aB", "Leaving:A Current:B PrefixAgreed 1h1m11s"},
			{time.Hour, "B B B", "Leaving:A Current:B PrefixAgreed 1h1m11s"},
			{time.Hour + 71*time.Second, "B B B", "Former:A Current:B PrefixAgreed"},
			{time.Hour + 72*time.Second, "B B B", "Current:B PrefixAgreed"},
		}},
		{"both are announced: nobody moves", false, false, []seen{
			{0, "A A A", "Current:A PrefixAgreed"},
			{time.Minute, "AB AB AB", "Current:A PrefixAgreed"},
			{2 * time.Hour, "AB AB AB", "Current:A PrefixAgreed"},
		}},
		{"the router is silent", false, false, []seen{
			{0, "A A A", "Current:A PrefixAgreed"},
			{time.Minute, "- - -", "Current:A PrefixUnseen"},
			{2 * time.Minute, "a a a", "Current:A PrefixDeprecated"},
			{3 * time.Minute, "A A A", "Current:A PrefixAgreed"},
		}},
		{"nobody is ready", false, false, []seen{
			{0, "A A A", "Current:A PrefixAgreed"},
			{time.Minute, "!B !B !B", "Current:A PrefixUnseen"},
		}},
		{"nodes disagree", false, false, []seen{
			{0, "A A A A", "Current:A PrefixAgreed"},
			{time.Minute, "A A B B", "Current:A PrefixDisputed"},
			{2 * time.Minute, "A !A B B", "Current:A Candidate:B PrefixChanging 2m10s"},
			{3 * time.Minute, "A A B B", "Current:A PrefixDisputed"},
		}},
		{"one that comes and goes is not followed", false, false, []seen{
			{0, "A A A", "Current:A PrefixAgreed"},
			{time.Minute, "B B B", "Current:A Candidate:B PrefixChanging 1m10s"},
			{65 * time.Second, "A A A", "Current:A PrefixAgreed"},
			{70 * time.Second, "B B B", "Current:A Candidate:B PrefixChanging 1m20s"},
			{79 * time.Second, "A A A", "Current:A PrefixAgreed"},
		}},
		{"the former one comes back", false, false, []seen{
			{0, "A A A", "Current:A PrefixAgreed"},
			{time.Minute, "B B B", "Current:A Candidate:B PrefixChanging 1m10s"},
			{70 * time.Second, "B B B", "Leaving:A Current:B PrefixAgreed 1h1m10s"},
			{71 * time.Second, "A A A", "Leaving:A Current:B PrefixChanging 1m20s"},
			{80 * time.Second, "A A A", "Current:A Leaving:B PrefixAgreed 1h1m20s"},
		}},
		{"it comes back while Services lose its addresses", false, true, []seen{
			{0, "A A A", "Current:A PrefixAgreed"},
			{time.Minute, "B B B", "Current:A Candidate:B PrefixChanging 1m10s"},
			{70 * time.Second, "B B B", "Leaving:A Current:B PrefixAgreed 1h1m10s"},
			{2 * time.Hour, "B B B", "Former:A Current:B PrefixAgreed"},
			{2*time.Hour + time.Second, "A A A", "Former:A Current:B PrefixChanging 2h0m2s"},
		}},
		{"another one every minute", false, true, []seen{
			{0, "A", "Current:A PrefixAgreed"},
			{60 * time.Second, "B", "Current:A Candidate:B PrefixChanging 1m10s"},
			{120 * time.Second, "B", "Leaving:A Current:B PrefixAgreed 1h2m0s"},
			{180 * time.Second, "C", "Leaving:A Current:B Candidate:C PrefixChanging 3m10s"},
			{240 * time.Second, "C", "Leaving:A Leaving:B Current:C PrefixAgreed 1h2m0s"},
			{300 * time.Second, "D", "Leaving:A Leaving:B Current:C Candidate:D PrefixChanging 5m10s"},
			{360 * time.Second, "D", "Leaving:A Leaving:B Leaving:C Current:D PrefixAgreed 1h2m0s"},
			{420 * time.Second, "E", "Leaving:A Leaving:B Leaving:C Current:D Candidate:E PrefixChanging 7m10s"},
			{480 * time.Second, "E", "Leaving:A Leaving:B Leaving:C Leaving:D Current:E PrefixAgreed 1h2m0s"},
			{540 * time.Second, "F", "Leaving:A Leaving:B Leaving:C Leaving:D Current:E Candidate:F PrefixChanging 9m10s"},
			{600 * time.Second, "F", "Former:A Leaving:B Leaving:C Leaving:D Leaving:E Current:F PrefixAgreed 1h4m0s"},
		}},
		{"a unique local one beside a global one", false, false, []seen{
			{0, "U U U", "PrefixUnseen"},
			{time.Second, "UA UA UA", "Current:A PrefixAgreed"},
		}},
		{"a pool of unique local ones", true, false, []seen{
			{0, "A A A", "PrefixUnseen"},
			{time.Second, "UA UA UA", "Current:U PrefixAgreed"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := netipx.IPRangeFrom(netip.MustParseAddr("::10"), netip.MustParseAddr("::12"))
			p := &snapshot.Pool{Name: "home", FromPrefix: &snapshot.FromPrefix{Interface: "eth0", Host: host, UniqueLocal: c.ula, Grace: time.Hour}}
			for _, step := range c.steps {
				s := look(step.nodes)
				s.Pools = []*snapshot.Pool{p}
				if c.held {
					s.Addresses = []*snapshot.Address{{Pool: "home", Addr: netip.MustParseAddr("2001:db8:a::10")}}
				}
				plan := Decide(&s, Options{Now: began.Add(step.at)})
				if got := told(plan, began); got != step.want {
					t.Fatalf("at %s, %s: got %s, want %s\n%s", step.at, step.nodes, got, step.want, plan.Pools[0].Prefix.Message)
				}
				p = p.WithPrefixes(plan.Pools[0].Prefixes)
			}
		})
	}
}

func told(plan *Plan, began time.Time) string {
	var words []string
	for _, k := range plan.Pools[0].Prefixes {
		words = append(words, string(k.State)+":"+letter(k.Prefix))
	}
	words = append(words, plan.Pools[0].Prefix.Reason)
	if !plan.Again.IsZero() {
		words = append(words, plan.Again.Sub(began).String())
	}
	return strings.Join(words, " ")
}

// TestPrefixMessages: the condition says what the nodes see, and what to do.
func TestPrefixMessages(t *testing.T) {
	for _, c := range []struct{ current, nodes, want string }{
		{"A", "AU AB A", "3 of 3 nodes see 2001:db8:a::/64 on eth0; not followed: 2001:db8:b::/64, fd00:1::/64"},
		{"", "- -", "none of 2 nodes sees a global prefix of a router on eth0. A node that forwards takes one in only with net.ipv6.conf.eth0.accept_ra=2"},
		{"A", "- -", "keeps 2001:db8:a::/64: none of 2 nodes sees a global prefix"},
		{"A", "", "keeps 2001:db8:a::/64: no node that is ready and selected has a link eth0"},
		{"A", "A B", "keeps 2001:db8:a::/64: no prefix is seen by more than half of the 2 nodes with eth0. 2001:db8:a::/64 is seen by 1, 2001:db8:b::/64 is seen by 1"},
		{"A", "a a", "keeps 2001:db8:a::/64: the router on eth0 lets it go and announces no other one"},
		{"A", "B B", "keeps 2001:db8:a::/64: 2 of 2 nodes see 2001:db8:b::/64 on eth0, which the pool follows in a moment"},
	} {
		host := netipx.IPRangeFrom(netip.MustParseAddr("::10"), netip.MustParseAddr("::12"))
		p := &snapshot.Pool{Name: "home", FromPrefix: &snapshot.FromPrefix{Interface: "eth0", Host: host, Grace: time.Hour}}
		for _, l := range c.current {
			p = p.WithPrefixes([]snapshot.PoolPrefix{{Prefix: letters[l], State: snapshot.PrefixCurrent}})
		}
		s := look(c.nodes)
		s.Pools = []*snapshot.Pool{p}
		if got := Decide(&s, Options{}).Pools[0].Prefix.Message; !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.nodes, got, c.want)
		}
	}
}
