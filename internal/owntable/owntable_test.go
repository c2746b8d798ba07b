package owntable

import (
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// A table is intact as long as nobody changed its rules. It is removed also if it is not there.
func TestTable(t *testing.T) {
	space := nstest.New(t, "table")
	table := Table{Name: "own", Netns: int(space.Handle)}
	mark := Mark([]byte("two rules"))
	intact := func(chains map[string]int) bool {
		t.Helper()
		c, err := table.Open()
		if err != nil {
			t.Fatal(err)
		}
		ok, err := table.Intact(c, chains, mark)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	write := func() {
		t.Helper()
		c, err := table.Open()
		if err != nil {
			t.Fatal(err)
		}
		table.Delete(c)
		ch := c.AddChain(&nftables.Chain{Table: c.AddTable(table.Kernel()), Name: "rules"})
		for range 2 {
			c.AddRule(&nftables.Rule{Table: ch.Table, Chain: ch, UserData: []byte(mark)})
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	two := map[string]int{"rules": 2}
	if !intact(nil) || intact(two) {
		t.Error("there is no table yet")
	}
	write()
	write()
	if !intact(two) || intact(nil) || intact(map[string]int{"rules": 3}) || intact(map[string]int{"rules": 2, "more": 0}) {
		t.Error("the table is not seen as it was written")
	}
	for _, change := range []string{"add rule inet own rules accept", "flush chain inet own rules", "add chain inet own other"} {
		space.Run(t, "nft", change)
		if intact(two) {
			t.Errorf("intact after %q", change)
		}
		write()
	}
	for range 2 {
		if err := table.Remove(); err != nil {
			t.Error(err)
		}
	}
	if text := space.Run(t, "nft", "list", "ruleset"); strings.Contains(text, "own") {
		t.Errorf("left is %s", text)
	}
}
