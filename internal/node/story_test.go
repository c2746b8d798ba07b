package node

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// start is when every story begins.
var start = time.Unix(1_000_000, 0)

// TestStories tells every file in testdata to the decision of node a. "cluster"
// and "then" change the cluster; a "then 5s" is five seconds later. "want" is the
// Plan. A story's kernel does what each Plan says.
//
// "view" says what node a holds of the others, a line for each:
//
//	NODE alive|agent-gone|node-gone [settled] [quarantined]
//	unsure          node a is not sure who is alive; sure takes it back
//	returns N       so many nodes came back
//	lost NODE LINK  the node does not answer there
//	reached         all answer
//	knows NODE ADDR...  its agent has heard of these addresses alone
//
// Without a view every agent is alive and may be elected.
//
// "kernel" says what the engine and the links of node a are like, a line for each:
//
//	engine unknown|in-sync|out-of-sync
//	engine other    another proxy forwards
//	lacks ADDR...   the engine does not hold these yet; none without addresses
//	holds CLAIM...  the links hold these, whatever was decided
//	unforwarded FAMILY...  which the kernel does not forward; none without families
//	removed         fairlead is being removed
func TestStories(t *testing.T) {
	storytest.Each(t, func(t *testing.T, s *storytest.Story) {
		w := newWorld()
		for _, step := range s.Steps(t) {
			w.in.Now = start.Add(step.Elapsed)
			for _, sec := range step.Sections {
				w.tell(t, sec)
			}
		}
	})
}

// world is a story's cluster, seen from node a.
type world struct {
	*storytest.World
	in      Inputs
	members map[string]announcer.Member
	lacks   []netip.Addr
	knows   map[string]announcer.Knowledge // by node; zero: it does not say it
	memory  Memory
	decider Decider
}

func newWorld() *world {
	w := &world{World: storytest.NewWorld(), members: map[string]announcer.Member{}, knows: map[string]announcer.Knowledge{}}
	w.in = Inputs{Node: "a", Now: start, Sure: true, Engine: Engine{Known: true, InSync: true}, Passwords: map[snapshot.SecretKey]string{}}
	return w
}

func (w *world) tell(t *testing.T, sec *storytest.Section) {
	t.Helper()
	switch sec.Kind() {
	case "cluster", "then":
		if err := w.Do(sec.Text); err != nil {
			t.Fatal(err)
		}
	case "view":
		each(t, sec.Text, w.look)
	case "kernel":
		each(t, sec.Text, w.kernel)
	case "want":
		sec.Want(t, w.decide(t))
	default:
		t.Fatalf("no section %q", sec.Name)
	}
}

// each calls do with the words of every line.
func each(t *testing.T, text string, do func(words []string) error) {
	t.Helper()
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 {
			if err := do(words); err != nil {
				t.Fatalf("%s: %v", strings.TrimSpace(line), err)
			}
		}
	}
}

func (w *world) look(words []string) error {
	switch words[0] {
	case "sure", "unsure":
		w.in.Sure = words[0] == "sure"
		return nil
	case "lost":
		w.in.Reach.Lost = map[string][]string{words[1]: words[2:]}
		return nil
	case "reached":
		w.in.Reach = announcer.Reach{}
		return nil
	case "knows":
		return w.know(words[1], words[2:])
	case "returns":
		_, err := fmt.Sscan(words[1], &w.in.View.Returns)
		return err
	}
	m := announcer.Member{Node: words[0], Since: w.in.Now}
	at := slices.IndexFunc(announcer.Verdicts, func(v announcer.Verdict) bool { return v.String() == words[1] })
	if at < 0 {
		return fmt.Errorf("no verdict %q", words[1])
	}
	m.Verdict = announcer.Verdicts[at]
	m.Candidate, m.Quarantine = slices.Contains(words, "settled"), slices.Contains(words, "quarantined")
	w.members[m.Node] = m
	return nil
}

func (w *world) know(node string, addrs []string) error {
	s, err := w.Snapshot()
	if err != nil {
		return err
	}
	w.knows[node] = announcer.KnowledgeOf(slices.DeleteFunc(slices.Clone(s.Addresses), func(a *snapshot.Address) bool { return !slices.Contains(addrs, a.Addr.String()) }))
	return nil
}

func (w *world) kernel(words []string) (err error) {
	e := &w.in.Engine
	switch words[0] {
	case "removed":
		w.in.Removed = true
	case "engine":
		e.Known, e.InSync, e.Other = words[1] != "unknown", words[1] != "unknown" && words[1] != "out-of-sync", words[1] == "other"
	case "unforwarded":
		w.in.Unforwarded = nil
		for _, f := range words[1:] {
			w.in.Unforwarded = append(w.in.Unforwarded, map[string]snapshot.Family{"IPv4": snapshot.IPv4, "IPv6": snapshot.IPv6}[f])
		}
	case "lacks":
		w.lacks = nil
		for _, text := range words[1:] {
			w.lacks = append(w.lacks, netip.MustParseAddr(text))
		}
	case "holds":
		w.in.Held = nil
		for _, text := range words[1:] {
			addr, link, _ := strings.Cut(text, "@")
			w.in.Held = append(w.in.Held, announcer.Claim{Addr: netip.MustParseAddr(addr), Link: link})
		}
		slices.SortFunc(w.in.Held, announcer.Claim.Compare)
	default:
		err = fmt.Errorf("no word %q", words[0])
	}
	return err
}

// decide returns the Plan, by Decide and by a Decider, and does what it says.
func (w *world) decide(t *testing.T) string {
	t.Helper()
	p, next := Decide(w.inputs(t), w.memory)
	if fast := w.decider.Decide(w.in); !reflect.DeepEqual(fast, p) {
		t.Errorf("the Decider's memory shows:\n%s-- want --\n%s", fast.Text(w.in.Now), p.Text(w.in.Now))
	}
	w.memory = next
	if set := p.Announce.Layer2; set != nil {
		w.in.Held = without(set.Claims, waiting(*set, w.in.Held))
	}
	return p.Text(w.in.Now)
}

// waiting returns the claims of set that the kernel does not take yet.
func waiting(set announcer.Set, held []announcer.Claim) (out []announcer.Claim) {
	has := holds(held)
	for _, c := range set.Claims {
		if _, waits := set.Orphaned[c.Addr]; waits && !has(c.Addr) {
			out = append(out, c)
		}
	}
	return out
}

// inputs completes w.in by what the sections said.
func (w *world) inputs(t *testing.T) Inputs {
	t.Helper()
	s, err := w.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	w.in.Snapshot = s
	if w.in.Engine.Known {
		w.in.Engine.Ready = map[netip.Addr]bool{}
	}
	for _, a := range s.Addresses {
		if w.in.Engine.Known && !slices.Contains(w.lacks, a.Addr) {
			w.in.Engine.Ready[a.Addr] = true
		}
	}
	w.in.View = announcer.View{Node: "a", Returns: w.in.View.Returns}
	for _, st := range s.NodeStates {
		m, told := w.members[st.Node]
		if !told {
			m = announcer.Member{Node: st.Node, Candidate: w.Alive()[st.Node], Since: start}
		}
		m.Report = &announcer.Report{Electable: st.Electable, Settled: m.Candidate || m.Verdict == announcer.AgentGone, Knows: w.knows[st.Node]}
		w.in.View.Members = append(w.in.View.Members, m)
		if st.Node == w.in.Node {
			w.in.Links = st.Links
		}
	}
	return w.in
}
