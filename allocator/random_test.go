package allocator_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// TestMain lets rapid try more than its 100 times, which miss rare faults.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "500"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestRandomStories tells random histories of a cluster and checks each moment
// against the oracle. A history that breaks a rule is made as short as it can
// be, and printed as a story that can be put into testdata.
func TestRandomStories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{world: storytest.NewWorld(), title: "cluster", seen: map[snapshot.Ref]allocator.Outcome{}}
		m.do(t, "pool p 192.0.2.0/31")
		t.Repeat(map[string]func(*rapid.T){
			"edit":    func(t *rapid.T) { m.do(t, serviceLine.Draw(t, "line")) },
			"burst":   m.burst,
			"delete":  m.delete,
			"pool":    m.pool,
			"damage":  m.damage,
			"act":     func(*rapid.T) { m.act(m.plan) },
			"crash":   m.crash,
			"restart": func(t *rapid.T) { m.do(t, "# The controller restarts.") },
			"":        m.check,
		})
	})
}

// model is a cluster, the story of how it came about, and what every Service
// had when the controller last acted.
type model struct {
	world  *storytest.World
	title  string // of the section that the next line begins
	script strings.Builder
	plan   *allocator.Plan // for the cluster as it is
	seen   map[snapshot.Ref]allocator.Outcome
}

// do runs a command and writes it down. Who is named in it may change places.
func (m *model) do(t *rapid.T, line string) {
	if err := m.world.Do(line); err != nil {
		t.Fatal(err)
	}
	if m.title != "" {
		fmt.Fprintf(&m.script, "-- %s --\n", m.title)
		m.title = ""
	}
	m.script.WriteString(line + "\n")
	for ref := range m.seen {
		if strings.Contains(line+" ", " "+ref.String()+" ") {
			delete(m.seen, ref)
		}
	}
}

// burst makes several Services before the controller sees any of them.
func (m *model) burst(t *rapid.T) {
	for range rapid.IntRange(2, 6).Draw(t, "n") {
		m.do(t, serviceLine.Draw(t, "line"))
	}
}

// delete removes a Service, or makes it again.
func (m *model) delete(t *rapid.T) {
	if len(m.plan.Services) == 0 {
		t.Skip()
	}
	ref := m.plan.Services[rapid.IntRange(0, len(m.plan.Services)-1).Draw(t, "which")].Ref
	m.do(t, word(t, "delete service ", "recreate service ")+ref.String())
}

// pool makes, edits or deletes a pool.
func (m *model) pool(t *rapid.T) {
	line := poolLine.Draw(t, "line")
	m.skipUnlessThere(t, line)
	m.do(t, line)
}

// skipUnlessThere skips a line that deletes what is not there.
func (m *model) skipUnlessThere(t *rapid.T, line string) {
	words := strings.Fields(line)
	if words[0] == "delete" && !m.world.Has(words[1], words[2]) {
		t.Skip()
	}
}

// damage takes a record away, or lets the cluster grow into a pool. Who held
// the record may lose the address.
func (m *model) damage(t *rapid.T) {
	line := word(t, "delete address 192.0.2.1", "delete address 192.0.2.2", "delete address 2001:db8::1",
		"address 192.0.2.1 deleting holder=", "node n ips=192.0.2.3", "delete node n")
	m.skipUnlessThere(t, line)
	for ref, o := range m.seen {
		for _, a := range o.Addrs {
			if strings.Contains(line, "address "+a.String()) {
				delete(m.seen, ref)
			}
		}
	}
	m.do(t, line)
}

// act does all that the Plan says.
func (m *model) act(p *allocator.Plan) {
	m.world.Apply(p)
	fmt.Fprintf(&m.script, "-- want --\n%s", m.plan)
	m.title = "then"
	clear(m.seen)
	for _, o := range m.plan.Services {
		m.seen[o.Ref] = o
	}
}

// crash writes the records and no status.
func (m *model) crash(t *rapid.T) {
	m.act(&allocator.Plan{Addresses: m.plan.Addresses})
	m.do(t, "# the controller died before it wrote a status")
}

