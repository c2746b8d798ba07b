package agent

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// followDaemonSet learns whether the DaemonSet that runs the agents was deleted:
// a stop that follows is for good. One that is made anew takes that back, as when
// somebody replaces the DaemonSet and leaves its pods.
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

// goodbye withdraws every address if this stop is for good. Nobody would come to
// renew them, and the other agents are on their way out as well.
func (a *Agent) goodbye() error {
	if !a.removed.Load() {
		return nil
	}
	a.Log.Info("withdrawing every address: fairlead is being removed", "addresses", len(a.holder.Held()))
	_, err := a.holder.Sync(nil)
	return err
}
