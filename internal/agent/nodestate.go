package agent

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/speaker"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// renewEvery is how often the NodeState is written when nothing changes: people see
// by it that this agent is alive.
const renewEvery = 10 * time.Second

// reporter writes the NodeState.
type reporter struct {
	loop   *reconcile.Loop
	leases *l2.Leases // has the findings
	last   reported
}

// reported is what the NodeState said last.
type reported struct {
	announces []snapshot.Announced
	status    v1alpha1.NodeStateStatus
	at        time.Time
}

func newReporter(cfg *Config) reporter {
	r := reporter{loop: reconcile.New("nodestate", cfg.Log)}
	r.loop.Resync, r.loop.Coalesce = renewEvery, 200*time.Millisecond
	return r
}

// writeState writes the NodeState if it changed or is due for renewal. It says
// nothing before the first step: an agent that has not looked yet knows nothing.
func (a *Agent) writeState(ctx context.Context) error {
	if !a.cluster.store.Synced() {
		return nil
	}
	now, conditions := a.describe()
	announcedSince(now.Announces, a.report.last.announces)
	status := kube.FromNodeState(now)
	status.Conditions = conditions
	if time.Since(a.report.last.at) < renewEvery-time.Second && same(status, a.report.last.status) {
		return nil
	}
	obj, err := a.cfg.Clients.NodeStates.Get(ctx, a.cfg.Node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		obj, err = a.cfg.Clients.NodeStates.Create(ctx, &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.Node}}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("node state: %w", err)
	}
	// After a restart the last agent's word counts.
	announcedSince(now.Announces, kube.ToNodeState(obj).Announces)
	for i := range now.Announces {
		if v := &now.Announces[i]; v.Since.IsZero() {
			v.Since = time.Now().Truncate(time.Second) // as the API server keeps it
		}
	}
	status = kube.FromNodeState(now)
	status.Conditions = conditions
	obj.Status = status
	obj.Status.RenewTime = &metav1.MicroTime{Time: time.Now()}
	if _, err := a.cfg.Clients.NodeStates.UpdateStatus(ctx, obj, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("node state: %w", err)
	}
	a.report.last = reported{announces: now.Announces, status: status, at: time.Now()}
	return nil
}

// same reports whether there is nothing to write before the next renewal. Pods come and
// go all the time, and nobody decides by them: they can wait for it.
func same(now, last v1alpha1.NodeStateStatus) bool {
	now.Engine.LocalPods = last.Engine.LocalPods
	return reflect.DeepEqual(now, last)
}

// announcedSince takes over from earlier since when each address is announced,
// where now does not know it.
func announcedSince(now, earlier []snapshot.Announced) {
	type addrOnLink struct {
		addr netip.Addr
		link string
	}
	since := make(map[addrOnLink]time.Time, len(earlier))
	for _, v := range earlier {
		since[addrOnLink{v.Addr, v.Link}] = v.Since
	}
	for i := range now {
		if v := &now[i]; v.Since.IsZero() {
			v.Since = since[addrOnLink{v.Addr, v.Link}]
		}
	}
}

// describe returns what the node says of itself now, and its conditions, which have
// times of their own.
func (a *Agent) describe() (snapshot.NodeState, []metav1.Condition) {
	st := a.currentState()
	a.metrics.reported(st)
	a.metrics.routed(st.routes)
	out := describeL2(st, a.links.State())
	out.Node, out.Version, out.Engine.Mode = a.cfg.Node, a.cfg.Version, a.mode()
	if a.engine.proxy == Fairlead {
		out.Engine.Accelerator = a.cfg.accelerator()
		out.Engine.LocalPods = a.cfg.localPods(st.pods, a.links.State())
	}
	describeBGP(&out, st.routes, a.routes.speaker.Status())
	for _, f := range a.report.leases.Findings() {
		out.Findings = append(out.Findings, snapshot.Finding(f))
	}
	out.Problems = a.ports.Problems()
	return out, append(a.sysctls.condition(), a.membersCondition(st.view, time.Now()))
}

