package chores

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// fleet makes n Nodes.
func fleet(n int) (out []*snapshot.Node) {
	for i := range n {
		out = append(out, &snapshot.Node{Name: fmt.Sprintf("node-%03d", i), Ready: true})
	}
	return out
}

// relabelled returns nodes with another label on node i.
func relabelled(nodes []*snapshot.Node, i int, label string) []*snapshot.Node {
	out := slices.Clone(nodes)
	n := *out[i]
	n.Labels = map[string]string{"l": label}
	out[i] = &n
	return out
}

type rosterKeeper struct {
	*testing.T
	api   *fake.Clientset
	nodes []*snapshot.Node
	roster
}

func newRosterKeeper(t *testing.T) *rosterKeeper {
	k := &rosterKeeper{T: t, api: fake.NewSimpleClientset()}
	log := slog.New(slog.DiscardHandler)
	k.roster = roster{client: k.api, namespace: "lb", nodes: func() []*snapshot.Node { return k.nodes }, loop: NewRoster(log), log: log}
	return k
}

// writes keeps the roster of nodes, and returns what it wrote: the verbs, each with
// "head" or "part", one of those that follow each other.
func (k *rosterKeeper) writes(nodes []*snapshot.Node) string {
	k.Helper()
	k.nodes = nodes
	k.api.ClearActions()
	if err := k.keep(k.Context()); err != nil {
		k.Fatal(err)
	}
	var out []string
	for _, a := range k.api.Actions() {
		name := ""
		switch a := a.(type) {
		case clienttesting.CreateAction: // and an update
			name = a.GetObject().(*corev1.ConfigMap).Name
		case clienttesting.DeleteAction:
			name = a.GetName()
		default:
			continue
		}
		what := a.GetVerb() + " part"
		if name == kube.RosterHead {
			what = a.GetVerb() + " head"
		}
		if len(out) == 0 || out[len(out)-1] != what {
			out = append(out, what)
		}
	}
	return strings.Join(out, ", ")
}

// The roster is kept in a large cluster, and written when something changes: a change of
// one Node is one part, and the head is last where their number changes.
func TestRoster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newRosterKeeper(t)
		nodes := fleet(rosterFrom)
		other := relabelled(nodes, 7, "x")
		for _, step := range []struct {
			what  string
			nodes []*snapshot.Node
			after time.Duration
			want  string
		}{
			{"nothing is known yet", nil, 0, ""},
			{"a small cluster", fleet(rosterFrom - 1), 0, ""},
			{"a large one", nodes, 0, "create part, create head"},
			{"again", nodes, time.Second, ""},
			{"a list with the same", slices.Clone(nodes), time.Second, ""},
			{"another label", other, time.Second, "update part"},
			{"it is due", other, kube.RosterEvery, "update head"},
			{"a Node less", other[:rosterFrom-1], 0, "update part, update head"},
			{"another Node", other, time.Second, "update part, update head"},
			{"a cluster that shrinks", fleet(rosterUntil - 1), 0, "delete head, delete part"},
			{"and grows a little", fleet(rosterUntil), 0, ""},
		} {
			time.Sleep(step.after)
			if got := k.writes(step.nodes); got != step.want {
				t.Errorf("%s: wrote %q, want %q", step.what, got, step.want)
			}
		}
		list, err := k.api.CoreV1().ConfigMaps("lb").List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 0 {
			t.Errorf("%d ConfigMaps are left, %v", len(list.Items), err)
		}
	})
}

// What others do to the roster is repaired: within minutes, or with the next write.
func TestRosterRepaired(t *testing.T) {
	part := func(t *testing.T, k *rosterKeeper) *corev1.ConfigMap {
		list, err := k.api.CoreV1().ConfigMaps("lb").List(t.Context(), metav1.ListOptions{LabelSelector: kube.RosterLabel})
		if err != nil || len(list.Items) < 2 {
			t.Fatal(list, err)
		}
		return &list.Items[1] // the head sorts before the parts
	}
	update := func(t *testing.T, k *rosterKeeper, cm *corev1.ConfigMap) {
		if _, err := k.api.CoreV1().ConfigMaps("lb").Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, harm := range map[string]func(t *testing.T, k *rosterKeeper){
		"a part is deleted": func(t *testing.T, k *rosterKeeper) {
			if err := k.api.CoreV1().ConfigMaps("lb").Delete(t.Context(), part(t, k).Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		},
		"a part is changed": func(t *testing.T, k *rosterKeeper) {
			cm := part(t, k)
			cm.Data = map[string]string{"node-999": "{}"}
			update(t, k, cm)
		},
		"a part loses its label": func(t *testing.T, k *rosterKeeper) {
			cm := part(t, k)
			cm.Labels = nil
			update(t, k, cm)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newRosterKeeper(t)
				nodes := fleet(rosterFrom)
				k.writes(nodes)
				harm(t, k)
				time.Sleep(readRosterEvery + time.Second)
				k.writes(nodes)
				list, err := k.api.CoreV1().ConfigMaps("lb").List(t.Context(), metav1.ListOptions{LabelSelector: kube.RosterLabel})
				if err != nil {
					t.Fatal(err)
				}
				count := 0
				for _, cm := range list.Items {
					if cm.Name != kube.RosterHead {
						count += len(cm.Data)
					}
				}
				if count != rosterFrom {
					t.Errorf("%d Nodes, want %d", count, rosterFrom)
				}
			})
		})
	}
}

// A write that fails, as when another leader wrote before, is made again from what there
// is then.
func TestRosterConflict(t *testing.T) {
	k := newRosterKeeper(t)
	nodes := fleet(rosterFrom)
	k.writes(nodes)
	fails := true
	k.api.PrependReactor("update", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
		return fails, nil, apierrors.NewConflict(schema.GroupResource{Resource: "configmaps"}, "x", nil)
	})
	k.nodes = relabelled(nodes, 3, "x")
	if err := k.keep(context.Background()); !apierrors.IsConflict(err) {
		t.Errorf("the error is %v", err)
	}
	fails = false
	if got := k.writes(k.nodes); got != "update part, update head" {
		t.Errorf("then it wrote %q", got)
	}
}
