package record_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/apitest"
)

// A BGPPeer says how many nodes have a session; it is written once for a change.
func TestPeers(t *testing.T) {
	api := apitest.New()
	b := kube.NewBuilder()
	w := &record.Writer{Clients: api.Clients, Store: kube.NewStore(api.Clients, func() {}), Log: slog.New(slog.DiscardHandler)}
	api.Store = w.Store
	_, err := api.Clients.BGPPeers.Create(t.Context(), &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "tor"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	up, down := snapshot.PeerState{Name: "tor", State: "Established"}, snapshot.PeerState{Name: "tor", State: "Active"}
	refused := snapshot.PeerState{Name: "tor", State: snapshot.PeerRefused, LastError: "BadTimers: too short"}
	other := snapshot.PeerState{Name: "spine", State: "Idle"}
	gone := []snapshot.Silent{{Node: "n0", Verdict: "node-gone"}} // as n1 and n2 see it
	for _, tc := range []struct {
		name  string
		nodes []*snapshot.NodeState
		want  string
	}{
		{"no node", []*snapshot.NodeState{{Peers: []snapshot.PeerState{other}}}, "False NoNode no node should have a session"},
		{"all", []*snapshot.NodeState{{Peers: []snapshot.PeerState{other, up}}, {Peers: []snapshot.PeerState{up}}}, "True Established 2 of 2 nodes have a session"},
		{"one without", []*snapshot.NodeState{{Peers: []snapshot.PeerState{up}}, {Peers: []snapshot.PeerState{down}}}, "False NotEstablished 1 of 2 nodes have a session, not n1"},
		{"refused", []*snapshot.NodeState{{Peers: []snapshot.PeerState{up}}, {Peers: []snapshot.PeerState{refused}}}, "False Refused n1: BadTimers: too short"},
		{
			"a node is lost", []*snapshot.NodeState{{Peers: []snapshot.PeerState{up}}, {Peers: []snapshot.PeerState{up}, Silent: gone}, {Peers: []snapshot.PeerState{up}, Silent: gone}},
			"False NotEstablished 2 of 3 nodes have a session, not n0",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			apply := func() *v1alpha1.BGPPeer {
				obj, err := api.Clients.BGPPeers.Get(t.Context(), "tor", metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				b.Set(obj)
				s := b.Snapshot()
				for i, st := range tc.nodes {
					st.Node = fmt.Sprintf("n%d", i)
					s.NodeStates = append(s.NodeStates, st)
				}
				if err := run(t, w.Peers(s, observe.Observe(s, time.Now()))); err != nil {
					t.Fatal(err)
				}
				obj, err = api.Clients.BGPPeers.Get(t.Context(), "tor", metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				return obj
			}
			c := meta.FindStatusCondition(apply().Status.Conditions, v1alpha1.ConditionReady)
			if c == nil || fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message) != tc.want {
				t.Errorf("got  %+v\nwant %s", c, tc.want)
			}
			if err := api.Quiet(func() error { apply(); return nil }); err != nil {
				t.Error(err)
			}
		})
	}
}
