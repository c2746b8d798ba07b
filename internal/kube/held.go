package kube

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// identity is what is held of an object's metadata. An API object's own takes ten times the
// memory, and a large cluster has a hundred thousand objects.
type identity struct {
	metav1.Object // nil: nobody asks for more than the methods below
	ref           snapshot.Ref
	uid           types.UID
	version       string
}

func identityOf(o metav1.Object) identity {
	return identity{ref: snapshot.Ref{Namespace: intern(o.GetNamespace()), Name: o.GetName()}, uid: o.GetUID(), version: o.GetResourceVersion()}
}

// GetNamespace, GetName, GetUID and GetResourceVersion are what informers and a Builder
// ask an object for.
func (m *identity) GetNamespace() string       { return m.ref.Namespace }
func (m *identity) GetName() string            { return m.ref.Name }
func (m *identity) GetUID() types.UID          { return m.uid }
func (m *identity) GetResourceVersion() string { return m.version }

// item is what is held of an object of one kind. value is nil if the object cannot be
// read.
type item[T any] struct {
	identity
	value *T
}

func itemOf[T any](o metav1.Object, value *T) *item[T] { return &item[T]{identityOf(o), value} }

// service is what is held of a Service. The Endpoints of value do not count.
type service struct {
	item[snapshot.Service]
	obj *corev1.Service // nil if the Builder is lean
}

// part is what is held of an EndpointSlice.
type part struct {
	item[snapshot.Ref] // the Service that it belongs to; nil if none
	endpoints          []snapshot.Endpoint
	total              int                        // how many the slice has, which is more than the budget at times
	unread             *discoveryv1.EndpointSlice // until endpoints are made of it, which takes long for a large one
	trigger            string                     // when its pods changed, as its controller noted it; "" once the Builder has it
}

// reduce returns what a Builder holds of obj: one of the types above. Of other kinds it
// returns obj itself. It may be called in any goroutine.
func (b *Builder) reduce(obj any) any {
	switch o := obj.(type) {
	case *corev1.Service:
		o = withinNotes(o)
		out := &service{item: item[snapshot.Service]{identityOf(o), toService(o, b.lean)}}
		out.value.Ref = out.ref
		if !b.lean {
			out.obj = o
		}
		return out
	case *discoveryv1.EndpointSlice:
		return toPart(o)
	case *corev1.Node:
		return itemOf(o, toNode(o))
	case *corev1.Namespace:
		return itemOf(o, toNamespace(o))
	case *networkingv1.ServiceCIDR:
		return itemOf(o, toServiceCIDR(o))
	case *v1alpha1.AddressPool:
		return itemOf(o, toPool(o))
	case *v1alpha1.Announcement:
		return itemOf(o, toAnnouncement(o))
	case *v1alpha1.NodeState:
		return itemOf(o, decisive(ToNodeState(o)))
	case *v1alpha1.BGPPeer:
		return itemOf(o, toBGPPeer(o))
	case *v1alpha1.Address:
		return itemOf(o, toAddress(o))
	}
	return obj
}

func toPart(sl *discoveryv1.EndpointSlice) *part {
	out := &part{item: item[snapshot.Ref]{identity: identityOf(sl)}, trigger: sl.Annotations[corev1.EndpointsLastChangeTriggerTime]}
	name := sl.Labels[discoveryv1.LabelServiceName]
	if _, headless := sl.Labels[corev1.IsHeadlessService]; headless || name == "" {
		return out
	}
	out.value = &snapshot.Ref{Namespace: out.ref.Namespace, Name: name}
	if out.total = len(sl.Endpoints) * len(sl.Ports); out.total > paceFree {
		out.unread = sl // its Service may be held back
	} else {
		out.endpoints = toEndpoints(sl)
	}
	return out
}
