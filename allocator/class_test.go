package allocator_test

import (
	"testing"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Item 24: whose Service it is, all cases.
func TestOurs(t *testing.T) {
	for _, row := range []struct {
		class         string
		with, without bool // with DefaultClass, and without
	}{
		{"fairlead.io/lb", true, true},
		{"", true, false},
		{"example.org/lb", false, false},
		{"fairlead.io/LB", false, false},
	} {
		for _, def := range []bool{true, false} {
			opt := allocator.Options{Class: "fairlead.io/lb", DefaultClass: def}
			want := row.without
			if def {
				want = row.with
			}
			svc := &snapshot.Service{Type: snapshot.LoadBalancer, Class: row.class}
			if got := allocator.Ours(svc, opt); got != want {
				t.Errorf("class %q, DefaultClass %v: %v, want %v", row.class, def, got, want)
			}
			for _, other := range []*snapshot.Service{
				{Type: snapshot.ClusterIP, Class: row.class}, {Type: snapshot.NodePort, Class: row.class},
				{Type: snapshot.ExternalName, Class: row.class}, {Type: snapshot.LoadBalancer, Headless: true, Class: row.class},
			} {
				if allocator.Ours(other, opt) {
					t.Errorf("type %s headless %v class %q is ours", other.Type, other.Headless, row.class)
				}
			}
		}
	}
}
