package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/saved"
)

// removal is whether fairlead is being removed from the cluster, and whether the
// next agent is to be without the Accelerator.
type removal struct {
	cfg     *Config
	changed func()

	removed          atomic.Bool
	endsAcceleration atomic.Bool // the next agent is to be without the Accelerator
	endsDirector     atomic.Bool // the next agent is to be without the Director
}

// Run learns whether the DaemonSet that runs the agents was deleted: then this agent will
// not be followed by another. One that is created again takes that back, as when somebody
// replaces the DaemonSet and leaves its pods. It also learns whether the next agent will
// run without the Accelerator.
func (r *removal) Run(ctx context.Context) error {
	if r.cfg.DaemonSet == "" {
		return nil
	}
	byName := informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, r.cfg.DaemonSet).String()
	})
	sets := informers.NewSharedInformerFactoryWithOptions(r.cfg.Clients.Kube, 0, informers.WithNamespace(r.cfg.Namespace), byName).Apps().V1().DaemonSets().Informer()
	is := func(obj any) bool {
		o, ok := obj.(metav1.Object)
		return ok && o.GetName() == r.cfg.DaemonSet && o.GetNamespace() == r.cfg.Namespace
	}
	if _, err := sets.AddEventHandler(cache.FilteringResourceEventHandler{
		FilterFunc: func(obj any) bool {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			return is(obj)
		},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    r.takeDaemonSet,
			UpdateFunc: func(_, obj any) { r.takeDaemonSet(obj) },
			DeleteFunc: func(any) { r.remove(true) },
		},
	}); err != nil {
		return fmt.Errorf("informer: %w", err)
	}
	sets.Run(ctx.Done())
	return nil
}

func (r *removal) takeDaemonSet(obj any) {
	o, ok := obj.(metav1.Object)
	// A deletion in the foreground leaves the object until its pods are gone.
	r.remove(ok && o.GetDeletionTimestamp() != nil)
	if set, ok := obj.(*appsv1.DaemonSet); ok {
		r.endsAcceleration.Store(flagOf(set, "--accelerate=") != "auto")
		r.endsDirector.Store(flagOf(set, "--director=") != "auto")
	}
}

// remove keeps whether fairlead is being removed.
func (r *removal) remove(removed bool) {
	if r.removed.Swap(removed) == removed {
		return
	}
	if removed {
		r.cfg.Log.Warn("the agents' DaemonSet was deleted: this agent will clean up when it stops", "daemonset", r.cfg.Namespace+"/"+r.cfg.DaemonSet)
	}
	r.changed()
}

// cleanFor is how long taking everything out may take: the kubelet kills a pod
// that does not end in 30 s.
const cleanFor = 15 * time.Second

// goodbye withdraws every address if this stop is for good. Nobody would come to
// renew them, and the other agents are on their way out as well. What forwards, and
// what was saved for the next agent, goes too if that was asked for. At any other
// stop only the Accelerator goes, if the next agent is to be without.
func (a *Agent) goodbye(ctx context.Context) error {
	if !a.removal.removed.Load() {
		return errors.Join(a.removeAccelerator(), a.removeDirector())
	}
	held, _ := a.layer2.Held()
	a.cfg.Log.Info("withdrawing every address: fairlead is being removed", "addresses", len(held))
	_, err := a.layer2.leases.Sync(announcer.Set{})
	if !a.cfg.CleanOnRemoval {
		return err
	}
	a.cfg.Log.Info("taking the engine's rules and the saved state out: fairlead is being removed")
	// ctx has ended: that is why the agent stops.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanFor)
	defer cancel()
	err = errors.Join(err, a.ways.end())
	if a.cfg.Assist != nil {
		err = errors.Join(err, a.cfg.Assist.Cleanup())
	}
	if a.cfg.Gate != nil {
		err = errors.Join(err, a.cfg.Gate.Cleanup())
	}
	if a.cfg.Egress != nil {
		err = errors.Join(err, a.cfg.Egress.Cleanup())
	}
	if a.cfg.Strays != nil {
		err = errors.Join(err, a.cfg.Strays.Cleanup())
	}
	if a.cfg.Direct.Remove != nil {
		_, errDirector := a.cfg.Direct.Remove()
		err = errors.Join(err, errDirector)
	}
	return errors.Join(err, a.cfg.Dataplane.Cleanup(ctx), forget(a.cfg.StateDir))
}

// forget deletes what agents keep in dir, and no other file.
func forget(dir string) error {
	if dir == "" {
		return nil
	}
	var errs []error
	for _, path := range append(append(saved.Paths(dir), keyPaths(dir)...), neighboursPath(dir)) {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
