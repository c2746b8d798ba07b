package kube

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// rosterWorld is an API server, a controller that may keep a roster in it, and a Store
// that follows the Nodes.
type rosterWorld struct {
	*testing.T
	api   *fake.Clientset
	store *Store
	stop  func()

	down    atomic.Bool  // the API server does not answer
	changes atomic.Int32 // that the Store told of
}

// begin makes the world with Nodes. roster are the Nodes in a roster that was renewed so
// long ago; none if there is no roster.
func begin(t *testing.T, nodes string, age time.Duration, roster string) *rosterWorld {
	w := &rosterWorld{T: t, api: fake.NewSimpleClientset()}
	w.api.PrependReactor("get", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		return w.down.Load(), nil, errors.New("no answer")
	})
	for _, n := range strings.Fields(nodes) {
		w.node(n)
	}
	if roster != "" {
		w.roster(roster, time.Now().Add(-age))
	}
	w.store = NewStore(&Clients{Kube: w.api}, func() { w.changes.Add(1) })
	w.store.synced = true
	source := newNodeSource(w.store, "lb")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); source.Run(ctx) }()
	w.stop = func() { cancel(); <-done }
	time.Sleep(rosterWithin + time.Second)
	synctest.Wait()
	if !source.synced() {
		t.Error("the Nodes are not known")
	}
	return w
}

// node makes or changes a Node: "a" or "a=label".
func (w *rosterWorld) node(text string) {
	w.Helper()
	name, label, _ := strings.Cut(text, "=")
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"l": label}}}
	_, err := w.api.CoreV1().Nodes().Update(context.Background(), n, metav1.UpdateOptions{})
	if err != nil {
		_, err = w.api.CoreV1().Nodes().Create(context.Background(), n, metav1.CreateOptions{})
	}
	if err != nil {
		w.Fatal(err)
	}
}

// roster writes a roster of these Nodes, the head last.
func (w *rosterWorld) roster(nodes string, at time.Time) {
	w.Helper()
	var list []*snapshot.Node
	for _, text := range strings.Fields(nodes) {
		name, label, _ := strings.Cut(text, "=")
		list = append(list, &snapshot.Node{Name: name, Labels: map[string]string{"l": label}})
	}
	parts, err := RosterOf(list)
	if err != nil {
		w.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		w.part(name, parts[name])
	}
	w.part(RosterHead, HeadOf(len(list), at))
}

func (w *rosterWorld) part(name string, data map[string]string) {
	w.Helper()
	all := w.api.CoreV1().ConfigMaps("lb")
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "lb", Name: name, Labels: map[string]string{RosterLabel: ""}}, Data: data}
	_, err := all.Update(context.Background(), cm, metav1.UpdateOptions{})
	if err != nil {
		_, err = all.Create(context.Background(), cm, metav1.CreateOptions{})
	}
	if err != nil {
		w.Fatal(err)
	}
}

// renew renews the head of a roster of so many Nodes for d.
func (w *rosterWorld) renew(nodes int, d time.Duration) {
	w.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(RosterEvery) {
		w.part(RosterHead, HeadOf(nodes, time.Now()))
	}
}

func (w *rosterWorld) drop(name string) {
	w.Helper()
	if err := w.api.CoreV1().ConfigMaps("lb").Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
}

// has checks which Nodes the Store has.
func (w *rosterWorld) has(want string) {
	w.Helper()
	synctest.Wait()
	var got []string
	for _, n := range w.store.Nodes() {
		text := n.Name
		if l := n.Labels["l"]; l != "" {
			text += "=" + l
		}
		got = append(got, text)
	}
	if g := strings.Join(got, " "); g != want {
		w.Errorf("the Store has %q, want %q", g, want)
	}
}

// asked checks whether anybody has watched the Nodes themselves since the last call.
func (w *rosterWorld) asked(want bool) {
	w.Helper()
	got := slices.ContainsFunc(w.api.Actions(), func(a clienttesting.Action) bool { return a.Matches("watch", "nodes") || a.Matches("list", "nodes") })
	if got != want {
		w.Errorf("the Nodes were read: %v, want %v", got, want)
	}
	w.api.ClearActions()
}

