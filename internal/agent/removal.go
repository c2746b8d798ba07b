package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// followDaemonSet learns whether the DaemonSet that runs the agents was deleted:
// a stop that follows is for good. One that is made anew takes that back, as when
// somebody replaces the DaemonSet and leaves its pods. It also learns whether the
// next agent is to be without the Accelerator.
func (a *Agent) followDaemonSet(ctx context.Context) error {
	if a.DaemonSet == "" {
		return nil
	}
	byName := informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, a.DaemonSet).String()
	})
	sets := informers.NewSharedInformerFactoryWithOptions(a.Clients.Kube, 0, informers.WithNamespace(a.Namespace), byName).Apps().V1().DaemonSets().Informer()
	is := func(obj any) bool {
		o, ok := obj.(metav1.Object)
		return ok && o.GetName() == a.DaemonSet && o.GetNamespace() == a.Namespace
	}
	if _, err := sets.AddEventHandler(cache.FilteringResourceEventHandler{
		FilterFunc: func(obj any) bool {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			return is(obj)
		},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    a.takeDaemonSet,
			UpdateFunc: func(_, obj any) { a.takeDaemonSet(obj) },
			DeleteFunc: func(any) { a.remove(true) },
		},
	}); err != nil {
		return fmt.Errorf("informer: %w", err)
	}
	sets.Run(ctx.Done())
	return nil
}

func (a *Agent) takeDaemonSet(obj any) {
	o, ok := obj.(metav1.Object)
	a.remove(ok && o.GetDeletionTimestamp() != nil)
	if set, ok := obj.(*appsv1.DaemonSet); ok {
		a.slowed.Store(!accelerates(set))
	}
}

// remove keeps whether fairlead is being removed.
func (a *Agent) remove(removed bool) {
	if a.removed.Swap(removed) == removed {
		return
	}
	if removed {
		a.Log.Warn("the DaemonSet of the agents was deleted: a stop now is for good", "daemonset", a.Namespace+"/"+a.DaemonSet)
	}
	a.loop.Wake()
}

// drains tells whether this node is to hand over what it announces.
func (a *Agent) drains(n *snapshot.Node) bool { return drains(n) || a.removed.Load() }

// cleanFor is how long taking everything out may take: the kubelet kills a pod
// that does not end in 30 s.
const cleanFor = 15 * time.Second

// goodbye withdraws every address if this stop is for good. Nobody would come to
// renew them, and the other agents are on their way out as well. What forwards, and
// what was saved for the next agent, goes too if that was asked for. At any other
// stop only the Accelerator goes, if the next agent is to be without.
func (a *Agent) goodbye(ctx context.Context) error {
	if !a.removed.Load() {
		return a.decelerate()
	}
	a.Log.Info("withdrawing every address: fairlead is being removed", "addresses", len(a.holder.Held()))
	_, err := a.holder.Sync(nil)
	if !a.CleanOnRemoval {
		return err
	}
	a.Log.Info("taking the engine's rules and the saved state out: fairlead is being removed")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanFor)
	defer cancel()
	return errors.Join(err, a.Dataplane.Cleanup(ctx), forget(a.StateDir))
}

// forget deletes what agents keep in dir, and no other file.
func forget(dir string) error {
	if dir == "" {
		return nil
	}
	var errs []error
	for _, path := range []string{savedPath(dir), keysPath(dir)} {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
