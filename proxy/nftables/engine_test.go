package nftables

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/proxy"
)

func TestProbeLeavesNothing(t *testing.T) {
	s := newSpace(t, "probe")
	if err := s.engine(t).Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := s.run(t, "", "nft", "list", "ruleset"); strings.TrimSpace(out) != "" {
		t.Errorf("left behind:\n%s", out)
	}
}

// Dumped elements parse into what was synced, and render back into themselves.
func TestParseInvertsRender(t *testing.T) {
	table := everything()
	for _, f := range families {
		fronts, _ := frontendsDiff(nil, table.Frontends)
		want := f.render(table, fronts)
		got, gotFronts := f.parse(want)
		again := f.render(got, gotFronts)
		if d := diffElements(want, again); !d.empty() {
			t.Errorf("%s: del %v\nadd %v", f, d.del, d.add)
		}
	}
}

func TestRepairsWhatOthersBreak(t *testing.T) {
	for _, breakage := range []string{
		"delete table ip fairlead",
		"delete table ip6 fairlead",
		"flush map ip fairlead ep-1",
		"flush chain ip6 fairlead refuse",
		"add rule ip fairlead services accept",
		"add element ip fairlead vips { 192.0.2.77 }",
		"add chain ip fairlead foreign; add rule ip fairlead foreign goto lb-2",
		"add chain ip fairlead lb-3-sticky-5",
	} {
		t.Run(breakage, func(t *testing.T) {
			s := newSpace(t, "drift")
			e := s.engine(t)
			table := everything()
			sync(t, e, table)
			want := s.run(t, "", "nft", "list", "ruleset")
			s.run(t, breakage+"\n", "nft", "-f", "-")
			if c := sync(t, e, table); !c.Repaired || c.Empty() {
				t.Errorf("got %+v", c)
			}
			got := s.run(t, "", "nft", "-s", "list", "ruleset")
			if sorted(got) != sorted(want) {
				t.Errorf("not repaired: %s", firstDifference(want, got))
			}
			if c := sync(t, e, table); !c.Empty() || c.Repaired {
				t.Errorf("again: got %+v", c)
			}
		})
	}
}

func sync(t testing.TB, d proxy.Dataplane, table *proxy.Table) proxy.Change {
	t.Helper()
	c, err := d.Sync(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
