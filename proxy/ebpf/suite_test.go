package ebpf

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	bpf "github.com/cilium/ebpf"

	"github.com/fairlead/fairlead/internal/test/nfttest"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
	"github.com/fairlead/fairlead/proxy/ebpf/content"
	ruleset "github.com/fairlead/fairlead/proxy/nftables"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

// checked is an Engine whose Dump also compares what the maps hold with what
// the Dataplane behind holds.
type checked struct{ *Engine }

func (c checked) Dump(ctx context.Context) (*proxy.Table, error) {
	t, err := c.behind(ctx)
	if err != nil || t == nil || t.Guards() { // another proxy forwards: the programs are off
		return t, err
	}
	if s := c.State(); !s.On && c.objects != nil {
		return nil, fmt.Errorf("off: %s", s.Reason)
	}
	m, err := c.pinned()
	if err != nil {
		return nil, err
	}
	defer m.Close()
	held, err := m.read()
	if err != nil {
		return nil, err
	}
	return t, differ(content.Adopt(held, t), t)
}

// behind returns what the Dataplane behind holds.
func (c checked) behind(ctx context.Context) (*proxy.Table, error) {
	kernel, err := c.opt.Behind.(interface {
		Read(ctx context.Context) ([]*ruleset.Kernel, error)
	}).Read(ctx)
	return nfttest.Table(kernel), err
}

// pinned opens the maps that read looks at.
func (c checked) pinned() (*connectMaps, error) {
	m := &connectMaps{}
	for name, to := range map[string]**bpf.Map{"services": &m.Services, "endpoints": &m.Endpoints, "members": &m.Members, "node_ips": &m.NodeIps} {
		var err error
		if *to, err = bpf.LoadPinnedMap(filepath.Join(c.opt.Pins, mapPin+name), nil); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// differ tells what the maps hold otherwise than t asks for.
func differ(st *content.State, t *proxy.Table) error {
	if len(st.Orphans)+len(st.OrphanMembers) > 0 {
		return fmt.Errorf("orphans: %v %v", st.Orphans, st.OrphanMembers)
	}
	if !slices.Equal(st.NodeIPs, t.NodePortAddrs) {
		return fmt.Errorf("node addresses %v, want %v", st.NodeIPs, t.NodePortAddrs)
	}
	var want []*proxy.Frontend
	for _, f := range t.Frontends {
		if content.Taken(f) {
			want = append(want, &proxy.Frontend{Key: f.Key, Cluster: f.Cluster, Affinity: f.Affinity})
		}
	}
	if len(want) != len(st.Placed) {
		return fmt.Errorf("%d Services, want %d", len(st.Placed), len(want))
	}
	for i, p := range st.Placed {
		if !reflect.DeepEqual(p.Frontend, want[i]) {
			return fmt.Errorf("%s, want %s", p.Frontend, want[i])
		}
	}
	return nil
}

func TestDataplane(t *testing.T) {
	nstest.NeedRoot(t)
	type kernel struct {
		space        nstest.Space
		cgroup, pins string
	}
	kernels := map[*testing.T]kernel{}
	dataplanetest.Run(t, func(t *testing.T) proxy.Dataplane {
		k, ok := kernels[t]
		if !ok {
			k = kernel{nstest.New(t, "suite"), newCgroup(t), nstest.BPFFS(t) + "/fairlead"}
			kernels[t] = k
		}
		behind := nftables.New(nftables.Options{Netns: int(k.space.Handle)})
		e := New(Options{Behind: behind, Cgroup: k.cgroup, Pins: k.pins})
		t.Cleanup(behind.Close)
		t.Cleanup(e.Close)
		return checked{e}
	})
}
