package nodestate

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

var vips = []netip.Addr{
	netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12"), netip.MustParseAddr("192.0.2.13"),
}

// An address is announced since the same time as long as it stays on its link; what
// is known already is not overwritten.
func TestAnnouncedSince(t *testing.T) {
	at := func(sec int64) time.Time { return time.Unix(sec, 0) }
	now := []snapshot.Announced{{Addr: vips[0], Link: "eth0"}, {Addr: vips[1], Link: "eth0"}, {Addr: vips[2], Link: "eth1"}, {Addr: vips[3], Since: at(4)}}
	announcedSince(now, []snapshot.Announced{{Addr: vips[0], Link: "eth0", Since: at(1)}, {Addr: vips[2], Link: "eth0", Since: at(2)}, {Addr: vips[3], Since: at(3)}})
	for i, want := range []time.Time{at(1), {}, {}, at(4)} {
		if !now[i].Since.Equal(want) {
			t.Errorf("%s since %v, want %v", now[i].Addr, now[i].Since, want)
		}
	}
}

func everybody(string) bool { return true }
func nobody(string) bool    { return false }

// What other programs wait for is written at once. What changes with every pod waits
// for a while, so that a large cluster does not write once for each node; and a
// NodeState in which nothing changed is written once in ten minutes at most.
func TestWhen(t *testing.T) {
	base := v1alpha1.NodeStateStatus{
		Engine: v1alpha1.EngineState{InSync: true, Services: 3, Endpoints: 9}, AnnouncesCount: 2,
		Announces: []v1alpha1.AnnouncedAddress{{Address: "192.0.2.1", Link: "eth0"}, {Address: "192.0.2.2", Peers: 2}},
		Peers:     []v1alpha1.PeerState{{Name: "tor", State: "Established"}, {Name: "spine", State: "Active", LastError: "refused"}},
	}
	now := time.Unix(1000, 0)
	for _, tc := range []struct {
		name    string
		change  func(*v1alpha1.NodeStateStatus)
		witness func(string) bool
		nodes   int
		from    time.Duration // the earliest time of the write, after the change
		to      time.Duration // the latest
	}{
		{"nothing", func(*v1alpha1.NodeStateStatus) {}, everybody, 3, snapshot.RenewEvery - time.Minute, snapshot.RenewEvery * 3 / 2},
		{"nothing, in a large cluster", func(*v1alpha1.NodeStateStatus) {}, nobody, 1000, snapshot.RenewEvery - time.Minute, snapshot.RenewEvery * 3 / 2},
		{"the engine is behind", func(s *v1alpha1.NodeStateStatus) { s.Engine.InSync = false }, nobody, 1000, 0, 0},
		{"the node drains", func(s *v1alpha1.NodeStateStatus) { s.Draining = true }, nobody, 1000, 0, 0},
		{"a node fell silent", func(s *v1alpha1.NodeStateStatus) {
			s.Silent = []v1alpha1.SilentNode{{Node: "n2", Verdict: "node-gone"}}
		}, nobody, 1000, 0, 0},
		{"the node can direct", func(s *v1alpha1.NodeStateStatus) { s.Director = &v1alpha1.DirectorState{Able: true} }, nobody, 1000, 0, 0},
		{"an address moved", func(s *v1alpha1.NodeStateStatus) { s.Announces, s.AnnouncesCount = s.Announces[1:], 1 }, nobody, 1000, 0, 0},
		{"an address over BGP ended, at its witness", func(s *v1alpha1.NodeStateStatus) { s.Announces, s.AnnouncesCount = s.Announces[:1], 1 }, everybody, 1000, 0, 0},
		{"an address over BGP ended, elsewhere", func(s *v1alpha1.NodeStateStatus) { s.Announces, s.AnnouncesCount = s.Announces[:1], 1 }, nobody, 1000, 100 * time.Second, 200 * time.Second},
		{"a session ended", func(s *v1alpha1.NodeStateStatus) { s.Peers[0].State = "Idle" }, nobody, 1000, 0, 0},
		{"an attempt of a session failed", func(s *v1alpha1.NodeStateStatus) { s.Peers[1].State, s.Peers[1].LastError = "Connect", "timeout" }, nobody, 3, 5 * time.Second, 10 * time.Second},
		{"a pod came", func(s *v1alpha1.NodeStateStatus) { s.Engine.Endpoints++ }, everybody, 3, 5 * time.Second, 10 * time.Second},
		{"a pod came, in a large cluster", func(s *v1alpha1.NodeStateStatus) { s.Engine.LocalPods = &v1alpha1.LocalPods{RoutesCount: 1} }, everybody, 1000, 100 * time.Second, 200 * time.Second},
	} {
		var w when
		if at := w.next(base, tc.witness, tc.nodes, now); !at.Equal(now) {
			t.Errorf("%s: an agent that starts writes at %s", tc.name, at)
		}
		w.wrote(*base.DeepCopy(), now)
		changed := *base.DeepCopy()
		tc.change(&changed)
		later := now.Add(time.Minute)
		at := w.next(changed, tc.witness, tc.nodes, later)
		if after := at.Sub(later); after < tc.from || after > tc.to {
			t.Errorf("%s: written after %s, want %s to %s", tc.name, after, tc.from, tc.to)
		}
		if again := w.next(changed, tc.witness, tc.nodes, later.Add(time.Second)); tc.from > 0 && !again.Equal(at) {
			t.Errorf("%s: the time of the write moved from %s to %s", tc.name, at, again)
		}
	}
}

