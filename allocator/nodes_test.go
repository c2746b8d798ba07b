package allocator_test

import (
	"testing"

	"github.com/fairlead/fairlead/internal/test/storytest"
)

// With externalTrafficPolicy Local, a Service has the addresses of those nodes that have
// ready endpoints of it. While none is ready, it has those of all nodes.
func TestLocalHasTheNodesOfItsEndpoints(t *testing.T) {
	w := storytest.NewWorld()
	for _, step := range []struct{ do, want string }{
		{"node a ips=198.51.100.1\nnode b ips=198.51.100.2\npool edge nodes\nservice x/web external=Local\n",
			"assign x/web 198.51.100.1,198.51.100.2 pool=edge\n"},
		{"endpoint x/web 10.1.0.5:80 node=a\nendpoint x/web 10.1.1.5:80 node=b unready\n",
			"move x/web 198.51.100.1 pool=edge\nrelease x/web 198.51.100.2\n"},
		{"endpoint x/web 10.1.1.5:80 unready=\n", "assign x/web 198.51.100.1,198.51.100.2 pool=edge\n"},
		{"node a notready\n", "move x/web 198.51.100.2 pool=edge\nrelease x/web 198.51.100.1\n"},
	} {
		if err := w.Do(step.do); err != nil {
			t.Fatal(err)
		}
		plan := decideTwice(t, w)
		if got := plan.String(); got != step.want {
			t.Errorf("after %q:\n%s-- want --\n%s", step.do, got, step.want)
		}
		w.Apply(plan)
	}
}
