package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The API group and version of every kind in this package.
const (
	Group   = "fairlead.io"
	Version = "v1alpha1"
)

// GroupVersion is Group and Version as one value.
var GroupVersion = schema.GroupVersion{Group: Group, Version: Version}

// SchemeBuilder collects what AddToScheme registers.
var SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

// AddToScheme registers every kind of this package, and the List, Watch and
// Delete options of its version, with a scheme.
var AddToScheme = SchemeBuilder.AddToScheme

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&AddressPool{}, &AddressPoolList{},
		&Address{}, &AddressList{},
		&Announcement{}, &AnnouncementList{},
		&BGPPeer{}, &BGPPeerList{},
		&NodeState{}, &NodeStateList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
