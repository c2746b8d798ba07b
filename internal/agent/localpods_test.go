package agent

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/proxy"
)

// A route to a pod that comes or goes is in the engine at once, and its address is all
// that changes there.
func TestRoutesToPodsReachTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := lived(t)
		d.do(t, a, "node a ips=198.51.100.1 pods=10.1.1.0/24\n"+twoVIPs("web", 10))
		d.read(10 * time.Second)
		for _, step := range []struct{ pods, want string }{
			{"10.9.0.5", "[10.1.1.0/24 10.9.0.5/32]"}, {"10.9.0.6", "[10.1.1.0/24 10.9.0.6/32]"}, {"", "[10.1.1.0/24]"},
		} {
			var pods []netip.Addr
			if step.pods != "" {
				pods = []netip.Addr{netip.MustParseAddr(step.pods)}
			}
			a.links.mu.Lock()
			a.links.state.Pods = pods
			a.links.mu.Unlock()
			a.links.changed()
			d.read(100 * time.Millisecond)
			d.mu.Lock()
			got := fmt.Sprint(d.table.LocalPods)
			d.mu.Unlock()
			if got != step.want {
				t.Errorf("with a route to %q the local pods are %s, want %s", step.pods, got, step.want)
			}
			if known := fmt.Sprint(a.engine.State().pods.Routes); known != fmt.Sprint(pods) {
				t.Errorf("the engine knows %s by routes, want %v", known, pods)
			}
		}
	})
}

// The NodeState names the pods that routes show, short. Pods that come and go are no
// reason to write it before it is due.
func TestDescribeLocalPods(t *testing.T) {
	var routes []netip.Addr
	for _, text := range []string{"198.18.190.5", "198.18.190.8", "198.18.190.9", "198.18.190.10", "fd98::5"} {
		routes = append(routes, netip.MustParseAddr(text))
	}
	links := link.State{PodLinks: []string{"cali1", "cali2", "cali3"}}
	got := (&Config{}).localPods(proxy.Known{Routes: routes}, links)
	if text := fmt.Sprint(*got); text != "{5 cali* [198.18.190.5-198.18.190.5 198.18.190.8-198.18.190.10 fd98::5-fd98::5]}" {
		t.Errorf("said of the pods: %s", text)
	}
	if fmt.Sprint(got.Addrs()) != fmt.Sprint(routes) {
		t.Errorf("read as %v, want %v", got.Addrs(), routes)
	}
	if got := (&Config{}).localPods(proxy.Known{}, links); got == nil || got.Count != 0 || got.Links != "" {
		t.Errorf("said of no pods: %+v", got)
	}
	told := &Config{Options: proxy.Options{Local: proxy.Local{NodeCIDR: true}}}
	if got := told.localPods(proxy.Known{Routes: routes}, links); got != nil {
		t.Errorf("an agent that was told how says %+v", got)
	}
}

func TestBegin(t *testing.T) {
	for want, names := range map[string][]string{"": nil, "cali1": {"cali1"}, "cali*": {"cali1", "cali2"}, "*": {"cali1", "veth1"}} {
		if got := begin(names); got != want {
			t.Errorf("%v begin as %q, want %q", names, got, want)
		}
	}
}
