package agent

import (
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/internal/assist"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// HelperMissing is the reason of the Problem of a Service whose helper this node's kernel
// does not have.
const HelperMissing snapshot.Reason = "HelperMissing"

// Assist gives connections helpers: *assist.Kernel.
type Assist interface {
	Sync(wants map[snapshot.Helper][]assist.At) (failed map[snapshot.Helper]error)
	Cleanup() error
}

// assisting follows which Frontends of the engine's Tables have helpers. The engine's loop
// alone uses it.
type assisting struct {
	kernel   Assist // nil: nobody gets a helper
	table    *proxy.Table
	fronts   map[proxy.Key]*proxy.Frontend // those with a helper
	synced   bool
	problems []snapshot.Problem
}

// follow gives the connections of t their helpers. Most clusters have none, and a change of
// other Frontends costs nothing.
func (a *assisting) follow(t *proxy.Table) {
	if a.kernel == nil {
		return
	}
	if a.table == nil {
		a.table, a.fronts = &proxy.Table{}, map[proxy.Key]*proxy.Frontend{}
	}
	// After an error, and at first, as an earlier agent may have left some.
	changed := !a.synced
	var come []*proxy.Frontend // after all that go: a Frontend that changed is in both
	for was, is := range t.Changed(a.table) {
		if was != nil && was.Helper != "" {
			delete(a.fronts, was.Key)
			changed = true
		}
		if is != nil && is.Helper != "" {
			come, changed = append(come, is), true
		}
	}
	for _, f := range come {
		a.fronts[f.Key] = f
	}
	if a.table = t; changed {
		a.sync()
	}
}

func (a *assisting) sync() {
	wants := map[snapshot.Helper][]assist.At{}
	services := map[snapshot.Helper][]snapshot.Ref{}
	for _, f := range a.fronts {
		wants[f.Helper] = append(wants[f.Helper], assist.At{Addr: f.Addr, Protocol: f.Protocol, Port: f.Port})
		services[f.Helper] = append(services[f.Helper], f.Service)
	}
	failed := a.kernel.Sync(wants)
	a.synced, a.problems = len(failed) == 0, nil
	for _, h := range snapshot.Helpers {
		if failed[h] == nil {
			continue
		}
		slices.SortFunc(services[h], snapshot.Ref.Compare)
		for _, svc := range slices.Compact(services[h]) {
			a.problems = append(a.problems, snapshot.Problem{Service: svc, Reason: HelperMissing,
				Message: fmt.Sprintf("connections have no helper: %v. Load the modules nf_conntrack_%s and nf_nat_%[2]s on the node", failed[h], h)})
		}
	}
}
