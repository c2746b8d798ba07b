package record_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/apitest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const foreign = "02:00:00:00:00:99"

// What nodes find is written into the Address's status once: the last probe
// counts, and none of another assignment.
func TestFindings(t *testing.T) {
	api := apitest.New()
	b := kube.NewBuilder()
	w := &record.Writer{Clients: api.Clients, Store: kube.NewStore(api.Clients, func() {}), Log: slog.New(slog.DiscardHandler)}
	api.Store = w.Store
	obj, err := api.Clients.Addresses.Create(t.Context(), &v1alpha1.Address{
		ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.1"}, Spec: kube.FromAddress(snapshot.Address{Addr: ip1, Pool: "lan"}),
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	uid := string(obj.UID)
	for _, tc := range []struct {
		name  string
		found []snapshot.Finding // of one node each
		want  string
	}{
		{"nothing", nil, "probed false"},
		{"of another assignment", []snapshot.Finding{{Addr: ip1, UID: "other", ProbedAt: at(3), Conflict: foreign}}, "probed false"},
		{"a conflict", []snapshot.Finding{{Addr: ip1, UID: uid, ProbedAt: at(5), Conflict: foreign}}, "probed true 5 " + foreign + " Conflicting " + foreign + " answers for it, which is not a node of this cluster: it is not announced"},
		{"nobody tells of it any more", nil, "probed true 5 " + foreign + " Conflicting " + foreign + " answers for it, which is not a node of this cluster: it is not announced"},
		{"two nodes", []snapshot.Finding{{Addr: ip1, UID: uid, ProbedAt: at(9)}, {Addr: ip1, UID: uid, ProbedAt: at(7), Conflict: foreign}}, "probed true 9"},
		{"claimed", []snapshot.Finding{{Addr: ip1, UID: uid, Claimant: foreign}}, "probed true 9 Conflicting " + foreign + " claims it while it is announced, and is not a node of this cluster"},
		{"calm", nil, "probed true 9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			apply := func() {
				obj, err = api.Clients.Addresses.Get(t.Context(), "192.0.2.1", metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				b.Set(obj)
				s := b.Snapshot()
				for i, f := range tc.found {
					s.NodeStates = append(s.NodeStates, &snapshot.NodeState{Electable: snapshot.Electable{Node: fmt.Sprintf("n%d", i)}, Findings: []snapshot.Finding{f}})
				}
				works, more := w.Findings(s, observe.Observe(s, at(100)))
				if err := run(t, works); more || err != nil {
					t.Fatal(more, err)
				}
			}
			apply()
			if got := describe(t, api); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if err := api.Quiet(func() error { apply(); return nil }); err != nil {
				t.Error(err)
			}
		})
	}
}

// run does works, and returns the errors of all.
func run(t *testing.T, works []reconcile.Work) error {
	var errs []error
	for _, w := range works {
		errs = append(errs, w.Do(t.Context()))
	}
	return errors.Join(errs...)
}

func describe(t *testing.T, api *apitest.API) string {
	t.Helper()
	obj, err := api.Clients.Addresses.Get(t.Context(), "192.0.2.1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("probed %v", obj.Status.ProbedAt != nil)
	if obj.Status.ProbedAt != nil {
		out += fmt.Sprintf(" %d", obj.Status.ProbedAt.Unix())
	}
	if obj.Status.Conflict != "" {
		out += " " + obj.Status.Conflict
	}
	for _, c := range obj.Status.Conditions {
		out += " " + c.Type + " " + c.Message
	}
	return out
}