// All agents together write at most ten NodeStates a second about changes that nobody
// waits for, and two for renewals.
func TestWritesOfALargeCluster(t *testing.T) {
	const nodes = 1000
	if rate := nodes / (snapshot.WrittenWithin(nodes) / 2).Seconds(); rate > 10 {
		t.Errorf("%.1f soft writes a second", rate)
	}
	if rate := nodes / snapshot.RenewEvery.Seconds(); rate > 2 {
		t.Errorf("%.1f renewals a second", rate)
	}
}

func view(self string, members ...announcer.Member) announcer.View {
	return announcer.View{Node: self, Members: members}
}

// Of a lost node the witnesses speak, not all nodes. Of an agent that restarts nobody
// does, unless it takes long.
func TestSilent(t *testing.T) {
	now := time.Unix(1000, 0)
	said := map[string]int{}
	for self := range 50 {
		v := view(fmt.Sprintf("n%02d", self))
		for i := range 50 {
			m := announcer.Member{Node: fmt.Sprintf("n%02d", i), Since: now.Add(-time.Hour)}
			switch i {
			case 7:
				m.Verdict, m.Since = announcer.NodeGone, now.Add(-time.Second)
			case 8:
				m.Verdict, m.Since = announcer.AgentGone, now.Add(-RestartTakes/2)
			case 9:
				m.Verdict = announcer.AgentGone
			}
			v.Members = append(v.Members, m)
		}
		if self >= 7 && self <= 9 {
			continue // it does not run
		}
		for _, m := range Silent(v, now) {
			said[m.Node+" "+m.Verdict]++
		}
	}
	// n08 is one of the speakers, as it restarts, and may be one of the witnesses.
	for what, least := range map[string]int{"n07 node-gone": announcer.Witnesses - 1, "n09 agent-gone": announcer.Witnesses - 1} {
		if n := said[what]; n < least || n > announcer.Witnesses {
			t.Errorf("%d nodes say %s", n, what)
		}
		delete(said, what)
	}
	if len(said) > 0 {
		t.Errorf("they say too: %v", said)
	}
}

// The owner of an address reports its refusal. If the address has no owner, the witnesses
// do. Nodes do not report that another node is the owner.
func TestRefused(t *testing.T) {
	v := view("n1", announcer.Member{Node: "n1"}, announcer.Member{Node: "n2"})
	refused := func(i int, owner string, reason snapshot.Reason) announcer.Refused {
		return announcer.Refused{Addr: vips[i], Owner: owner, Refusal: snapshot.Refusal{Reason: reason}}
	}
	got := Refused(v, []announcer.Refused{
		refused(0, "n2", announcer.NotOwner), refused(1, "n1", announcer.EngineNotReady), refused(2, "n2", announcer.AddressConflict), refused(3, "", announcer.NoEndpoint),
	}, time.Unix(1000, 0))
	if len(got) != 2 || got[0].Addr != vips[1] || got[1].Addr != vips[3] {
		t.Errorf("got %v", got)
	}
}

