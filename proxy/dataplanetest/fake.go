package dataplanetest

import (
	"context"
	"reflect"
	"sync"

	"github.com/fairlead/fairlead/proxy"
)

// Kernel is what Fakes act on. It may be shared by several Fakes, as by a
// process and its successor, and looked at from other goroutines.
type Kernel struct {
	mu    sync.Mutex
	table *proxy.Table // normal; nil if it holds none of ours
	syncs int
	tell  map[*Fake]func() // called after somebody else changed the table
}

// Table returns a copy of what the kernel holds, nil if nothing.
func (k *Kernel) Table() *proxy.Table {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.table == nil {
		return nil
	}
	return Normal(k.table)
}

// Set replaces what the kernel holds, as a person with a command line would.
func (k *Kernel) Set(t *proxy.Table) { k.set(t, nil) }

// set is Set by a Fake, nil for somebody else. It calls back the other Fakes.
func (k *Kernel) set(t *proxy.Table, by *Fake) {
	k.mu.Lock()
	k.table = nil
	if t != nil {
		k.table = Normal(t)
	}
	var tell []func()
	for f, changed := range k.tell {
		if f != by {
			tell = append(tell, changed)
		}
	}
	k.mu.Unlock()
	for _, changed := range tell {
		changed()
	}
}

// Syncs returns how many Syncs succeeded, those that wrote nothing included.
func (k *Kernel) Syncs() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.syncs
}

// Fake is a proxy.Dataplane that forwards nothing and passes the suite.
type Fake struct {
	*Kernel
	// Fail, if set, is asked before each call ("probe", "sync", "dump",
	// "cleanup"); an error is returned and nothing done.
	Fail func(call string) error

	last *proxy.Table // after the last Sync; nil before
}

var _ proxy.Dataplane = (*Fake)(nil)

// NewFake makes a Fake with a Kernel of its own.
func NewFake() *Fake { return &Fake{Kernel: &Kernel{}} }

func (f *Fake) fail(ctx context.Context, call string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.Fail != nil {
		return f.Fail(call)
	}
	return nil
}

// Probe implements proxy.Dataplane.
func (f *Fake) Probe(ctx context.Context) error { return f.fail(ctx, "probe") }

// Notify implements proxy.Dataplane. Only Set is somebody else's change.
func (f *Fake) Notify(changed func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tell == nil {
		f.tell = map[*Fake]func(){}
	}
	f.tell[f] = changed
}

// Sync implements proxy.Dataplane. It counts a Frontend, and each other entry,
// as one element.
func (f *Fake) Sync(ctx context.Context, t *proxy.Table) (proxy.Change, error) {
	if err := f.fail(ctx, "sync"); err != nil {
		return proxy.Change{}, err
	}
	want, held := Normal(t), f.Table()
	var c proxy.Change
	c.Repaired = f.last != nil && !reflect.DeepEqual(f.last, held)
	c.Rebuilt = held == nil
	have, now := entries(held), entries(want)
	for key, e := range now {
		if !reflect.DeepEqual(have[key], e) {
			c.Added++
		}
	}
	for key, e := range have {
		if !reflect.DeepEqual(now[key], e) {
			c.Deleted++
		}
	}
	f.last = want
	if !c.Empty() {
		f.set(want, f)
	}
	f.mu.Lock()
	f.syncs++
	f.mu.Unlock()
	return c, nil
}

// entries is a Table as a map, from what an entry is to what it says.
func entries(t *proxy.Table) map[any]any {
	out := map[any]any{}
	if t == nil {
		return out
	}
	for _, f := range t.Frontends {
		out[f.Key] = f
	}
	type entry struct {
		list string
		of   any
	}
	for _, a := range t.NodePortAddrs {
		out[entry{"nodeport", a}] = true
	}
	for _, p := range t.ServiceCIDRs {
		out[entry{"cidr", p}] = true
	}
	for _, p := range t.LocalPods {
		out[entry{"pods", p}] = true
	}
	for _, l := range t.LocalLinks {
		out[entry{"links", l}] = true
	}
	for _, h := range t.Hairpin {
		out[entry{"hairpin", h}] = true
	}
	return out
}

// Dump implements Dumper.
func (f *Fake) Dump(ctx context.Context) (*proxy.Table, error) {
	if err := f.fail(ctx, "dump"); err != nil {
		return nil, err
	}
	return f.Table(), nil
}

// Cleanup implements proxy.Dataplane.
func (f *Fake) Cleanup(ctx context.Context) error {
	if err := f.fail(ctx, "cleanup"); err != nil {
		return err
	}
	f.set(nil, f)
	f.last = nil
	return nil
}
