package netlink

import "testing"

// Other programs' changes to other tables cost no full read; a change to ours
// among them is found.
func TestForeignChangesAreCheap(t *testing.T) {
	s := newSpace(t, "watch")
	e := s.engine(t)
	table := everything()
	sync(t, e, table)
	reads := e.reads
	changed := everything()
	changed.Frontends[0].Cluster = eps("198.18.1.9:6443")
	for i := range 5 {
		s.Pipe(t, "add table ip other; add set ip other s { type ipv4_addr; }; add element ip other s { 192.0.2.1 }; delete table ip other", "nft", "-f", "-")
		if c := sync(t, e, table); !c.Empty() || c.Repaired {
			t.Fatalf("%d: %+v", i, c)
		}
		s.Pipe(t, "add table inet fairlead; delete table inet fairlead", "nft", "-f", "-") // not our family
		if c := sync(t, e, changed); c.Empty() || c.Repaired {
			t.Fatalf("%d: %+v", i, c)
		}
		sync(t, e, table)
	}
	if e.reads != reads {
		t.Errorf("%d full reads", e.reads-reads)
	}
	s.Pipe(t, "add table ip other; delete element ip fairlead cluster-ips { 10.96.0.1 }", "nft", "-f", "-")
	s.Pipe(t, "delete table ip other", "nft", "-f", "-")
	if c := sync(t, e, changed); !c.Repaired || c.Rebuilt || c.Added != 2 {
		t.Errorf("%+v", c)
	}
	// Affinity and expiring elements are no changes of anybody.
	if c := sync(t, e, changed); !c.Empty() || c.Repaired {
		t.Errorf("%+v", c)
	}
	// More than the buffer holds is no reason to miss one.
	var flood []byte
	for range 3000 {
		flood = append(flood, "add table ip other\nadd chain ip other c\ndelete table ip other\n"...)
	}
	s.Pipe(t, string(flood), "nft", "-f", "-")
	s.Pipe(t, "delete element ip fairlead cluster-ips { 10.96.0.1 }", "nft", "-f", "-")
	if c := sync(t, e, changed); !c.Repaired {
		t.Errorf("%+v", c)
	}
}
