package agent

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/reconcile"
)

// A deleted DaemonSet means that fairlead is being removed, unless it is made anew;
// another one means nothing.
func TestRemoval(t *testing.T) {
	set := func(name string) *appsv1.DaemonSet {
		return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "sys", Name: name}}
	}
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset(set("agents"), set("others"))
		sets := api.AppsV1().DaemonSets("sys")
		log := slog.New(slog.DiscardHandler)
		a := &Agent{
			Config: Config{Namespace: "sys", DaemonSet: "agents", Clients: &kube.Clients{Kube: api}, Log: log},
			loop:   reconcile.New("agent", log),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.followDaemonSet(ctx) }()
		for _, step := range []struct {
			what string
			act  func() error
			want bool
		}{
			{"it is there", func() error { return nil }, false},
			{"another one is deleted", func() error { return sets.Delete(ctx, "others", metav1.DeleteOptions{}) }, false},
			{"it is deleted", func() error { return sets.Delete(ctx, "agents", metav1.DeleteOptions{}) }, true},
			{"it is made anew", func() error {
				_, err := sets.Create(ctx, set("agents"), metav1.CreateOptions{})
				return err
			}, false},
			{"it waits for its pods", func() error {
				s := set("agents")
				s.DeletionTimestamp, s.Finalizers = &metav1.Time{}, []string{"foregroundDeletion"}
				*s.DeletionTimestamp = metav1.Now()
				_, err := sets.Update(ctx, s, metav1.UpdateOptions{})
				return err
			}, true},
		} {
			synctest.Wait()
			if err := step.act(); err != nil {
				t.Fatalf("%s: %v", step.what, err)
			}
			synctest.Wait()
			if got := a.removed.Load(); got != step.want {
				t.Errorf("%s: removed is %v", step.what, got)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
