package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/saved"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
)

// A deleted DaemonSet means that fairlead is being removed, unless it is created again;
// another one means nothing.
func TestRemoval(t *testing.T) {
	set := func(name string) *appsv1.DaemonSet {
		return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "sys", Name: name}}
	}
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset(set("agents"), set("others"))
		sets := api.AppsV1().DaemonSets("sys")
		log := slog.New(slog.DiscardHandler)
		r := &removal{cfg: &Config{Namespace: "sys", DaemonSet: "agents", Clients: &kube.Clients{Kube: api}, Log: log}, changed: func() {}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		for _, step := range []struct {
			what string
			act  func() error
			want bool
		}{
			{"it is there", func() error { return nil }, false},
			{"another one is deleted", func() error { return sets.Delete(ctx, "others", metav1.DeleteOptions{}) }, false},
			{"it is deleted", func() error { return sets.Delete(ctx, "agents", metav1.DeleteOptions{}) }, true},
			{"it is created again", func() error {
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
			if got := r.removed.Load(); got != step.want {
				t.Errorf("%s: removed is %v", step.what, got)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A stop after the removal takes out what forwards and what was saved, if that was
// asked for, and leaves other files; any other stop takes nothing out.
func TestGoodbye(t *testing.T) {
	for _, row := range []struct {
		name           string
		removed, clean bool
		want           bool
	}{
		{"a restart", false, true, false},
		{"removed, and the rules are to stay", true, false, false},
		{"removed", true, true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, _ := newAgent(t, Full)
			kernel := a.cfg.Dataplane.(*dataplanetest.Fake).Kernel
			kernel.Set(&proxy.Table{NodePortAddrs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}})
			a.cfg.StateDir, a.cfg.CleanOnRemoval = t.TempDir(), row.clean
			for _, path := range append(append(saved.Paths(a.cfg.StateDir), keyPaths(a.cfg.StateDir)...), a.cfg.StateDir+"/other") {
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			a.removal.removed.Store(row.removed)
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // as it is at the end of Run
			if err := a.goodbye(ctx); err != nil {
				t.Fatal(err)
			}
			left, err := os.ReadDir(a.cfg.StateDir)
			if err != nil {
				t.Fatal(err)
			}
			if gone := kernel.Table() == nil; gone != row.want || (len(left) == 1) != row.want {
				t.Errorf("the rules are gone: %v, and %d files are left", gone, len(left))
			}
		})
	}
}
