package render

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// The stand-ins' addresses are from the documentation ranges.
var (
	standInClusterIP = netip.MustParseAddr("203.0.113.1")
	standInEndpoint  = netip.MustParseAddr("198.51.100.1")
	standInLease     = netip.MustParseAddr("192.0.2.129")
	standInLease6    = netip.MustParseAddr("2001:db8:3::1")
)

const (
	standInClusterIP6, standInNode6 = "2001:db8::1", "2001:db8:1::1"
	standInPrefix, standInULA       = "2001:db8:2::/64", "fd00:2::/64"
)

const firstNodePort = 30000

// standIns completes manifests with what a cluster would add: cluster IPs, node
// ports, one node, and an endpoint for every replica of a matching Deployment.
type standIns struct {
	all      []runtime.Object
	services []*corev1.Service
	deploys  []*appsv1.Deployment
	slices   map[string]bool // services that have EndpointSlices in the files
	nodes    []string
	leasing  []*v1alpha1.AddressPool
	selected map[string]string // labels of the nodes whose addresses a pool gives; nil: none gives them
	notes    []string
	nextIP   netip.Addr
	nextEP   netip.Addr
	// What DHCP servers would lease.
	nextLease, nextLease6 netip.Addr
	nextPort              int32
}

func newStandIns(objects []runtime.Object) *standIns {
	st := &standIns{all: objects, slices: map[string]bool{}, nextIP: standInClusterIP, nextEP: standInEndpoint, nextPort: firstNodePort, nextLease: standInLease, nextLease6: standInLease6}
	for _, o := range objects {
		if m, ok := o.(metav1.Object); ok && m.GetUID() == "" {
			m.SetUID(types.UID(m.GetNamespace() + "/" + m.GetName()))
		}
		switch o := o.(type) {
		case *corev1.Service:
			st.services = append(st.services, o)
		case *appsv1.Deployment:
			st.deploys = append(st.deploys, o)
		case *discoveryv1.EndpointSlice:
			st.slices[o.Namespace+"/"+o.Labels[discoveryv1.LabelServiceName]] = true
		case *corev1.Node:
			st.nodes = append(st.nodes, o.Name)
		case *v1alpha1.AddressPool:
			st.selects(o.Spec.NodeAddresses)
			st.prefix(o)
			if o.Spec.FromDHCP != nil && len(o.Status.Leases) == 0 {
				st.leasing = append(st.leasing, o)
			}
		}
	}
	return st
}

// objects returns the completed objects.
func (st *standIns) objects() []runtime.Object {
	out := st.all
	if len(st.nodes) == 0 {
		st.nodes = []string{"node-1"}
		st.note("node-1 stands in for the cluster's nodes")
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: st.selected},
			Status: corev1.NodeStatus{
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		}
		if st.selected != nil { // of both families: which ones the nodes have is not known here
			node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: standInNode6})
		}
		out = append(out, node)
	}
	for _, svc := range st.services {
		st.complete(svc)
		if slice := st.endpoints(svc); slice != nil {
			out = append(out, slice)
		}
	}
	for _, p := range st.leasing {
		st.leases(p)
	}
	return out
}

// leases has p have an address for each Service: what the DHCP server leases is not known
// here.
func (st *standIns) leases(p *v1alpha1.AddressPool) {
	for _, svc := range st.services {
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || len(p.Status.Leases) >= snapshot.MostLeases-1 {
			continue
		}
		for _, l := range []v1alpha1.PoolLease{{Family: corev1.IPv4Protocol, Address: st.nextLease.String()}, {Family: corev1.IPv6Protocol, Address: st.nextLease6.String()}} {
			if slices.Contains(p.Spec.FromDHCP.Families, l.Family) || len(p.Spec.FromDHCP.Families) == 0 && l.Family == corev1.IPv4Protocol {
				l.Namespace, l.Name, l.Client = svc.Namespace, svc.Name, string(svc.UID)
				p.Status.Leases = append(p.Status.Leases, l)
			}
		}
		st.nextLease, st.nextLease6 = st.nextLease.Next(), st.nextLease6.Next()
	}
	if n := len(p.Status.Leases); n > 0 {
		st.note("%s stands in for the first lease of pool %s", p.Status.Leases[0].Address, p.Name)
	}
}

// prefix has p know a prefix, if it follows one: which one the router announces is not
// known here.
func (st *standIns) prefix(p *v1alpha1.AddressPool) {
	if p.Spec.FromPrefix == nil || len(p.Status.Prefixes) > 0 {
		return
	}
	text := standInPrefix
	if p.Spec.FromPrefix.Scope == v1alpha1.PrefixUniqueLocal {
		text = standInULA
	}
	p.Status.Prefixes = []v1alpha1.PoolPrefix{{Prefix: text, State: v1alpha1.PrefixState(snapshot.PrefixCurrent)}}
	st.note("%s stands in for the prefix of pool %s", text, p.Name)
}

