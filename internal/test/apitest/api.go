package apitest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
)

// API is the server. It is not safe for concurrent use but for the writes of its
// clients.
type API struct {
	Clients   *kube.Clients
	Store     *kube.Store // of the program under test; set it before Start
	mu        sync.Mutex
	version   int
	followers []*Follower
	kinds     []kind

	services   *objects[*corev1.Service, any]
	slices     *objects[*discoveryv1.EndpointSlice, any]
	nodes      *objects[*corev1.Node, any]
	namespaces *objects[*corev1.Namespace, any]
	cidrs      *objects[*networkingv1.ServiceCIDR, any]
	pools      *objects[*v1alpha1.AddressPool, *v1alpha1.AddressPoolList]
	addresses  *objects[*v1alpha1.Address, *v1alpha1.AddressList]
	nodeStates *objects[*v1alpha1.NodeState, *v1alpha1.NodeStateList]
	announced  *objects[*v1alpha1.Announcement, *v1alpha1.AnnouncementList]
	peers      *objects[*v1alpha1.BGPPeer, *v1alpha1.BGPPeerList]
}

// New makes an empty API server.
func New() *API {
	a := &API{}
	a.services = kindOf(a, "services", &corev1.Service{}, func() any { return nil })
	a.slices = kindOf(a, "endpointslices", &discoveryv1.EndpointSlice{}, func() any { return nil })
	a.nodes = kindOf(a, "nodes", &corev1.Node{}, func() any { return nil })
	a.namespaces = kindOf(a, "namespaces", &corev1.Namespace{}, func() any { return nil })
	a.cidrs = kindOf(a, "servicecidrs", &networkingv1.ServiceCIDR{}, func() any { return nil })
	a.pools = kindOf(a, "addresspools", &v1alpha1.AddressPool{}, func() *v1alpha1.AddressPoolList { return &v1alpha1.AddressPoolList{} })
	a.addresses = kindOf(a, "addresses", &v1alpha1.Address{}, func() *v1alpha1.AddressList { return &v1alpha1.AddressList{} })
	a.nodeStates = kindOf(a, "nodestates", &v1alpha1.NodeState{}, func() *v1alpha1.NodeStateList { return &v1alpha1.NodeStateList{} })
	a.announced = kindOf(a, "announcements", &v1alpha1.Announcement{}, func() *v1alpha1.AnnouncementList { return &v1alpha1.AnnouncementList{} })
	a.peers = kindOf(a, "bgppeers", &v1alpha1.BGPPeer{}, func() *v1alpha1.BGPPeerList { return &v1alpha1.BGPPeerList{} })
	a.Clients = a.Connect(nil)
	return a
}

// Fault is asked before every write of a client. The write fails with before and is
// not made, or is made and reported as failed with after.
type Fault func() (before, after error)

// Connect returns more clients of the server. fault may be nil.
func (a *API) Connect(fault Fault) *kube.Clients {
	if fault == nil {
		fault = func() (before, after error) { return nil, nil }
	}
	core := fake.NewSimpleClientset()
	core.Resources = []*metav1.APIResourceList{{GroupVersion: networkingv1.SchemeGroupVersion.String()}}
	core.PrependWatchReactor("*", func(clienttesting.Action) (bool, watch.Interface, error) { return true, watch.NewFake(), nil })
	core.PrependReactor("get", "services", a.getService)
	core.PrependReactor("update", "services", faulty(fault, a.updateService))
	core.PrependReactor("patch", "services", faulty(fault, a.patchService))
	return &kube.Clients{
		Kube: core, Pools: lock(a.pools, fault), Addresses: lock(a.addresses, fault), Announcements: lock(a.announced, fault),
		NodeStates: lock(a.nodeStates, fault), BGPPeers: lock(a.peers, fault),
	}
}

// faulty asks fault before f.
func faulty(fault Fault, f clienttesting.ReactionFunc) clienttesting.ReactionFunc {
	return func(action clienttesting.Action) (bool, runtime.Object, error) {
		before, after := fault()
		if before != nil {
			return true, nil, before
		}
		handled, obj, err := f(action)
		if err == nil {
			err = after
		}
		return handled, obj, err
	}
}

func kindOf[T object[T], L any](a *API, resource string, example T, list func() L) *objects[T, L] {
	o := &objects[T, L]{api: a, kind: schema.GroupResource{Resource: resource}, all: map[string]T{}, list: list, example: example}
	a.kinds = append(a.kinds, o)
	return o
}

// Start lets the Store list the empty cluster. What is changed from now on goes
// to it directly.
func (a *API) Start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- a.Store.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	deadline := time.After(10 * time.Second)
	for !a.Store.Synced() {
		select {
		case <-deadline:
			t.Fatal("the Store has not listed an empty cluster")
		case <-time.After(time.Millisecond):
		}
	}
}

func (a *API) getService(action clienttesting.Action) (bool, runtime.Object, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	get := action.(clienttesting.GetAction)
	svc, there := a.services.all[get.GetNamespace()+"/"+get.GetName()]
	if !there {
		return true, nil, apierrors.NewNotFound(a.services.kind, get.GetName())
	}
	return true, svc.DeepCopy(), nil
}

func (a *API) updateService(action clienttesting.Action) (bool, runtime.Object, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	svc := action.(clienttesting.UpdateAction).GetObject().(*corev1.Service)
	got, err := a.services.Update(context.Background(), svc, metav1.UpdateOptions{})
	return true, got, err
}

// patchService knows the one patch that is used: of the finalizers.
func (a *API) patchService(action clienttesting.Action) (bool, runtime.Object, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	patch := action.(clienttesting.PatchAction)
	var wanted struct {
		Metadata struct {
			Finalizers      []string `json:"finalizers"`
			ResourceVersion string   `json:"resourceVersion"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(patch.GetPatch(), &wanted); err != nil {
		return true, nil, fmt.Errorf("patch: %w", err)
	}
	svc, there := a.services.all[patch.GetNamespace()+"/"+patch.GetName()]
	if !there {
		return false, nil, nil // the tracker below has none either
	}
	svc = svc.DeepCopy()
	svc.Finalizers, svc.ResourceVersion = wanted.Metadata.Finalizers, wanted.Metadata.ResourceVersion
	if svc.DeletionTimestamp != nil && len(svc.Finalizers) == 0 {
		a.services.drop(svc)
		return true, svc, nil
	}
	got, err := a.services.Update(context.Background(), svc, metav1.UpdateOptions{})
	return true, got, err
}

// Quiet calls act and returns an error if it wrote anything.
func (a *API) Quiet(act func() error) error {
	before := a.version
	if err := act(); err != nil {
		return err
	}
	if a.version != before {
		return fmt.Errorf("%d writes where nothing had changed", a.version-before)
	}
	return nil
}
