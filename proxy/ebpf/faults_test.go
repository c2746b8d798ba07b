package ebpf

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	bpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/intercept"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

// The steps of a Sync, as the kernel sees them. Those of the Dataplane behind come
// before, and are not among them.
const (
	createMaps   = "create maps"
	pinMaps      = "pin maps"
	loadPrograms = "load programs"
	attachFirst  = "attach the first program"
	pinFirst     = "pin the first link"
	attachMore   = "attach more programs"
	replaceFirst = "replace the first program"
	replaceMore  = "replace more programs"
	writeTo      = "write "
	deleteFrom   = "delete from "
	config       = writeTo + "config"
)

// Commands of bpf(2) that change something.
const (
	cmdCreateMap  = 0
	cmdUpdate     = 2
	cmdDelete     = 3
	cmdLoad       = 5
	cmdPin        = 6
	cmdUpdateMany = 26
	cmdAttach     = 28
	cmdReplace    = 29
)

// stepNamer names the system calls of an Engine.
type stepNamer struct{}

// Step implements dataplanetest.Steps.
func (stepNamer) Step(c intercept.Call, taken []string) string {
	after := func(step string) bool { return slices.Contains(taken, step) }
	either := func(first bool, a, b string) string {
		if first {
			return a
		}
		return b
	}
	switch c.Args[0] {
	case cmdCreateMap:
		return createMaps
	case cmdLoad:
		return loadPrograms
	case cmdPin:
		return either(!after(attachFirst), pinMaps, either(!after(attachMore), pinFirst, attachMore))
	case cmdAttach:
		if attrFD(c, 0) < 0 {
			return "" // the library asks what the kernel can do
		}
		return either(!after(attachFirst), attachFirst, attachMore)
	case cmdReplace:
		return either(!after(replaceFirst), replaceFirst, replaceMore)
	case cmdUpdate, cmdUpdateMany:
		return again(writeTo+mapName(c), taken)
	case cmdDelete:
		return deleteFrom + mapName(c)
	}
	return ""
}

// again numbers the writes of the settings, between which there are others.
func again(step string, taken []string) string {
	if step != config || len(taken) == 0 {
		return step
	}
	if last := taken[len(taken)-1]; strings.HasPrefix(last, config) {
		return last
	}
	n := 1
	for _, s := range taken {
		if strings.HasPrefix(s, config) {
			n++
		}
	}
	if n == 1 {
		return config
	}
	return fmt.Sprintf("%s (%d)", config, n)
}

// attrFD returns the descriptor at an offset of what a call of bpf(2) points to.
func attrFD(c intercept.Call, offset int) int {
	attr := c.Memory(1, offset+4)
	if attr == nil {
		return -1
	}
	return int(int32(binary.NativeEndian.Uint32(attr[offset:])))
}

// mapName returns the name of the map that a call is about.
func mapName(c intercept.Call) string {
	offset := 0
	if c.Args[0] == cmdUpdateMany {
		const afterPointersAndCount = 36
		offset = afterPointersAndCount
	}
	fd, err := c.File(attrFD(c, offset))
	if err != nil {
		return "?"
	}
	m, err := bpf.NewMapFromFD(fd)
	if err != nil {
		return "?"
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return "?"
	}
	return strings.TrimPrefix(info.Name, "map") // the kernel leaves out the dash
}

// Answer implements dataplanetest.Steps.
func (stepNamer) Answer(intercept.Call, dataplanetest.Fault) intercept.Verdict {
	return intercept.Verdict{}
}

// hasty is an Engine that tries again with the next Sync. The kernel detaches programs
// some time after their last pin has gone, which is sooner than an Engine tries again.
type hasty struct{ *Engine }

func (h hasty) Sync(ctx context.Context, t *proxy.Table) (proxy.Change, error) {
	h.retry = time.Time{}
	c, err := h.Engine.Sync(ctx, t)
	for err == nil && !h.State().On && h.running() {
		runtime.Gosched()
	}
	return c, err
}

// running reports whether a program is attached.
func (h hasty) running() bool {
	dir, err := os.Open(h.opt.Cgroup)
	if err != nil {
		panic(err)
	}
	defer dir.Close()
	for _, hook := range (&connectPrograms{}).hooks() {
		r, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: hook.at})
		if err != nil {
			panic(err)
		}
		if len(r.Programs) > 0 {
			return true
		}
	}
	return false
}

// brief is a Dataplane behind that compares no connections: lists of them take half of
// the time of these tests, and the Dataplane's own tests disturb them.
type brief struct{ *nftables.Engine }

func (b brief) Sync(ctx context.Context, t *proxy.Table) (proxy.Change, error) {
	defer b.Close()
	return b.Engine.Sync(ctx, t)
}

// serveVictim is the process of a Victim, whose descriptor 3 is the namespace:
// "CGROUP PINS".
func serveVictim(args string) {
	cgroup, pins, _ := strings.Cut(args, " ")
	behind := brief{nftables.New(nftables.Options{Netns: 3})}
	dataplanetest.Serve(hasty{New(Options{Behind: behind, Cgroup: cgroup, Pins: pins})}, intercept.Filter{
		Number: unix.SYS_BPF, First: []uint32{cmdCreateMap, cmdUpdate, cmdDelete, cmdLoad, cmdPin, cmdUpdateMany, cmdAttach, cmdReplace},
	})
}