// nodeStories are what happens to a roster, by name.
var nodeStories = map[string]func(*testing.T) *rosterWorld{
	"no roster": func(t *testing.T) *rosterWorld {
		w := begin(t, "a b", 0, "")
		w.asked(true)
		w.has("a b")
		w.node("b=x")
		w.has("a b=x")
		return w
	},
	"a roster": func(t *testing.T) *rosterWorld {
		w := begin(t, "a b", time.Second, "a b=roster")
		w.has("a b=roster")
		w.roster("a=x b=roster", time.Now())
		w.has("a=x b=roster")
		w.roster("a=x b=roster c", time.Now())
		w.has("a=x b=roster c")
		w.renew(3, 10*time.Minute)
		w.has("a=x b=roster c")
		w.asked(false)
		return w
	},
	"an old roster": func(t *testing.T) *rosterWorld {
		w := begin(t, "a b", time.Hour, "a=old")
		w.has("a b")
		w.asked(true)
		time.Sleep(time.Hour)
		w.has("a b")
		w.roster("a b=roster", time.Now()) // a controller is there again
		w.has("a b=roster")
		w.node("b=x")
		w.has("a b=roster")
		return w
	},
	"the clock is wrong": func(t *testing.T) *rosterWorld {
		w := begin(t, "a b", -time.Hour, "a=roster b")
		w.has("a b")
		w.part(RosterHead, HeadOf(2, time.Now().Add(time.Hour+RosterEvery)))
		w.has("a=roster b")
		return w
	},
	"the controller is gone": func(t *testing.T) *rosterWorld {
		w := begin(t, "a b", time.Second, "a b")
		w.renew(2, 10*time.Minute)
		w.asked(false)
		w.node("b=x")
		w.has("a b")
		time.Sleep((rosterMisses-1)*RosterEvery - time.Second)
		w.asked(false)
		time.Sleep(9 * RosterEvery) // each look may be twice as late
		w.has("a b=x")
		w.asked(true)
		w.node("c")
		w.has("a b=x c")
		return w
	},
	"the API server is gone": func(t *testing.T) *rosterWorld {
		w := begin(t, "a b", time.Second, "a b")
		w.down.Store(true)
		time.Sleep(time.Hour)
		w.down.Store(false)
		time.Sleep(RosterEvery * 3 / 2) // less than it takes
		w.renew(2, 10*time.Minute)
		w.has("a b")
		w.asked(false)
		return w
	},
	"the API server hardly answers": func(t *testing.T) *rosterWorld {
		w := begin(t, "a b", time.Second, "a b")
		for range 30 { // no three looks in a row are answered
			w.down.Store(true)
			time.Sleep(3 * RosterEvery)
			w.down.Store(false)
			time.Sleep(RosterEvery * 3 / 2)
		}
		w.asked(false)
		return w
	},
	"a part is missing": func(t *testing.T) *rosterWorld {
		w := begin(t, "a b", time.Second, "a b c")
		parts, err := RosterOf([]*snapshot.Node{{Name: "c"}})
		if err != nil {
			t.Fatal(err)
		}
		for part := range parts {
			w.drop(part)
		}
		w.has("a b c") // nobody said that c is gone
		w.part(RosterHead, HeadOf(2, time.Now()))
		w.has("a b")
		return w
	},
	"the roster is given up": func(t *testing.T) *rosterWorld {
		w := begin(t, "a b", time.Second, "a b=roster")
		w.drop(RosterHead)
		time.Sleep(time.Second) // client-go looks ten times a second whether all is listed
		w.has("a b")
		w.asked(true)
		return w
	},
}

// Agents follow the roster while a controller keeps it, and the Nodes otherwise. They
// never have a part of the Nodes.
func TestNodeSource(t *testing.T) {
	for name, tell := range nodeStories {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { tell(t).stop() })
		})
	}
}

// A Store that switches from the roster to the Nodes and back is told nothing if both say
// the same.
func TestNodeSourceIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, "a b", time.Second, "a b")
		before := w.changes.Load()
		for range 3 {
			time.Sleep(time.Hour)
			w.renew(2, time.Minute)
		}
		w.asked(true)
		synctest.Wait()
		if n := w.changes.Load() - before; n != 0 {
			t.Errorf("told %d times that something changed", n)
		}
		w.stop()
	})
}