// api holds one NodeState as an API server does.
type api struct {
	obj    *v1alpha1.NodeState
	writes int
	reads  int
}

var resource = schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "nodestates"}

func (a *api) Get(_ context.Context, name string, _ metav1.GetOptions) (*v1alpha1.NodeState, error) {
	a.reads++
	if a.obj == nil {
		return nil, apierrors.NewNotFound(resource, name)
	}
	return a.obj.DeepCopy(), nil
}

func (a *api) Create(_ context.Context, obj *v1alpha1.NodeState, _ metav1.CreateOptions) (*v1alpha1.NodeState, error) {
	a.writes++
	a.obj = obj.DeepCopy()
	a.obj.ResourceVersion = fmt.Sprint(a.writes)
	return a.obj.DeepCopy(), nil
}

func (a *api) UpdateStatus(_ context.Context, obj *v1alpha1.NodeState, _ metav1.UpdateOptions) (*v1alpha1.NodeState, error) {
	switch {
	case a.obj == nil:
		return nil, apierrors.NewNotFound(resource, obj.Name)
	case obj.ResourceVersion != a.obj.ResourceVersion:
		return nil, apierrors.NewConflict(resource, obj.Name, nil)
	}
	a.writes++
	a.obj = obj.DeepCopy()
	a.obj.ResourceVersion = fmt.Sprint(a.writes)
	return a.obj.DeepCopy(), nil
}

// The API server is asked for the object once, and told of changes alone. What another
// one wrote or deleted is written again with the next attempt.
func TestWriter(t *testing.T) {
	server := &api{}
	installation := metav1.OwnerReference{APIVersion: "v1", Kind: "Namespace", Name: "lb", UID: "1"}
	w := Writer{Client: server, Node: "n1", Owner: func(context.Context) *metav1.OwnerReference { return &installation }}
	write := func(st snapshot.NodeState) error {
		t.Helper()
		again, err := w.Write(t.Context(), st, nil, []string{"n1"})
		if err == nil && time.Until(again) < 2*time.Second {
			t.Errorf("to be called again in %s", time.Until(again))
		}
		return err
	}
	st := snapshot.NodeState{Electable: snapshot.Electable{Node: "n1", InSync: true}, Announces: []snapshot.Announced{{Addr: vips[0], Link: "eth0"}}}
	for range 3 {
		st.Announces[0].Since = time.Time{}
		if err := write(st); err != nil {
			t.Fatal(err)
		}
	}
	if server.writes != 2 || server.reads != 1 { // Create, UpdateStatus
		t.Errorf("%d writes and %d reads", server.writes, server.reads)
	}
	if o := server.obj.OwnerReferences; len(o) != 1 || o[0] != installation {
		t.Errorf("it is owned by %v", o)
	}
	st.Draining = true
	if err := write(st); err != nil || server.writes != 3 || server.reads != 1 || !server.obj.Status.Draining {
		t.Errorf("%d writes and %d reads, %v", server.writes, server.reads, err)
	}
	// Without a change of the node's, a deletion is noticed too.
	server.obj = nil
	if _, err := w.writeAt(t.Context(), st, nil, []string{"n1"}, time.Now().Add(2*checkEvery)); err != nil || server.obj == nil || !server.obj.Status.Draining {
		t.Errorf("it was not written again: %v", err)
	}
	writes := server.writes
	if _, err := w.writeAt(t.Context(), st, nil, []string{"n1"}, time.Now().Add(4*checkEvery)); err != nil || server.writes != writes {
		t.Errorf("it was written although it is as it was: %v", err)
	}
	server.obj = nil
	st.Draining = false
	if err := write(st); err == nil {
		t.Error("an object that is gone was written")
	}
	if err := write(st); err != nil || server.obj.Status.Draining {
		t.Error(err)
	}
}