// faultTables are two Tables; the second has of everything something more and
// something less. podA serves 198.18.96.1 in both.
func faultTables() (before, after *proxy.Table) {
	sticky := func(f *proxy.Frontend) *proxy.Frontend { f.Affinity = time.Hour; return f }
	node := func(last byte) []netip.Addr { return []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 1, last})} }
	return &proxy.Table{NodePortAddrs: node(1), Frontends: []*proxy.Frontend{
			front("198.18.96.1", snapshot.TCP, 80, podA4, podB4), front("198.18.96.1", snapshot.UDP, 80, podB4),
			sticky(front("198.18.96.2", snapshot.TCP, 80, podB4)), front("198.18.96.3", snapshot.TCP, 80, podB4),
		}}, &proxy.Table{NodePortAddrs: node(9), Frontends: []*proxy.Frontend{
			front("198.18.96.1", snapshot.TCP, 80, podA4), front("198.18.96.1", snapshot.UDP, 80, podA4),
			sticky(front("198.18.96.2", snapshot.TCP, 80, podA4, podB4)), front("198.18.96.4", snapshot.TCP, 80, podA4),
		}}
}

// answers checks Frontends from the client.
func answers(t *testing.T, c *program, tables ...*proxy.Table) {
	t.Helper()
	names := map[string]string{podA4: "podA", podB4: "podB"}
	for _, f := range tables[0].Frontends {
		var want []string
		everywhere := true
		for _, table := range tables {
			i := slices.IndexFunc(table.Frontends, func(same *proxy.Frontend) bool { return same.Key == f.Key })
			if everywhere = everywhere && i >= 0; !everywhere {
				break
			}
			for _, ep := range table.Frontends[i].Cluster {
				want = append(want, fmt.Sprintf("map[%s:1]", names[ep.Addr().String()]))
			}
		}
		got := c.do(t, "flood %s %s:%d 1", strings.ToLower(f.Protocol.String()), f.Addr, f.Port)
		if everywhere && !slices.Contains(want, got) {
			t.Errorf("%s: %q, want one of %q", f.Key, got, want)
		}
	}
}

// What goes wrong at a step of a Sync, or ends the process there, harms no connection
// and leaves nothing behind.
func TestFaults(t *testing.T) {
	l := newLab(t)
	before, after := faultTables()
	sync(t, l.engine(t), before)
	c := l.program(t, "client")
	for got := ""; got != "podA"; got = c.do(t, "say stays") {
		c.want(t, "ok", "dial stays tcp 198.18.96.1:80")
	}
	load := []string{createMaps, pinMaps, loadPrograms} // a process that adopts finds the pins
	change := []string{
		config, writeTo + "endpoints", writeTo + "members", writeTo + "services", writeTo + "node_ips",
		deleteFrom + "node_ips", deleteFrom + "services", config + " (2)", deleteFrom + "members", deleteFrom + "endpoints", config + " (3)",
	}
	dataplanetest.Faults(t, &dataplanetest.Ground{
		Victim: func(t *testing.T) dataplanetest.Victim {
			netns, err := os.Open("/run/netns/" + l.node.Name)
			if err != nil {
				t.Fatal(err)
			}
			defer netns.Close()
			return dataplanetest.StartProcess(t, stepNamer{}, l.cgroup+" "+l.pins, netns)
		},
		New: func(t *testing.T) proxy.Dataplane {
			e := l.engine(t)
			e.opt.Behind = brief{nftables.New(nftables.Options{Netns: int(l.node.Handle)})}
			return checked{e}
		},
		Before: before, After: after,
		First:  append(append(slices.Clone(load), change[:5]...), config+" (2)", attachFirst, pinFirst, attachMore, config+" (3)"),
		Change: change,
		Adopt:  append([]string{createMaps, loadPrograms}, append(slices.Clone(change), replaceFirst, replaceMore, config+" (4)")...),
		Faults: func(step string) []dataplanetest.Fault {
			switch step {
			case writeTo + "endpoints", writeTo + "node_ips":
				return []dataplanetest.Fault{{Step: step, Errno: unix.E2BIG}} // the map is full
			case loadPrograms, attachMore, pinFirst, replaceMore, deleteFrom + "members", config + " (3)":
				return []dataplanetest.Fault{{Step: step, Errno: unix.ENOMEM}}
			}
			return nil
		},
		Answers: func(t *testing.T, tables ...*proxy.Table) { t.Helper(); answers(t, c, tables...) },
		Alive:   func(t *testing.T) { t.Helper(); c.want(t, "podA", "say stays") },
		Held:    func(t *testing.T) string { return pinned(t, l.pins) },
		// Before the Sync of the programs comes that of the Dataplane behind.
		Served: func(t *testing.T) *proxy.Table {
			table, err := checked{l.engine(t)}.behind(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return table
		},
	})
}

// pinned lists what is pinned.
func pinned(t *testing.T, pins string) string {
	t.Helper()
	found, err := os.ReadDir(pins)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range found {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// A map that is full turns the programs off, and the reason names the map. Everything
// is forwarded meanwhile.
func TestFullMap(t *testing.T) {
	l := newLab(t)
	e := l.engine(t)
	before, after := faultTables()
	sync(t, e, before)
	c := l.program(t, "client")
	var at connectAddress
	for at.Port = 1; ; at.Port++ {
		if err := e.objects.NodeIps.Put(&at, uint8(1)); err != nil {
			break // it holds no more
		}
	}
	if _, err := e.Sync(t.Context(), after); err != nil {
		t.Fatal(err)
	}
	if s := e.State(); s.On || !strings.Contains(s.Reason, "node_ips") || !strings.Contains(s.Reason, "full") {
		t.Errorf("with a full map: %+v", s)
	}
	nstest.Eventually(t, "the programs to be detached", func() bool { return !hasty{e}.running() })
	answers(t, c, after)
	e.retry = time.Time{}
	sync(t, e, after)
	answers(t, c, after)
}
