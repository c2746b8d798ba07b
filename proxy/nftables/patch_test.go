package nftables

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
)

// apply returns k as it is after a Patch, as a kernel does it: it refuses to add what
// is there, and to delete what is not.
func (k *Kernel) apply(t *testing.T, p *Patch) *Kernel {
	t.Helper()
	for _, s := range p.Steps {
		if !reflect.ValueOf(s).IsZero() {
			k = k.step(t, p.Layout, s)
		}
	}
	return k
}

func (k *Kernel) step(t *testing.T, l *Layout, p Step) *Kernel {
	t.Helper()
	if stays := k.Exists && !p.DelTable; p.AddTable == stays || p.DelTable && !k.Exists {
		t.Fatalf("exists %v, to delete %v, to add %v", k.Exists, p.DelTable, p.AddTable)
	}
	out := &Kernel{Family: k.Family, Exists: true, Comment: TableComment, Sets: map[string]SetType{}, Chains: map[string]ChainType{}}
	elements := map[Element]Element{} // without Data and Comment: the kernel has one of each
	if !p.AddTable {
		maps.Copy(out.Sets, k.Sets)
		maps.Copy(out.Chains, k.Chains)
		for _, e := range k.Elements {
			elements[e.place()] = e
		}
	}
	for _, name := range p.Flush {
		c, ok := out.Chains[name]
		if !ok {
			t.Fatalf("there is no chain %s to flush", name)
		}
		c.Hashes = ""
		out.Chains[name] = c
	}
	for _, e := range p.Del {
		if elements[e.place()] != e {
			t.Fatalf("there is no %q to delete", e)
		}
		delete(elements, e.place())
	}
	for _, name := range p.DelSets {
		delete(out.Sets, name)
		maps.DeleteFunc(elements, func(at, _ Element) bool { return at.Set == name })
	}
	for _, name := range p.DelChains {
		if c, ok := out.Chains[name]; !ok || c.Hashes != "" {
			t.Fatalf("chain %s cannot be deleted", name)
		}
		delete(out.Chains, name)
	}
	for _, s := range p.AddSets {
		if _, ok := out.Sets[s.Name]; ok {
			t.Fatalf("set %s is there", s.Name)
		}
		out.Sets[s.Name] = s.Type()
	}
	for _, c := range p.AddChains {
		if _, ok := out.Chains[c.Name]; ok {
			t.Fatalf("chain %s is there", c.Name)
		}
		out.Chains[c.Name] = Chain{Name: c.Name, Hook: c.Hook}.Type()
	}
	for _, c := range p.AddRules {
		if got, ok := out.Chains[c.Name]; !ok || got.Hashes != "" {
			t.Fatalf("chain %s takes no rules", c.Name)
		}
		out.Chains[c.Name] = c.Type()
	}
	for _, e := range p.Add {
		if _, ok := l.Set(e.Set); !ok || out.Sets[e.Set] == (SetType{}) {
			t.Fatalf("there is no set for %q", e)
		}
		if other, ok := elements[e.place()]; ok {
			t.Fatalf("%q is there when %q comes", other, e)
		}
		elements[e.place()] = e
	}
	out.Elements = SortElements(slices.Collect(maps.Values(elements)))
	return out
}

func (e Element) place() Element { return Element{Set: e.Set, Key: e.Key, End: e.End} }

func apply(t *testing.T, kernel []*Kernel, patches []*Patch) []*Kernel {
	t.Helper()
	out := make([]*Kernel, len(kernel))
	for i, k := range kernel {
		out[i] = k
		if !patches[i].Empty() {
			out[i] = k.apply(t, patches[i])
		}
	}
	return out
}

func nothing() []*Kernel { return []*Kernel{{Family: IP4}, {Family: IP6}} }

// held checks that the kernel holds t: an agent that starts has nothing to write.
func held(t *testing.T, kernel []*Kernel, r *Ruleset, table *proxy.Table) {
	t.Helper()
	if r.Drifted(kernel) {
		t.Fatal("the kernel holds something else than the ruleset")
	}
	_, patches := Adopt(kernel, table, DefaultMark, false)
	if c := Summary(patches); !c.Empty() {
		t.Fatalf("an agent that starts writes %+v", c)
	}
}

// Whatever Tables follow each other, the Patches lead to each, from what the last one
// left and from what the kernel holds.
func TestPatchesLeadToTheTable(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	kernel := nothing()
	ruleset, patches := Adopt(kernel, &proxy.Table{}, DefaultMark, false)
	kernel = apply(t, kernel, patches)
	for range 100 {
		table := dataplanetest.Random(r)
		switch r.IntN(4) {
		case 0: // an agent that starts
			ruleset, patches = Adopt(kernel, table, DefaultMark, false)
		default:
			ruleset, patches = ruleset.Next(table)
		}
		kernel = apply(t, kernel, patches)
		held(t, kernel, ruleset, table)
	}
}