// check decides for the cluster as it is.
func (m *model) check(t *rapid.T) {
	snap, opt := snapshotOf(t, m.world), m.world.Options()
	m.plan = allocator.Decide(snap, opt)
	why := append(violations(snap, opt, m.plan), m.moved(snap)...)
	if other := allocator.Decide(shuffled(snap, 7), opt); other.String() != m.plan.String() {
		why = append(why, "the order of the input matters:\n"+other.String())
	}
	if len(why) > 0 {
		t.Fatalf("\n%s-- want --\n%s%s", &m.script, m.plan, strings.Join(why, "\n"))
	}
}

// moved finds Services that have other addresses than before although nobody
// touched them and they could want nothing else.
func (m *model) moved(s *snapshot.Snapshot) []string {
	var out []string
	for _, o := range m.plan.Services {
		before, ok := m.seen[o.Ref]
		if ok && before.Refusal == nil && !slices.Equal(before.Addrs, o.Addrs) && !wantsOther(s, before) {
			out = append(out, fmt.Sprintf("%s was moved from %v to %v without a cause", o.Ref, before.Addrs, o.Addrs))
		}
	}
	return out
}

// wantsOther reports whether a Service may be moved by what happens to pools:
// PreferDualStack always wants both families, and who names a pool wants to be
// in it.
func wantsOther(s *snapshot.Snapshot, o allocator.Outcome) bool {
	svc := find(s, o.Ref)
	if svc.FamilyPolicy == snapshot.PreferDualStack {
		return true
	}
	asked := svc.Annotations[allocator.AnnotationPool]
	for _, p := range s.Pools {
		for _, a := range o.Addrs {
			if p.Name == asked && !slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool { return r.Contains(a) }) {
				return true
			}
		}
	}
	return false
}

func word(t *rapid.T, of ...string) string { return rapid.SampledFrom(of).Draw(t, "word") }

// poolLine is about few pools and few addresses, so that they often meet.
var poolLine = rapid.Custom(func(t *rapid.T) string {
	name := word(t, "p", "q", "r")
	if rapid.IntRange(0, 3).Draw(t, "delete") == 3 {
		return "delete pool " + name
	}
	return "pool " + name + " " +
		word(t, "192.0.2.0/31", "192.0.2.0/30", "192.0.2.2-192.0.2.5", "198.51.100.254-198.51.101.1", "192.0.2.0/30,2001:db8::/127", "2001:db8::/126,198.51.100.0/31") +
		" auto= avoidBuggyIPs= disabled= namespaces= priority= bad=" +
		word(t, "", "", "", " auto=false", " avoidBuggyIPs", " disabled", " namespaces=x", " priority=1", " bad=x")
})

// serviceLine makes or edits one of few Services.
var serviceLine = rapid.Custom(func(t *rapid.T) string {
	return "service " + word(t, "x", "y") + "/" + word(t, "a", "b", "c", "d") +
		word(t, "", "", " ports=tcp/80", " ports=tcp/81", " ports=tcp/80,udp/80") +
		word(t, "", "", "", ` addresses=""`, " addresses=192.0.2.1", " addresses=192.0.2.2", " addresses=198.51.100.255", " addresses=192.0.2.1,2001:db8::1", " addresses=nonsense") +
		word(t, "", "", "", ` pool=""`, " pool=p", " pool=q") +
		word(t, "", ` key=""`, " key=K", " key=L", " key=K share=x,y", ` key=K share=""`, " key=\"\x01\"") +
		word(t, "", "", "", " policy=Prefer", " policy=Require", " policy=Single families=4", " policy=Single families=6", ` families=""`) +
		word(t, "", "", "", "", " external=Local selector=app=web", " external=", " selector=app=db") +
		word(t, "", "", "", "", " status=192.0.2.2", " status=203.0.113.1,2001:db8::", " status=lb.example.org") +
		word(t, "", "", "", "", "", " type=NodePort", " type=LoadBalancer", ` deleting=""`, " deleting", " class=example.org/lb", ` class=""`)
})
