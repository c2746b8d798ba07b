package agent

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// renewEvery is how often the NodeState is written when nothing changes: the
// other agents' sign that this one is alive.
const renewEvery = 10 * time.Second

// listed is how many addresses a NodeState lists; it counts all of them.
const listed = 1000

// reporter writes the NodeState.
type reporter struct {
	loop   *reconcile.Loop
	holder *l2.Holder               // has the findings
	status v1alpha1.NodeStateStatus // that was written last
	at     time.Time
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
	st := a.now()
	a.metrics.reported(st)
	a.metrics.routed(st.routes)
	status := describe(st, a.links.State(), a.mode(), a.cfg.Version)
	if a.proxy == Fairlead {
		status.Engine.Accelerator = a.cfg.accelerator()
	}
	describeBGP(&status, st.routes, a.routes.speaker.Status())
	status.Findings = findings(a.report.holder.Findings())
	status.ProblemsCount, status.Problems = problems(a.ports.Problems())
	status.Conditions = append(a.sysctls.condition(), a.membersCondition(st.view, time.Now()))
	announcedSince(status.Announces, a.report.status.Announces)
	if time.Since(a.report.at) < renewEvery-time.Second && reflect.DeepEqual(status, a.report.status) {
		return nil
	}
	obj, err := a.cfg.Clients.NodeStates.Get(ctx, a.cfg.Node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		obj, err = a.cfg.Clients.NodeStates.Create(ctx, &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.Node}}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("node state: %w", err)
	}
	announcedSince(status.Announces, obj.Status.Announces)  // the last agent's word counts after a restart
	now := metav1.NewTime(time.Now().Truncate(time.Second)) // as the API server keeps it
	for i := range status.Announces {
		if v := &status.Announces[i]; v.Since == nil {
			v.Since = &now
		}
	}
	obj.Status = status
	obj.Status.RenewTime = &metav1.MicroTime{Time: time.Now()}
	if _, err := a.cfg.Clients.NodeStates.UpdateStatus(ctx, obj, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("node state: %w", err)
	}
	a.report.status, a.report.at = status, time.Now()
	return nil
}

// announcedSince takes over from earlier since when each address is announced,
// if that is not known yet.
func announcedSince(now, earlier []v1alpha1.AnnouncedAddress) {
	type place struct{ addr, link string }
	since := make(map[place]*metav1.Time, len(earlier))
	for _, v := range earlier {
		since[place{v.Address, v.Link}] = v.Since
	}
	for i := range now {
		if v := &now[i]; v.Since == nil {
			v.Since = since[place{v.Address, v.Link}]
		}
	}
}

// membersCondition says how it stands with the other agents, since when.
func (a *Agent) membersCondition(view announcer.View, now time.Time) metav1.Condition {
	ok, reason, message := aboutMembers(view)
	c := metav1.Condition{Type: v1alpha1.ConditionMembers, Status: metav1.ConditionTrue, Reason: reason, Message: cut(message, 4096)}
	if !ok {
		c.Status = metav1.ConditionFalse
	}
	c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second)) // as the API server keeps it
	if was := meta.FindStatusCondition(a.report.status.Conditions, c.Type); was != nil && was.Status == c.Status {
		c.LastTransitionTime = was.LastTransitionTime
	}
	return c
}

// describe is the NodeState of a state, but for the time.
func describe(st state, links link.State, engine, version string) v1alpha1.NodeStateStatus {
	out := v1alpha1.NodeStateStatus{
		AgentVersion: version,
		Engine: v1alpha1.EngineState{
			Mode: engine, InSync: st.InSync, Message: cut(st.message, 4096), Services: int32(st.services), Endpoints: int32(st.endpoints),
		},
	}
	macs := map[string]string{}
	for _, l := range links.Links {
		macs[l.Name] = l.MAC
		nl := v1alpha1.NodeLink{Name: l.Name, MAC: l.MAC}
		for _, p := range l.Prefixes {
			nl.Prefixes = append(nl.Prefixes, p.String())
		}
		out.Links = append(out.Links, nl)
	}
	out.AnnouncesCount = int32(len(st.held))
	for _, c := range st.held[:min(len(st.held), listed)] {
		out.Announces = append(out.Announces, v1alpha1.AnnouncedAddress{
			Address: c.Addr.String(), Link: c.Link, MAC: macs[c.Link],
			Service: cmp.Or(serviceOf(st.plan.Elected, c), serviceOf(st.plan.Leaving, c)), Leaving: serviceOf(st.plan.Leaving, c) != "",
		})
	}
	if self := st.view.Member(st.view.Node); self != nil {
		out.Draining = self.Report.Draining
	}
	for _, m := range silent(st.view) {
		out.Silent = append(out.Silent, v1alpha1.SilentNode{Node: m.Node, Verdict: m.Verdict.String(), Quarantined: m.Quarantine})
	}
	out.RefusedCount = int32(len(st.plan.Refused))
	for _, r := range st.plan.Refused[:min(len(st.plan.Refused), listed)] {
		out.Refused = append(out.Refused, v1alpha1.RefusedAddress{Address: r.Addr.String(), Reason: string(r.Reason), Message: r.Message})
	}
	return out
}

// mode is the name of what forwards.
func (a *Agent) mode() string {
	if a.proxy == Fairlead {
		return a.cfg.Engine
	}
	return string(a.proxy)
}

// mostProblems is how many problems a NodeState lists.
const mostProblems = 256

func problems(found []snapshot.Problem) (count int32, out []v1alpha1.ServiceProblem) {
	for _, p := range found[:min(len(found), mostProblems)] {
		out = append(out, v1alpha1.ServiceProblem{Service: p.Service.String(), Reason: string(p.Reason), Message: cut(p.Message, 1024)})
	}
	return int32(len(found)), out
}

// serviceOf returns the Service for which c is in vips, "" if it is not.
func serviceOf(vips []announcer.VIP, c announcer.Claim) string {
	for _, v := range vips {
		if v.Addr == c.Addr && len(v.Services) > 0 {
			return v.Services[0].String()
		}
	}
	return ""
}

func cut(s string, limit int) string { return s[:min(len(s), limit)] }