// A table of another version is swapped: what its maps hold stays. If that is not to
// be, or it is not ours, it is replaced.
func TestAdoptOtherRules(t *testing.T) {
	table := dataplanetest.Random(rand.New(rand.NewPCG(1, 2)))
	_, patches := Adopt(nothing(), table, 0x1000, false)
	kernel := apply(t, nothing(), patches)

	ruleset, patches := Adopt(kernel, table, DefaultMark, false)
	for _, p := range patches {
		rules := Step{Flush: p.Main().Flush, AddRules: p.Main().AddRules}
		if want := [3]Step{Main: rules}; !p.Swap || !reflect.DeepEqual(p.Steps, want) {
			t.Errorf("%s: not only the rules are swapped: %+v", p.Family, Summary(patches))
		}
	}
	held(t, apply(t, kernel, patches), ruleset, table)

	ruleset, patches = Adopt(kernel, table, DefaultMark, true)
	if slices.ContainsFunc(patches, func(p *Patch) bool { return !p.Main().DelTable }) {
		t.Error("asked to replace the tables, the patches do not")
	}
	held(t, apply(t, kernel, patches), ruleset, table)

	kernel[0].Comment = "somebody else's"
	ruleset, patches = Adopt(kernel, table, DefaultMark, false)
	if !patches[0].Main().DelTable || patches[1].Main().DelTable {
		t.Error("a table that is not ours is not replaced, or one that is ours is")
	}
	held(t, apply(t, kernel, patches), ruleset, table)
}

// What somebody else does to a table is found, and the next Patches undo it.
func TestDrifted(t *testing.T) {
	table := dataplanetest.Random(rand.New(rand.NewPCG(1, 2)))
	for what, breakage := range map[string]func(k *Kernel){
		"the table is gone":       func(k *Kernel) { *k = Kernel{Family: k.Family} },
		"the table is dormant":    func(k *Kernel) { k.Flags = 1 },
		"an element is gone":      func(k *Kernel) { k.Elements = k.Elements[1:] },
		"an element is foreign":   func(k *Kernel) { k.Elements[0].Data = "drop" },
		"a set is gone":           func(k *Kernel) { delete(k.Sets, setHairpin) },
		"a set has another type":  func(k *Kernel) { k.Sets[setVIPs] = k.Sets[setHairpin] },
		"a chain is gone":         func(k *Kernel) { delete(k.Chains, chainRefuse) },
		"a chain has other rules": func(k *Kernel) { k.Chains[chainRefuse] = ChainType{Hashes: "foreign!"} },
		"a chain is foreign":      func(k *Kernel) { k.Chains["foreign"] = ChainType{} },
		"a chain has another hook": func(k *Kernel) {
			c := k.Chains["nat-prerouting"]
			c.Hook.Priority++
			k.Chains["nat-prerouting"] = c
		},
	} {
		t.Run(what, func(t *testing.T) {
			ruleset, patches := Adopt(nothing(), table, DefaultMark, false)
			kernel := apply(t, nothing(), patches)
			held(t, kernel, ruleset, table)
			breakage(kernel[0])
			kernel[0].Elements = slices.DeleteFunc(kernel[0].Elements, func(e Element) bool {
				_, ok := kernel[0].Sets[e.Set]
				return !ok
			})
			if !ruleset.Drifted(kernel) {
				t.Fatal("not found")
			}
			next, patches := Adopt(kernel, table, DefaultMark, false)
			held(t, apply(t, kernel, patches), next, table)
			next, patches = ruleset.Repair(kernel, table, DefaultMark, false)
			held(t, apply(t, kernel, patches), next, table)
		})
	}
}

// An agent that starts finds each endpoint in its slot, and who went.
func TestAdoptKeepsSlots(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		table := dataplanetest.Random(r)
		was, patches := Adopt(nothing(), table, DefaultMark, false)
		kernel := apply(t, nothing(), patches)
		got, _ := Adopt(kernel, table, DefaultMark, false)
		want := slices.Collect(was.slots.All())
		for i, s := range slices.Collect(got.slots.All()) {
			if !reflect.DeepEqual(s, want[i]) {
				t.Fatalf("%s: got %v, want %v", s.Key, s, want[i])
			}
		}
		_, patches = Adopt(kernel, &proxy.Table{}, DefaultMark, false)
		gone := map[proxy.Key]bool{}
		for _, k := range Gone(patches) {
			gone[k] = true
		}
		for _, f := range table.Frontends {
			k := f.Key
			if k.Kind != proxy.NodePort && !k.Ranged() {
				k.Kind = proxy.ExternalIP
			}
			if f.Kind != proxy.Guard && !gone[k] {
				t.Errorf("%s went, and is not told", f.Key)
			}
		}
	}
}
