package dataplanetest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
)

// Fault is what happens at a step of a Sync, in place of what the kernel does there.
// Without Kill and Errno the step is only waited for.
type Fault struct {
	Step  string
	Kill  bool          // the process ends with SIGKILL, before the kernel acts
	Errno syscall.Errno // what the step fails with
	Reply bool          // the kernel's answer says so, not the call
	Times int           // how often the step fails; 0: once
	Says  string        // part of the error that Sync returns, if it returns one
}

func (f Fault) String() string {
	if f.Kill {
		return "killed at: " + f.Step
	}
	how := ""
	if f.Reply {
		how = " answered"
	}
	if f.Times > 1 {
		how += fmt.Sprintf(" %d times", f.Times)
	}
	return fmt.Sprintf("%s%s at: %s", errnoName(f.Errno), how, f.Step)
}

// Outcome is what a disturbed Sync came to.
type Outcome struct {
	Steps  []string // that it took, each once
	Err    string   // what it returned; "" for nil
	Killed bool     // the process is gone, and the rest of this is empty
}

// Open is what a process has open.
type Open struct{ Files, Goroutines int }

// Victim is a Dataplane whose Syncs can be disturbed. After it is killed it is not
// used again.
type Victim interface {
	Sync(t *testing.T, table *proxy.Table, f Fault) Outcome
	Open(t *testing.T) Open
}

// Ground is a kernel in which Syncs are disturbed, and the clients that see it.
type Ground struct {
	// Victim makes a Victim on the kernel, which ends with the test.
	Victim func(t *testing.T) Victim
	// New makes a Dataplane on the same kernel that nothing disturbs, which is a Dumper.
	New func(t *testing.T) proxy.Dataplane
	// Before and After are the Tables of the Syncs. A connection to an endpoint that
	// both have is open meanwhile.
	Before, After *proxy.Table
	// First, Change and Adopt are the steps of a Sync that finds nothing, of one that
	// follows another of the same process, and of a process's first one. They are
	// named in the order in which they are taken first. The last may follow the Sync
	// rather than be part of it.
	First, Change, Adopt []string
	// Faults returns what can happen at a step, besides the end of the process.
	Faults func(step string) []Fault
	// Fresh, if it is given, takes all of the Dataplane out of the kernel, so that each
	// Sync that is disturbed makes the same objects and finds the same connections.
	Fresh func(t *testing.T)
	// Answers checks each Frontend that all of tables have: an endpoint that one of
	// them gives it has to answer. A nil Answers, Alive or Held checks nothing.
	Answers func(t *testing.T, tables ...*proxy.Table)
	// Alive checks the connection that is open.
	Alive func(t *testing.T)
	// Held lists the objects in the kernel that belong to the Dataplane.
	Held func(t *testing.T) string
	// Served returns what is served after a fault. nil: what the Dump of a New one says.
	Served func(t *testing.T) *proxy.Table
}

// Faults disturbs Syncs at each of their steps. After a fault the kernel serves the
// new Table if Sync returned nil, and the last one if it returned an error. After the
// end of the process it serves one of them. The next Sync, or a new process, makes it
// the new one, and nothing is left over.
func Faults(t *testing.T, g *Ground) {
	tried := map[string]bool{}
	for _, m := range []mode{
		{"change", g.Before, g.After, g.Change}, {"first", nil, g.Before, g.First}, {"adopt", g.Before, g.After, g.Adopt},
	} {
		t.Run(m.name, func(t *testing.T) { g.run(t, m, tried) })
	}
}

// mode is a kind of Sync that is disturbed: from the Table last, nil for an empty
// kernel, to the Table next.
type mode struct {
	name       string
	last, next *proxy.Table
	steps      []string
}

// run disturbs the steps that no other mode has tried.
func (g *Ground) run(t *testing.T, m mode, tried map[string]bool) {
	v := g.begin(t, m)
	clean := v.Sync(t, m.next, Fault{Step: m.steps[len(m.steps)-1]})
	if clean.Err != "" {
		t.Fatalf("undisturbed: %s", clean.Err)
	}
	if got, want := slices.Sorted(slices.Values(clean.Steps)), slices.Sorted(slices.Values(m.steps)); !slices.Equal(got, want) {
		t.Errorf("the steps are\n%q\nwant\n%q", clean.Steps, m.steps)
	}
	held, open := g.held(t), leastOpen(t, v)
	for _, step := range clean.Steps {
		if tried[step] {
			continue
		}
		tried[step] = true
		for _, f := range append(g.Faults(step), Fault{Step: step, Kill: true}) {
			t.Run(f.String(), func(t *testing.T) { g.disturb(t, m, f, held, open) })
		}
	}
}

