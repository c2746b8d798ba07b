package proxy_test

import (
	"fmt"
	"iter"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/proxy"
)

// TestMemoryDoesNotShow compiles random sequences of Snapshots, as a Builder
// makes them: what did not change keeps its pointer. A Compiler with a memory, a
// fresh one, and one that sees another order must agree.
func TestMemoryDoesNotShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawn{t}
		c := &cluster{r: r, world: storytest.NewWorld()}
		var memory proxy.Compiler
		node, on, opt := "a", []netip.Addr(nil), proxy.Options{}
		last := memory.Compile(&snapshot.Snapshot{}, node, on, opt)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			s := c.next(t)
			if r.IntN(8) == 0 { // seldom: all Services are compiled from scratch then
				node, on = pick(r, "a", "b", "gone"), []netip.Addr{netip.MustParseAddr(pick(r, "198.51.100.1", "198.51.100.2"))}
				opt = proxy.Options{ExternalIPs: r.IntN(2) == 0, Quarantined: [][]string{nil, {"a"}, {"a", "b"}}[r.IntN(3)]}
			}
			opt.Routed = [][]netip.Addr{nil, {netip.MustParseAddr("10.1.2.5"), netip.MustParseAddr("10.9.0.5"), netip.MustParseAddr("fd00:1::5")}}[r.IntN(2)]
			want := proxy.Compile(s, node, on, opt)
			violations(t, want)
			got := memory.Compile(s, node, on, opt)
			same(t, "with a memory", want, got)
			bare := *got // a copy has no notes
			if noted, walked := pairs(got.Changed(last)), pairs(bare.Changed(last)); noted != walked {
				t.Errorf("noted that this changed:\n%s\nwant\n%s", noted, walked)
			}
			last = got
			all := proxy.KnownPods(s, func(string) proxy.Options { return opt })
			if got, pods := memory.Known(), all[node]; s.Node(node) != nil && !reflect.DeepEqual(got, pods) {
				t.Errorf("the pods are known by %+v, want %+v", got, pods)
			}
			if got, sum := memory.Summary(), proxy.Summarize(want); !reflect.DeepEqual(got, sum) {
				t.Errorf("the summary is %+v, want %+v", got, sum)
			}
			same(t, "from an input in another order", want, proxy.Compile(shuffled(s), node, on, opt))
		}
	})
}

// pairs prints what changed.
func pairs(changed iter.Seq2[*proxy.Frontend, *proxy.Frontend]) string {
	var b strings.Builder
	for was, is := range changed {
		fmt.Fprintf(&b, "%v -> %v\n", was, is)
	}
	return b.String()
}

// drawn draws numbers that shrink.
type drawn struct{ t *rapid.T }

func (d drawn) IntN(n int) int { return rapid.IntRange(0, n-1).Draw(d.t, "n") }

// cluster changes at random.
type cluster struct {
	r     drawn
	world *storytest.World
}

// next changes something and returns the cluster as it is then.
func (c *cluster) next(t *rapid.T) *snapshot.Snapshot {
	t.Helper()
	for range 1 + c.r.IntN(4) {
		if err := c.world.Do(c.line()); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.world.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// line is one line for a World. Names and addresses are few, so that they clash.
func (c *cluster) line() string {
	r := c.r
	svc := "default/" + pick(r, "a", "b", "c", "d")
	addr := func() string { return pick(r, "192.0.2.1", "192.0.2.2", "203.0.113.1", "10.96.0.1", "2001:db8:f::1") }
	switch r.IntN(7) {
	case 0:
		return fmt.Sprintf("node %s ips=%s pods=%s zone=%s", pick(r, "a", "b"), pick(r, "198.51.100.1", "198.51.100.2,2001:db8::1"),
			pick(r, "10.1.1.0/24", "10.1.1.0/24,10.1.1.0/25,fd00:1::/64", ""), pick(r, "east", "west", ""))
	case 1:
		return fmt.Sprintf("pool lan %s", pick(r, "192.0.2.0/24", "192.0.2.2-192.0.2.3", "203.0.113.0/24,2001:db8:f::/64"))
	case 2:
		if r.IntN(3) == 0 {
			return fmt.Sprintf("address %s holder=%s::%s deleting=", addr(), svc, pick(r, "udp/1000-2000", "tcp/1-79+tcp/81-65535+udp/1000-2000", "tcp/80"))
		}
		return fmt.Sprintf("address %s holder=%s,default/%s:other deleting=%s", addr(), svc, pick(r, "a", "b"), pick(r, "false", "true"))
	case 3:
		return fmt.Sprintf("servicecidr %s %s", pick(r, "x", "y"), pick(r, "10.96.0.0/16", "10.96.0.0/24,fd00:96::/112", "10.97.0.0/16"))
	case 4, 5:
		c.service(svc)
		return fmt.Sprintf("endpoint %s %s node=%s zones=%s nodes=%s unready=%s unserving=%s terminating=%s", svc,
			pick(r, "10.1.1.5:80", "10.1.1.6:80", "10.1.2.5:80", "[fd00:1::5]:80", "127.0.0.1:80"), pick(r, "a", "b", ""),
			pick(r, "east", "west,east", ""), pick(r, "a", "b", ""), pick(r, "false", "true"), pick(r, "false", "true"), pick(r, "false", "true"))
	}
	return fmt.Sprintf("service %s status=%s,%s externalIPs=%s,%s", c.service(svc), addr(), addr(), addr(), addr())
}

// service makes or edits a Service, and returns its name.
func (c *cluster) service(name string) string {
	r := c.r
	line := fmt.Sprintf("service %s type=%s ip=%s ports=%s external=%s internal=%s ranges=%s affinity=%s labels=%s", name,
		pick(r, "LoadBalancer", "LoadBalancer", "NodePort", "ClusterIP", "ExternalName"),
		pick(r, "10.96.0.1", "10.96.0.2", "10.96.0.3,fd00:96::3", "fd00:96::4"),
		pick(r, "tcp/80/30080", "tcp/80/30081,udp/80/30080", "tcp/81"), pick(r, "Local", "Cluster"), pick(r, "Local", ""),
		pick(r, "", "192.0.2.0/30", "198.51.100.0/24,203.0.113.1/32", "::/0"), pick(r, "", "", "10s"),
		pick(r, "", "", "", "service.kubernetes.io/service-proxy-name=x"))
	if err := c.world.Do(line); err != nil {
		panic(err) // a mistake in this file
	}
	return name
}

func pick(r drawn, of ...string) string { return of[r.IntN(len(of))] }
