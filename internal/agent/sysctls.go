package agent

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/sysctl"
	"github.com/fairlead/fairlead/proxy"
)

// sysctls is what an agent last found of its node's kernel settings.
type sysctls struct {
	loop *reconcile.Loop

	mu    sync.Mutex
	known bool
	wrong []string
	since metav1.Time // when it became right, or wrong
	// unforwarded are the families that the kernel does not forward; sorted.
	unforwarded []snapshot.Family
}

// closed returns the families that the kernel does not forward, sorted.
func (s *sysctls) closed() []snapshot.Family {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.unforwarded)
}

// close keeps which families the kernel does not forward, and reports whether that is news.
func (s *sysctls) close(families []snapshot.Family) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news = !slices.Equal(s.unforwarded, families)
	s.unforwarded = families
	return news
}

// condition is what the NodeState says; nil before the first look.
func (s *sysctls) condition() []metav1.Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known {
		return nil
	}
	c := metav1.Condition{
		Type: v1alpha1.ConditionSysctls, Status: metav1.ConditionTrue, Reason: "AsNeeded",
		Message: "every kernel setting is as forwarding and announcing need it", LastTransitionTime: s.since,
	}
	if len(s.wrong) > 0 {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "Wrong", plain.Cut(strings.Join(s.wrong, "; "), 4096)
	}
	return []metav1.Condition{c}
}

// found keeps what was found at now and reports whether it is news.
func (s *sysctls) found(wrong []string, now time.Time) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known && slices.Equal(s.wrong, wrong) {
		return false
	}
	if !s.known || (len(s.wrong) == 0) != (len(wrong) == 0) {
		s.since = metav1.NewTime(now.Truncate(time.Second)) // as the API server keeps it
	}
	s.known, s.wrong = true, wrong
	return true
}

// setSysctls sets the kernel settings that the node needs, as far as it may, and
// takes note of the rest.
func (a *Agent) setSysctls(context.Context) error {
	set, wrong := sysctl.Dir(a.cfg.SysctlDir).Apply(sysctl.Needed(a.needs()))
	if a.cfg.CountBytes { // a wish: nothing is wrong without it
		wished, _ := sysctl.Dir(a.cfg.SysctlDir).Apply([]sysctl.Setting{{Name: accounting, Want: "1", Why: "the bytes of connections are counted"}})
		set = append(set, wished...)
	}
	for _, c := range set {
		a.cfg.Log.Info("set a kernel setting", "name", c.Name, "to", c.Want, "was", c.Had, "why", c.Why)
	}
	if a.sysctls.close(sysctl.Unforwarded(wrong)) {
		a.wake()
	}
	a.metrics.sysctl.Reset()
	var texts []string
	for _, w := range wrong {
		a.metrics.sysctl.WithLabelValues(w.Name).Set(1)
		texts = append(texts, w.String())
	}
	if a.sysctls.found(texts, time.Now()) {
		for _, text := range texts {
			a.cfg.Log.Warn("a kernel setting is wrong and cannot be set", "setting", text)
		}
		a.report.loop.Wake()
	}
	return nil
}

// needs returns what the node's settings depend on. It reads no snapshot of the API server:
// an agent may start without an answer of one.
func (a *Agent) needs() sysctl.Node {
	links := a.links.State()
	out := sysctl.Node{
		Forwards: a.engine.proxy == Fairlead, Addrs: links.Addrs, Bridged: bridged(a.currentState().self, links), Learns: learnsRoutes(), CPUs: runtime.NumCPU(),
	}
	held, _ := a.layer2.Held()
	numbered := a.ways.Numbered()
	for _, c := range held {
		// IPv6 has neither send_redirects nor rp_filter.
		if !c.Addr.Is4() {
			continue
		}
		out.Announce = append(out.Announce, c.Link)
		answers := slices.ContainsFunc(numbered, func(w proxy.Way) bool { return w.Link == c.Link })
		// Such a filter drops what comes in by the link before anybody can answer it there.
		if answers && sysctl.Dir(a.cfg.SysctlDir).Strict(c.Link) {
			out.Strict = append(out.Strict, c.Link)
		}
	}
	return out
}

// accounting is the setting by which the kernel counts the bytes of connections.
const accounting = "net.netfilter.nf_conntrack_acct"

// countsBytes reports whether it does.
func (a *Agent) countsBytes() bool {
	b, err := os.ReadFile(sysctl.Dir(a.cfg.SysctlDir).File(accounting))
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// vips are the addresses that Services hold.
func (a *Agent) vips() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	if s := a.cluster.store.Snapshot(); s != nil {
		for _, v := range s.Addresses {
			out[v.Addr] = true
		}
	}
	return out
}

// bridged reports whether one of the links is a bridge with an address of the
// node's pods, as CNIs make that attach pods to a bridge.
func bridged(node *snapshot.Node, links link.State) bool {
	if node == nil {
		return false
	}
	for _, l := range links.Links {
		ofPods := slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool {
			return slices.ContainsFunc(node.PodCIDRs, func(c netip.Prefix) bool { return c.Contains(p.Addr()) })
		})
		if _, err := os.Stat(filepath.Join("/sys/class/net", l.Name, "bridge")); ofPods && err == nil {
			return true
		}
	}
	return false
}

// routerAdvertisement is the protocol of routes that the kernel learned from
// router advertisements (RTPROT_RA).
const routerAdvertisement = 9

// learnsRoutes reports whether the node has such routes. If it cannot be told, it has.
func learnsRoutes() bool {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Protocol: routerAdvertisement}, netlink.RT_FILTER_PROTOCOL)
	return err != nil || len(routes) > 0
}
