package apitest

import (
	"context"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// object is what an API object is made of.
type object[T any] interface {
	metav1.Object
	runtime.Object
	DeepCopyObject() runtime.Object
}

// objects is all objects of one kind, by namespace/name. It implements
// kube.Objects for a cluster-scoped one.
type objects[T object[T], L any] struct {
	api     *API
	kind    schema.GroupResource
	all     map[string]T
	example T
	list    func() L // what a list call returns: the informers see nothing
}

func key(o metav1.Object) string { return o.GetNamespace() + "/" + o.GetName() }

func (s *objects[T, L]) Get(_ context.Context, name string, _ metav1.GetOptions) (T, error) {
	got, ok := s.all["/"+name]
	if !ok {
		var none T
		return none, apierrors.NewNotFound(s.kind, name)
	}
	return got.DeepCopyObject().(T), nil
}

func (s *objects[T, L]) List(context.Context, metav1.ListOptions) (L, error) { return s.list(), nil }

// Watch tells of nothing but, if asked, that there is nothing so far.
func (s *objects[T, L]) Watch(_ context.Context, opt metav1.ListOptions) (watch.Interface, error) {
	w := watch.NewFakeWithChanSize(1, false)
	if opt.SendInitialEvents != nil && *opt.SendInitialEvents {
		end := s.example.DeepCopyObject().(T)
		end.SetResourceVersion("1")
		end.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		w.Action(watch.Bookmark, end)
	}
	return w, nil
}

func (s *objects[T, L]) Create(_ context.Context, o T, _ metav1.CreateOptions) (T, error) {
	if _, there := s.all[key(o)]; there {
		return o, apierrors.NewAlreadyExists(s.kind, o.GetName())
	}
	return s.put(o), nil
}

func (s *objects[T, L]) Update(_ context.Context, o T, _ metav1.UpdateOptions) (T, error) {
	old, there := s.all[key(o)]
	switch {
	case !there:
		return o, apierrors.NewNotFound(s.kind, o.GetName())
	case old.GetResourceVersion() != o.GetResourceVersion() || old.GetUID() != o.GetUID():
		return o, apierrors.NewConflict(s.kind, o.GetName(), nil)
	}
	return s.put(o), nil
}

func (s *objects[T, L]) UpdateStatus(ctx context.Context, o T, opt metav1.UpdateOptions) (T, error) {
	return s.Update(ctx, o, opt)
}

func (s *objects[T, L]) Delete(_ context.Context, name string, opt metav1.DeleteOptions) error {
	old, there := s.all["/"+name]
	if !there {
		return apierrors.NewNotFound(s.kind, name)
	}
	if p := opt.Preconditions; p != nil && (*p.UID != old.GetUID() || *p.ResourceVersion != old.GetResourceVersion()) {
		return apierrors.NewConflict(s.kind, name, nil)
	}
	s.drop(old)
	return nil
}

// put takes o in as a new version and returns it.
func (s *objects[T, L]) put(o T) T {
	o = o.DeepCopyObject().(T)
	s.api.version++
	o.SetResourceVersion(strconv.Itoa(s.api.version))
	if o.GetUID() == "" {
		o.SetUID(types.UID("uid-" + o.GetResourceVersion()))
	}
	s.all[key(o)] = o
	s.api.tell(s.kind.Resource, key(o), o)
	return o.DeepCopyObject().(T)
}

func (s *objects[T, L]) drop(o T) {
	delete(s.all, key(o))
	s.api.tell(s.kind.Resource, key(o), nil)
	if s.api.Store != nil {
		s.api.Store.OnDelete(o)
	}
}
