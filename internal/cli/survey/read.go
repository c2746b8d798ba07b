package survey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/pager"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/history/keep"
)

// The names by which the chart's pods and their Lease are found.
const (
	partLabel      = "app.kubernetes.io/part-of"
	componentLabel = "app.kubernetes.io/component"
	systemSpace    = "kube-system"
)

// processes selects the pods that are looked at, not those of a test or a hook.
const processes = partLabel + "=fairlead," + componentLabel + " in (controller,agent)"

// DefaultNamespace is where fairlead is looked for when it has no pods.
const DefaultNamespace = "fairlead-system"

// Objects is what was read of a cluster, as the API server returned it.
type Objects struct {
	All  []runtime.Object
	Gaps []cluster.Gap
	Now  time.Time
	// FromFiles says that they are manifests and not a cluster.
	FromFiles bool
	// Workloads are the pods of everybody that run: see ReadWorkloads.
	Workloads []cluster.Workload
}

// source is one list of objects.
type source struct {
	schema.GroupVersionResource
	labels   string
	required bool // without it there is nothing to say
	absent   bool // the kind may be unknown to the API server
	polled   bool // by Live, which may not watch it: the ClusterRole fairlead-support has no such right
}

func core(resource string) schema.GroupVersionResource {
	return corev1.SchemeGroupVersion.WithResource(resource)
}

func own(resource string) schema.GroupVersionResource {
	return v1alpha1.GroupVersion.WithResource(resource)
}

var leases = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}

var sources = []source{
	{GroupVersionResource: own("addresspools"), required: true},
	{GroupVersionResource: own("addresses"), required: true},
	{GroupVersionResource: own("announcements"), required: true},
	{GroupVersionResource: own("nodestates"), required: true},
	{GroupVersionResource: core("services"), required: true},
	{GroupVersionResource: schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}, required: true},
	{GroupVersionResource: core("nodes"), required: true},
	{GroupVersionResource: core("namespaces"), required: true},
	{GroupVersionResource: schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "servicecidrs"}, absent: true},
	{GroupVersionResource: own("bgppeers")},
	{GroupVersionResource: core("pods"), labels: processes},
	{GroupVersionResource: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}, polled: true},
	{GroupVersionResource: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, polled: true},
}

// ErrNotInstalled says that the API server does not know fairlead's kinds.
var ErrNotInstalled = errors.New("this cluster does not know fairlead's kinds: it is not installed here (helm install fairlead charts/fairlead -n fairlead-system), or the kubeconfig is another cluster's")

// Read lists the cluster. Gaps names what could not be read and is not needed.
func Read(ctx context.Context, client dynamic.Interface) (*Objects, error) {
	o := &Objects{}
	for _, s := range sources {
		err := o.list(ctx, client, s)
		switch {
		case err == nil, s.absent && apierrors.IsNotFound(err):
		case s.required && s.Group == v1alpha1.GroupVersion.Group && apierrors.IsNotFound(err):
			return nil, ErrNotInstalled
		case s.required && apierrors.IsForbidden(err):
			return nil, fmt.Errorf("%s: %w", unlisted(s.Resource), err)
		case s.required:
			return nil, fmt.Errorf("list %s: %w", s.Resource, err)
		default:
			o.gap(s.Resource, err)
		}
	}
	o.kubeProxy(ctx, client)
	o.lease(ctx, client)
	return o, nil
}

func (o *Objects) kubeProxy(ctx context.Context, client dynamic.Interface) {
	o.single(ctx, client, core("configmaps"), systemSpace, "kube-proxy")
}

// ReadHistory reads what the controller wrote down. It is for people who look back.
func (o *Objects) ReadHistory(ctx context.Context, client dynamic.Interface) {
	o.single(ctx, client, core("configmaps"), o.namespace(), keep.ConfigMap)
}

func (o *Objects) lease(ctx context.Context, client dynamic.Interface) {
	o.single(ctx, client, leases, o.namespace(), "fairlead-"+o.mode())
}

// ReadWorkloads lists the pods that run with an address of their own. They can be many,
// and few commands ask for them.
func (o *Objects) ReadWorkloads(ctx context.Context, client dynamic.Interface) {
	pods := pager.New(func(ctx context.Context, opt metav1.ListOptions) (runtime.Object, error) {
		return client.Resource(core("pods")).List(ctx, opt)
	})
	pods.PageSize = page
	running := metav1.ListOptions{FieldSelector: "status.phase=" + string(corev1.PodRunning)}
	err := pods.EachListItem(ctx, running, func(obj runtime.Object) error {
		u, ok := obj.(*unstructured.Unstructured)
		if !ok {
			return nil
		}
		p := &corev1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, p); err != nil {
			return fmt.Errorf("pod %s/%s: %w", u.GetNamespace(), u.GetName(), err)
		}
		if w, ok := workload(p); ok {
			o.Workloads = append(o.Workloads, w)
		}
		return nil
	})
	unread := slices.ContainsFunc(o.Gaps, func(g cluster.Gap) bool { return g.What == "pods" })
	if err != nil && !unread {
		o.gap("pods", err)
	}
}

func (o *Objects) gap(what string, err error) {
	o.Gaps = append(o.Gaps, cluster.Gap{What: what, Why: err.Error()})
}

// page is how many objects are asked for at once.
const page = 500

func (o *Objects) list(ctx context.Context, client dynamic.Interface, s source) error {
	lists := pager.New(func(ctx context.Context, opt metav1.ListOptions) (runtime.Object, error) {
		return client.Resource(s.GroupVersionResource).List(ctx, opt)
	})
	lists.PageSize = page
	return lists.EachListItem(ctx, metav1.ListOptions{LabelSelector: s.labels}, o.add)
}

// single reads one object that may not be there.
func (o *Objects) single(ctx context.Context, client dynamic.Interface, gvr schema.GroupVersionResource, namespace, name string) {
	obj, err := client.Resource(gvr).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return
	case err == nil:
		err = o.add(obj)
	}
	if err != nil {
		o.gap(gvr.Resource, err)
	}
}

// add takes in an object as the type that it is.
func (o *Objects) add(obj runtime.Object) error {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		o.All = append(o.All, obj)
		return nil
	}
	typed, err := Typed(u)
	if err != nil {
		return err
	}
	o.All = append(o.All, typed)
	return nil
}

// Typed returns u as the type that it is, without its managed fields.
func Typed(u *unstructured.Unstructured) (runtime.Object, error) {
	u.SetManagedFields(nil)
	typed, err := scheme.New(u.GroupVersionKind())
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, typed); err != nil {
		return nil, fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
	}
	typed.GetObjectKind().SetGroupVersionKind(u.GroupVersionKind())
	return typed, nil
}

// scheme knows every kind that is read.
var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := errors.Join(clientscheme.AddToScheme(s), v1alpha1.AddToScheme(s)); err != nil {
		panic(err) // a mistake in the kinds' own registration
	}
	return s
}()