// selects has the node that stands in for all others be one of those that n selects.
func (st *standIns) selects(n *v1alpha1.NodeAddresses) {
	if n == nil {
		return
	}
	if st.selected == nil {
		st.selected = map[string]string{}
	}
	if n.NodeSelector == nil {
		return
	}
	maps.Copy(st.selected, n.NodeSelector.MatchLabels)
	for _, r := range n.NodeSelector.MatchExpressions {
		switch r.Operator {
		case metav1.LabelSelectorOpIn, metav1.LabelSelectorOpExists:
			st.selected[r.Key] = append(r.Values, "")[0]
		}
	}
}

func (st *standIns) note(format string, args ...any) {
	st.notes = append(st.notes, fmt.Sprintf(format, args...))
}

// dual gives svc a second cluster IP if it asks for both families: whether the cluster
// has both is not known here.
func (st *standIns) dual(svc *corev1.Service) {
	if p := svc.Spec.IPFamilyPolicy; p == nil || *p == corev1.IPFamilyPolicySingleStack {
		return
	}
	svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, standInClusterIP6)
	st.note("cluster IP %s stands in for the second one of %s/%s", standInClusterIP6, svc.Namespace, svc.Name)
	switch len(svc.Spec.IPFamilies) {
	case 0:
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	case 1:
		other := corev1.IPv6Protocol
		if svc.Spec.IPFamilies[0] == corev1.IPv6Protocol {
			other = corev1.IPv4Protocol
			slices.Reverse(svc.Spec.ClusterIPs)
			svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
		}
		svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, other)
	}
}

// complete defaults svc as the API server does.
func (st *standIns) complete(svc *corev1.Service) {
	if svc.Spec.Type == "" {
		svc.Spec.Type = corev1.ServiceTypeClusterIP
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return
	}
	if svc.Spec.ClusterIP == "" {
		svc.Spec.ClusterIP = st.nextIP.String()
		st.note("cluster IP %s stands in for %s/%s's", st.nextIP, svc.Namespace, svc.Name)
		st.nextIP = st.nextIP.Next()
	}
	if len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
		st.dual(svc)
	}
	if len(svc.Spec.IPFamilies) == 0 {
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	wantsPort := svc.Spec.Type == corev1.ServiceTypeNodePort ||
		svc.Spec.Type == corev1.ServiceTypeLoadBalancer && (svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts)
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		if wantsPort && p.NodePort == 0 {
			p.NodePort = st.nextPort
			st.note("node port %d stands in for %s/%s's", p.NodePort, svc.Namespace, svc.Name)
			st.nextPort++
		}
	}
}

// endpoints stands in for the EndpointSlice of svc: one endpoint for every
// replica of the Deployments that its selector matches.
func (st *standIns) endpoints(svc *corev1.Service) *discoveryv1.EndpointSlice {
	if len(svc.Spec.Selector) == 0 || st.slices[svc.Namespace+"/"+svc.Name] {
		return nil
	}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: svc.Namespace, Name: svc.Name, UID: types.UID(svc.Namespace + "/" + svc.Name),
		Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name},
	}}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	for _, d := range st.deploys {
		if d.Namespace != svc.Namespace || !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
			continue
		}
		slice.Ports = slicePorts(svc, d)
		replicas := int32(1)
		if d.Spec.Replicas != nil {
			replicas = *d.Spec.Replicas
		}
		for i := range min(replicas, 32) {
			node := st.nodes[int(i)%len(st.nodes)]
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{st.nextEP.String()}, NodeName: &node})
			st.nextEP = st.nextEP.Next()
		}
	}
	if len(slice.Endpoints) == 0 {
		return nil
	}
	st.note("%d endpoints stand in for the pods of %s/%s", len(slice.Endpoints), svc.Namespace, svc.Name)
	return slice
}

func slicePorts(svc *corev1.Service, d *appsv1.Deployment) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		number := p.Port
		switch {
		case p.TargetPort.Type == intstr.String:
			number = containerPort(d, p.TargetPort.StrVal)
		case p.TargetPort.IntVal != 0:
			number = p.TargetPort.IntVal
		}
		if number != 0 {
			out = append(out, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &number})
		}
	}
	return out
}

func containerPort(d *appsv1.Deployment, name string) int32 {
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == name {
				return p.ContainerPort
			}
		}
	}
	return 0
}

// nodeState stands in for the state of a node's agent: in sync, with one link
// that holds every pool's addresses.
func (st *standIns) nodeState(n *snapshot.Node, pools []*snapshot.Pool) *snapshot.NodeState {
	l := snapshot.Link{Name: "eth0"}
	for _, p := range pools {
		for _, r := range p.Ranges {
			l.Prefixes = append(l.Prefixes, r.Prefixes()...)
		}
	}
	return &snapshot.NodeState{Electable: snapshot.Electable{Node: n.Name, InSync: true, Links: []snapshot.Link{l}, Protocol: announcer.Protocol}}
}
