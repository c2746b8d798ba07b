package keep

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/fairlead/fairlead/internal/history"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// A controller writes what it sees; one that follows it knows what was, and says what
// happened between the two. Nothing is written while nothing happens.
func TestSurvivesARestart(t *testing.T) {
	client := fake.NewSimpleClientset(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: ConfigMap}})
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(node string) *snapshot.Snapshot {
		vip := netip.MustParseAddr("192.0.2.1")
		st := &snapshot.NodeState{Electable: snapshot.Electable{Node: node, InSync: true}, Announces: []snapshot.Announced{{Addr: vip, Link: "eth0", Since: now}}}
		return &snapshot.Snapshot{Addresses: []*snapshot.Address{{Addr: vip, Holders: []snapshot.Holder{{Ref: snapshot.Ref{Namespace: "shop", Name: "web"}}}}}, NodeStates: []*snapshot.NodeState{st}}
	}
	first := &Keeper{Client: client, Namespace: "fairlead-system", Log: slog.New(slog.DiscardHandler)}
	step := func(k *Keeper) {
		t.Helper()
		if err := k.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	first.See(at("a"), now)
	step(first)
	second := &Keeper{Client: client, Namespace: "fairlead-system", Log: slog.New(slog.DiscardHandler)}
	second.See(at("b"), now.Add(time.Hour))
	step(second)
	second.See(at("b"), now.Add(2*time.Hour))
	before := len(client.Actions())
	step(second)
	if n := len(client.Actions()); n != before {
		t.Errorf("%d requests while nothing happens", n-before)
	}
	have, err := client.CoreV1().ConfigMaps("fairlead-system").Get(t.Context(), ConfigMap, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := history.Read(have.Data[Key]).Entries
	if len(got) != 1 || got[0].String() != "192.0.2.1 moved from a to b: a is no longer in the cluster" {
		t.Errorf("got %v", got)
	}
}

// A chart of an earlier version has no ConfigMap: nothing is kept, and nothing fails.
func TestNoConfigMap(t *testing.T) {
	k := &Keeper{Client: fake.NewSimpleClientset(), Namespace: "fairlead-system", Log: slog.New(slog.DiscardHandler)}
	k.See(&snapshot.Snapshot{}, time.Now())
	if err := k.Step(t.Context()); err != nil {
		t.Error(err)
	}
}
