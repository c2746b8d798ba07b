package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/speaker"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/nodestate"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// describeEvery is how often the agent looks whether its NodeState says what is true,
// beside every change that it knows of. It does not ask the API server for that.
const describeEvery = 10 * time.Second

// reporter writes the NodeState.
type reporter struct {
	loop   *reconcile.Loop
	leases *l2.Leases // has the findings

	describer nodestate.Describer
	writer    nodestate.Writer
}

func newReporter(cfg *Config) reporter {
	r := reporter{loop: reconcile.New("nodestate", cfg.Log)}
	r.loop.Resync, r.loop.Coalesce = describeEvery, 200*time.Millisecond
	if cfg.Clients != nil {
		r.writer = nodestate.Writer{Client: cfg.Clients.NodeStates, Node: cfg.Node, Owner: cfg.owner}
	}
	return r
}

// owner returns the Namespace of the installation: when it is deleted, the cluster's
// garbage collector deletes what agents wrote, which no chart owns.
func (cfg *Config) owner(ctx context.Context) *metav1.OwnerReference {
	ns, err := cfg.Clients.Kube.CoreV1().Namespaces().Get(ctx, cfg.Namespace, metav1.GetOptions{})
	if err != nil {
		cfg.Log.Warn("the NodeState will stay when fairlead's namespace is deleted", "error", err)
		return nil
	}
	return &metav1.OwnerReference{APIVersion: "v1", Kind: "Namespace", Name: ns.Name, UID: ns.UID}
}

// writeState writes the NodeState if that is due. It says nothing before the first
// step: an agent that has not looked yet knows nothing.
func (a *Agent) writeState(ctx context.Context) error {
	if !a.cluster.store.Synced() {
		return nil
	}
	now, conditions, speakers := a.describe()
	again, err := a.report.writer.Write(ctx, now, conditions, speakers)
	a.report.loop.At(again)
	return err
}

// describe returns what the node says of itself now, its conditions, which have times of
// their own, and the nodes whose agents speak.
func (a *Agent) describe() (out snapshot.NodeState, conditions []metav1.Condition, speakers []string) {
	st := a.currentState()
	a.metrics.reported(st)
	a.metrics.routed(st.routes)
	now := time.Now()
	sessions := a.routes.speaker.Status()
	out = a.report.describer.Describe(st.known(a.links.State(), sessions), now)
	out.Announces = a.gaps.in(out.Announces)
	out.Node, out.Version, out.Engine.Mode = a.cfg.Node, a.cfg.Version, a.mode()
	out.ReportKey = keyring.PublicOf(a.cfg.reportKey)
	if a.engine.proxy == Fairlead {
		out.Engine.Accelerator = a.cfg.accelerator()
		out.Engine.LocalPods = a.cfg.localPods(st.pods, a.links.State())
	}
	out.Peers = peerStates(st.routes, sessions)
	for _, f := range a.report.leases.Findings() {
		out.Findings = append(out.Findings, snapshot.Finding(f))
	}
	out.Problems = a.ports.Problems()
	out.Prefixes = a.links.State().Prefixes
	out.Leases = a.dhcp.Leases()
	conditions = slices.Concat(a.sysctls.condition(), a.sinceWritten(now, a.others.condition()...), a.sinceWritten(now, a.ways.condition(st.held)...), a.sinceWritten(now, membersCondition(st.view)))
	return out, conditions, nodestate.Speakers(st.view, now)
}

// known is what of st is described, with the BGP sessions.
func (st state) known(links link.State, sessions []speaker.Status) nodestate.Known {
	up := map[string]bool{}
	for _, s := range sessions {
		up[s.Name] = s.Established
	}
	return nodestate.Known{
		View: st.view, State: st.plan, Held: st.held, Links: links.For(st.named), Up: up,
		InSync: st.InSync, Message: st.message, Services: st.summary.Services, Endpoints: st.summary.Endpoints,
	}
}

// peerStates returns the sessions, and the peers that plan refuses, sorted by name.
func peerStates(plan bgp.Plan, sessions []speaker.Status) (out []snapshot.PeerState) {
	for _, st := range sessions {
		out = append(out, peerState(st))
	}
	for _, r := range plan.Refused {
		if r.Kind == "peer" {
			out = append(out, snapshot.PeerState{Name: r.Name, State: snapshot.PeerRefused, LastError: r.Refusal.String()})
		}
	}
	slices.SortFunc(out, func(a, b snapshot.PeerState) int { return strings.Compare(a.Name, b.Name) })
	return out
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

// membersCondition says how it stands with the other agents.
func membersCondition(view announcer.View) metav1.Condition {
	ok, reason, message := aboutMembers(view)
	c := metav1.Condition{Type: v1alpha1.ConditionMembers, Status: metav1.ConditionTrue, Reason: reason, Message: plain.Cut(message, 4096)}
	if !ok {
		c.Status = metav1.ConditionFalse
	}
	return c
}

// sinceWritten returns conditions with the times since when they have their status: those
// that were written last, or now.
func (a *Agent) sinceWritten(now time.Time, conditions ...metav1.Condition) []metav1.Condition {
	for i, c := range conditions {
		conditions[i].LastTransitionTime = metav1.NewTime(now.Truncate(time.Second)) // as the API server keeps it
		if was := meta.FindStatusCondition(a.report.writer.Written().Conditions, c.Type); was != nil && was.Status == c.Status {
			conditions[i].LastTransitionTime = was.LastTransitionTime
		}
	}
	return conditions
}

// mode is the name of what forwards.
func (a *Agent) mode() string {
	if a.engine.proxy == Fairlead {
		return a.cfg.Engine
	}
	return string(a.others.name())
}