// describeL2 is the NodeState of a state, as far as the engine and layer 2 go.
func describeL2(st state, links link.State) snapshot.NodeState {
	out := snapshot.NodeState{
		Electable: snapshot.Electable{InSync: st.InSync, Links: links.Links},
		Engine:    snapshot.Engine{Message: st.message, Services: st.summary.Services, Endpoints: st.summary.Endpoints},
	}
	macs := map[string]string{}
	for _, l := range links.Links {
		macs[l.Name] = l.MAC
	}
	keeps, leaves := services(st.plan.Elected), services(st.plan.Leaving)
	for _, c := range st.held {
		out.Announces = append(out.Announces, snapshot.Announced{
			Addr: c.Addr, Link: c.Link, MAC: macs[c.Link], Service: cmp.Or(keeps[c.Addr], leaves[c.Addr]), Leaving: leaves[c.Addr] != "",
		})
	}
	out.Draining = st.plan.Draining
	for _, m := range silent(st.view) {
		out.Silent = append(out.Silent, snapshot.Silent{Node: m.Node, Verdict: m.Verdict.String(), Quarantined: m.Quarantine})
	}
	for _, r := range st.plan.Refused {
		out.Refused = append(out.Refused, snapshot.Refused{Addr: r.Addr, Refusal: r.Refusal})
	}
	return out
}

// describeBGP adds what is announced over BGP, and the sessions, to out.
func describeBGP(out *snapshot.NodeState, plan bgp.Plan, sessions []speaker.Status) {
	up := map[string]bool{}
	for _, st := range sessions {
		up[st.Name] = st.Established
		out.Peers = append(out.Peers, peerState(st))
	}
	for _, r := range plan.Refused {
		if r.Kind == "peer" {
			out.Peers = append(out.Peers, snapshot.PeerState{Name: r.Name, State: snapshot.PeerRefused, LastError: r.Refusal.String()})
		}
	}
	slices.SortFunc(out.Peers, func(a, b snapshot.PeerState) int { return strings.Compare(a.Name, b.Name) })
	for _, v := range plan.Announce {
		peers := 0
		for _, name := range v.Peers {
			if up[name] {
				peers++
			}
		}
		out.Announces = append(out.Announces, snapshot.Announced{Addr: v.Addr, Peers: peers, Service: v.Services[0].String()})
	}
}

func peerState(st speaker.Status) snapshot.PeerState {
	out := snapshot.PeerState{
		Name: st.Name, Address: st.Addr.String(), State: st.State, Since: st.Since.Truncate(time.Second), LastError: st.LastError, Prefixes: st.Prefixes,
	}
	if st.BFD != nil {
		out.BFD = st.BFD.State.String()
	}
	return out
}

// membersCondition says how it stands with the other agents, since when.
func (a *Agent) membersCondition(view announcer.View, now time.Time) metav1.Condition {
	ok, reason, message := aboutMembers(view)
	c := metav1.Condition{Type: v1alpha1.ConditionMembers, Status: metav1.ConditionTrue, Reason: reason, Message: plain.Cut(message, 4096)}
	if !ok {
		c.Status = metav1.ConditionFalse
	}
	c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second)) // as the API server keeps it
	if was := meta.FindStatusCondition(a.report.last.status.Conditions, c.Type); was != nil && was.Status == c.Status {
		c.LastTransitionTime = was.LastTransitionTime
	}
	return c
}

// mode is the name of what forwards.
func (a *Agent) mode() string {
	if a.engine.proxy == Fairlead {
		return a.cfg.Engine
	}
	return string(a.engine.proxy)
}

// services returns of each of vips the first Service that holds it.
func services(vips []announcer.VIP) map[netip.Addr]string {
	out := make(map[netip.Addr]string, len(vips))
	for _, v := range vips {
		if len(v.Services) > 0 {
			out[v.Addr] = v.Services[0].String()
		}
	}
	return out
}