// begin makes the kernel serve m.last, and returns the Victim that is to be disturbed.
func (g *Ground) begin(t *testing.T, m mode) Victim {
	t.Helper()
	if g.Fresh != nil {
		g.Fresh(t)
	}
	switch m.name {
	case "first":
		if err := g.New(t).Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
		return g.Victim(t)
	case "adopt":
		mustSync(t, g.New(t), m.last)
		g.check(t, m.last)
		return g.Victim(t)
	}
	v := g.Victim(t)
	if out := v.Sync(t, m.last, Fault{}); out.Err != "" {
		t.Fatal(out.Err)
	}
	g.check(t, m.last)
	return v
}

// disturb runs one case.
func (g *Ground) disturb(t *testing.T, m mode, f Fault, held string, open Open) {
	v := g.begin(t, m)
	out := v.Sync(t, m.next, f)
	if f.Kill != out.Killed {
		t.Fatalf("killed: %t, want %t", out.Killed, f.Kill)
	}
	if out.Err != "" && !strings.Contains(out.Err, f.Says) {
		t.Errorf("Sync returned %q, want %q in it", out.Err, f.Says)
	}
	got, served := g.served(t), m.next
	switch {
	case out.Killed && same(got, m.last), out.Err != "":
		served = m.last
	}
	if !same(got, served) {
		t.Errorf("Sync returned %q, and the kernel serves\n%s\nwant\n%s", out.Err, text(got), text(served))
	}
	switch {
	case served == nil:
	case out.Killed && m.last != nil:
		g.check(t, served, m.last) // where the process was killed halfway, there may be both
	default:
		g.check(t, served)
	}
	g.repair(t, m, v, out)
	if now := g.held(t); now != held {
		t.Errorf("left in the kernel:\n%s\nwant\n%s", now, held)
	}
	if out.Killed {
		return
	}
	nstest.Eventually(t, fmt.Sprintf("the process to have no more open than %+v", open), func() bool {
		now := v.Open(t)
		return now.Files <= open.Files && now.Goroutines <= open.Goroutines
	})
}

// leastOpen returns the least of a few looks: what works beside Sync opens files for a
// moment.
func leastOpen(t *testing.T, v Victim) Open {
	t.Helper()
	least := v.Open(t)
	for range 10 {
		now := v.Open(t)
		least = Open{min(least.Files, now.Files), min(least.Goroutines, now.Goroutines)}
	}
	return least
}

// repair has the next Sync, or a new process if the Victim was killed, make the kernel
// serve m.next.
func (g *Ground) repair(t *testing.T, m mode, v Victim, out Outcome) {
	t.Helper()
	d := g.New(t)
	if out.Killed {
		mustSync(t, d, m.next)
	} else if out := v.Sync(t, m.next, Fault{}); out.Err != "" {
		t.Errorf("the next Sync: %s", out.Err)
	}
	holds(t, d, m.next)
	g.check(t, m.next)
}

func (g *Ground) served(t *testing.T) *proxy.Table {
	t.Helper()
	if g.Served != nil {
		return g.Served(t)
	}
	return dump(t, g.New(t))
}

// same reports whether a kernel serves what a Table says.
func same(got, want *proxy.Table) bool {
	if got == nil || want == nil {
		return got == nil && want == nil
	}
	return reflect.DeepEqual(got, Normal(want))
}

func (g *Ground) check(t *testing.T, tables ...*proxy.Table) {
	t.Helper()
	if g.Answers != nil {
		g.Answers(t, tables...)
	}
	if g.Alive != nil {
		g.Alive(t)
	}
}

func (g *Ground) held(t *testing.T) string {
	t.Helper()
	if g.Held == nil {
		return ""
	}
	return g.Held(t)
}
