package forwarding

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/e2e/apiserver"
)

// Where the endpoints and the VIPs of a Crowd are, and the node's addresses of the
// second family.
const (
	crowdCIDR4, crowdCIDR6 = "10.128.0.0/9", "fd98:20::/64"
	crowdVIPs4, crowdVIPs6 = "198.19.0.0/17", "fd98:19::/64"
	nodeLAN6, nodeLink6    = "fd98:18::b", "fd98:18:1::1"
	podLink6               = "fd98:18:1::2"
)

// widen brings the second family and the addresses of a Crowd's endpoints.
func (w *world) widen(ctx context.Context) error {
	for _, one := range []struct {
		in       space
		commands []string
	}{
		{w.node, []string{
			"addr add " + nodeLAN6 + "/64 dev eth0 nodad", "addr add " + nodeLink6 + "/64 dev pods nodad",
			"route add " + crowdCIDR4 + " via " + podLink, "route add " + crowdCIDR6 + " via " + podLink6,
		}},
		{w.pods, []string{
			"addr add " + podLink6 + "/64 dev eth0 nodad", "route add default via " + nodeLink6,
			"route add local " + crowdCIDR4 + " dev lo", "route add local " + crowdCIDR6 + " dev lo",
		}},
	} {
		if err := one.in.ip(ctx, one.commands...); err != nil {
			return err
		}
	}
	return nil
}

// offset returns the n-th address after the first one of a CIDR.
func offset(cidr string, n int) netip.Addr {
	a := netip.MustParsePrefix(cidr).Addr().AsSlice()
	for i, n := len(a)-1, n+1; n > 0; i-- {
		n += int(a[i])
		a[i], n = byte(n), n>>8
	}
	out, _ := netip.AddrFromSlice(a)
	return out
}

// crowd makes the Services of a Crowd, and the moving one another of the kind.
func (c *cluster) crowd(ctx context.Context, api *apiserver.Server, crowd Crowd) error {
	another := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "another", Labels: map[string]string{corev1.LabelHostname: "another"}}}
	if _, err := c.client.CoreV1().Nodes().Create(ctx, another, metav1.CreateOptions{}); err != nil {
		return err
	}
	if crowd.Balanced {
		if err := c.balance(ctx, crowd.Services+1); err != nil {
			return err
		}
	}
	p := planter{of: crowd, taken: c.moving.Spec.ClusterIPs}
	for i := range crowd.Services {
		c.services = append(c.services, p.service(i))
		if p.err != nil {
			return p.err
		}
		if len(p.objects) > 1000 || i == crowd.Services-1 {
			if err := api.Plant(ctx, p.objects); err != nil {
				return err
			}
			p.objects = nil
		}
	}
	if crowd.Balanced {
		_, addrs := crowdVIPs(0)
		c.outside = []netip.AddrPort{c.nodePort(), netip.AddrPortFrom(addrs[0], 80)}
	}
	return nil
}

// balance makes the moving Service one with the i-th VIPs.
func (c *cluster) balance(ctx context.Context, i int) error {
	if err := c.pools(ctx); err != nil {
		return err
	}
	services, both := c.client.CoreV1().Services(namespace), corev1.IPFamilyPolicyRequireDualStack
	c.moving.Spec.Type, c.moving.Spec.IPFamilyPolicy = corev1.ServiceTypeLoadBalancer, &both
	c.moving.Spec.Ports[0].NodePort = lastNodePort
	svc, err := services.Update(ctx, c.moving, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	for _, record := range records(svc, i) {
		if _, err := c.own.Addresses.Create(ctx, record, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	svc.Status.LoadBalancer.Ingress = ingress(i)
	c.moving, err = services.UpdateStatus(ctx, svc, metav1.UpdateOptions{})
	return err
}

// pools makes two pools: one in ten VIPs is of the first, which this node announces.
// The other one is another node's, as in a cluster of ten nodes.
func (c *cluster) pools(ctx context.Context) error {
	for i, name := range []string{"here", "there"} {
		pool := &v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"at": name}}}
		for _, cidr := range []string{crowdVIPs4, crowdVIPs6} {
			first := netip.MustParsePrefix(cidr).Addr()
			if i == 1 {
				first = offset(cidr, thereFrom-1)
			}
			pool.Spec.Addresses = append(pool.Spec.Addresses, netip.PrefixFrom(first, first.BitLen()-poolBits).String())
		}
		if _, err := c.own.Pools.Create(ctx, pool, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	selects := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	_, err := c.own.Announcements.Create(ctx, &v1alpha1.Announcement{
		ObjectMeta: metav1.ObjectMeta{Name: "there"},
		Spec:       v1alpha1.AnnouncementSpec{PoolSelector: selects("at", "there"), NodeSelector: selects(corev1.LabelHostname, "another"), L2: &v1alpha1.L2Announcement{}},
	}, metav1.CreateOptions{})
	return err
}

// A pool of a Crowd has 1<<poolBits addresses of each family. The second one begins at
// thereFrom.
const (
	poolBits  = 14
	thereFrom = 1 << poolBits
)

// crowdVIPs returns the i-th Service's VIPs, and their pool.
func crowdVIPs(i int) (pool string, addrs [2]netip.Addr) {
	pool, n := "there", thereFrom+i
	if i%10 == 0 {
		pool, n = "here", i
	}
	return pool, [2]netip.Addr{offset(crowdVIPs4, n), offset(crowdVIPs6, n)}
}

// planter makes what etcd holds of a Crowd.
type planter struct {
	of      Crowd
	taken   []string // cluster IPs that are another Service's
	objects []apiserver.Object
	err     error
}

// Where planted Services have their cluster IPs and node ports: the API server has given
// none of them.
const (
	clusterCIDR4, clusterCIDR6  = "10.96.0.0/16", "fd00:96::/112"
	firstClusterIP              = 256
	firstNodePort, lastNodePort = 12_000, 32_000
)

// service plants the i-th Service with its endpoints: five behind one ClusterIP, or two of
// each family behind two cluster IPs, a node port and two VIPs.
func (p *planter) service(i int) *corev1.Service {
	svc, endpoints := helmService(crowdName(i), i), 5
	if p.of.Balanced {
		endpoints = 2
		p.balance(svc, i)
	}
	for j, family := range svc.Spec.IPFamilies {
		cidr := [...]string{clusterCIDR4, clusterCIDR6}[j]
		ip := offset(cidr, firstClusterIP+i)
		if slices.Contains(p.taken, ip.String()) {
			ip = offset(cidr, 65_000)
		}
		svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, ip.String())
		p.core("ipaddresses/"+ip.String(), &networkingv1.IPAddress{
			ObjectMeta: metav1.ObjectMeta{Name: ip.String(), UID: types.UID(fmt.Sprintf("%08x-51d7-4c5b-8e21-%012x", i, j)), Labels: map[string]string{
				networkingv1.LabelManagedBy: "ipallocator.k8s.io", networkingv1.LabelIPAddressFamily: string(family),
			}},
			Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: namespace, Name: svc.Name}},
		})
		p.core("endpointslices/"+namespace+"/"+sliceName(svc.Name, j), controllerSlice(svc, i, j, endpoints))
	}
	svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	p.core("services/specs/"+namespace+"/"+svc.Name, svc)
	return svc
}

// balance makes svc one with VIPs, and plants their records.
func (p *planter) balance(svc *corev1.Service, i int) {
	both := corev1.IPFamilyPolicyRequireDualStack
	svc.Spec.Type, svc.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyCluster
	svc.Spec.IPFamilyPolicy, svc.Spec.IPFamilies = &both, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	svc.Spec.Ports[0].NodePort = int32(firstNodePort + i) //nolint:gosec // a port
	svc.Status.LoadBalancer.Ingress = ingress(i)
	for _, record := range records(svc, i) {
		data, err := json.Marshal(record)
		p.plant("fairlead.io/addresses/"+record.Name, data, err)
	}
}

// core plants an object of Kubernetes' own kinds.
func (p *planter) core(key string, obj runtime.Object) {
	kinds, _, err := scheme.Scheme.ObjectKinds(obj)
	if err == nil {
		obj.GetObjectKind().SetGroupVersionKind(kinds[0])
	}
	var data bytes.Buffer
	err = errors.Join(err, protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Encode(obj, &data))
	p.plant(key, data.Bytes(), err)
}

func (p *planter) plant(key string, data []byte, err error) {
	p.err = errors.Join(p.err, err)
	p.objects = append(p.objects, apiserver.Object{Key: "/registry/" + key, Value: data})
}

// records returns what the controller writes of the i-th Service's VIPs.
func records(svc *corev1.Service, i int) (out []*v1alpha1.Address) {
	pool, addrs := crowdVIPs(i)
	for j, a := range addrs {
		out = append(out, &v1alpha1.Address{
			TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Address"},
			ObjectMeta: metav1.ObjectMeta{
				Name: v1alpha1.AddressName(a), UID: types.UID(fmt.Sprintf("%08x-93ab-4f7e-b1c4-%012x", i, j)), CreationTimestamp: metav1.Unix(born, 0), Generation: 1,
			},
			Spec: v1alpha1.AddressSpec{Address: a.String(), Pool: pool, Holders: []v1alpha1.AddressHolder{{Namespace: namespace, Name: svc.Name, UID: svc.UID}}},
		})
	}
	return out
}

func ingress(i int) (out []corev1.LoadBalancerIngress) {
	mode := corev1.LoadBalancerIPModeVIP
	_, addrs := crowdVIPs(i)
	for _, a := range addrs {
		out = append(out, corev1.LoadBalancerIngress{IP: a.String(), IPMode: &mode})
	}
	return out
}

func crowdName(i int) string { return fmt.Sprintf("shop-%05d-web", i) }

// born is when everything planted was made, in seconds of Unix.
const born = 1_700_000_000

// helmService is the i-th Service with a ClusterIP, with the labels and annotations that
// Helm and its usual charts write.
func helmService(name string, i int) *corev1.Service {
	svc := service(name, corev1.ServiceTypeClusterIP)
	svc.Namespace, svc.UID, svc.CreationTimestamp = namespace, types.UID(fmt.Sprintf("%08x-2b5e-4d0c-8a7f-9c41d2e6f0b3", i)), metav1.Unix(born, 0)
	svc.Labels = map[string]string{
		"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": name, "app.kubernetes.io/version": "1.27.3",
		"app.kubernetes.io/component": "frontend", "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "web-15.4.2",
	}
	svc.Annotations = map[string]string{
		"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": namespace,
		"prometheus.io/scrape": "true", "prometheus.io/port": strconv.Itoa(acceptPort), "prometheus.io/path": "/metrics",
	}
	svc.ManagedFields = managedFields("helm", serviceFields)
	internal, single := corev1.ServiceInternalTrafficPolicyCluster, corev1.IPFamilyPolicySingleStack
	svc.Spec.InternalTrafficPolicy, svc.Spec.SessionAffinity = &internal, corev1.ServiceAffinityNone
	svc.Spec.IPFamilyPolicy, svc.Spec.IPFamilies = &single, []corev1.IPFamily{corev1.IPv4Protocol}
	svc.Spec.Ports[0].Protocol, svc.Spec.Ports[0].TargetPort = corev1.ProtocolTCP, intstr.FromInt32(acceptPort)
	svc.Spec.Selector = map[string]string{"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": name}
	return svc
}

func sliceName(service string, family int) string {
	return service + [...]string{"-x7k2p", "-q9d4w"}[family]
}

// controllerSlice is a slice of the i-th Service as Kubernetes' own controller makes it,
// with n endpoints. A node has about a hundred pods, however many the cluster has.
func controllerSlice(svc *corev1.Service, i, family, n int) *discoveryv1.EndpointSlice {
	var at []netip.Addr
	for j := range n {
		at = append(at, offset([...]string{crowdCIDR4, crowdCIDR6}[family], n*i+j))
	}
	out, yes, no, protocol := slice(svc.Name, acceptPort, i%500 == 0, at...), true, false, corev1.ProtocolTCP
	out.Namespace, out.Name = namespace, sliceName(svc.Name, family)
	out.AddressType = [...]discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}[family]
	out.UID, out.CreationTimestamp, out.Generation = types.UID(fmt.Sprintf("%08x-7a19-4b3f-9d62-%012x", i, family)), svc.CreationTimestamp, 1
	maps.Copy(out.Labels, svc.Labels)
	out.Labels[discoveryv1.LabelManagedBy] = "endpointslice-controller.k8s.io"
	out.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-02T03:04:05Z"}
	out.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: svc.Name, UID: svc.UID, Controller: &yes, BlockOwnerDeletion: &yes}}
	out.ManagedFields = managedFields("kube-controller-manager", sliceFields)
	out.Ports[0].Protocol = &protocol
	for j := range out.Endpoints {
		ep, zone := &out.Endpoints[j], string(rune('a'+(i+j)%3))
		if i%500 != 0 {
			node := fmt.Sprintf("worker-%03d.example.org", (7*i+j)%500)
			ep.NodeName = &node
		}
		ep.Zone, ep.Conditions.Terminating = &zone, &no
		ep.TargetRef = &corev1.ObjectReference{
			Kind: "Pod", Namespace: namespace, Name: fmt.Sprintf("%s-6d4f9c7b8-%05d", svc.Name, j), UID: types.UID(fmt.Sprintf("%08x-7f1c-4f0e-9c5d-%012x", i, j)),
		}
	}
	return out
}

// managedFields is what the API server notes of a writer.
func managedFields(by, fields string) []metav1.ManagedFieldsEntry {
	at := metav1.Unix(born, 0)
	return []metav1.ManagedFieldsEntry{{Manager: by, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &at, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)}}
}

// What managedFields have of a Service of Helm's and of a slice.
const (
	serviceFields = `{"f:metadata":{"f:annotations":{".":{},"f:meta.helm.sh/release-name":{},"f:meta.helm.sh/release-namespace":{},"f:prometheus.io/path":{},"f:prometheus.io/port":{},"f:prometheus.io/scrape":{}},"f:labels":{".":{},"f:app.kubernetes.io/component":{},"f:app.kubernetes.io/instance":{},"f:app.kubernetes.io/managed-by":{},"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{},"f:app.kubernetes.io/version":{},"f:helm.sh/chart":{}}},"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},"f:sessionAffinity":{},"f:type":{}}}`
	sliceFields   = `{"f:addressType":{},"f:endpoints":{},"f:metadata":{"f:annotations":{".":{},"f:endpoints.kubernetes.io/last-change-trigger-time":{}},"f:generateName":{},"f:labels":{".":{},"f:app.kubernetes.io/component":{},"f:app.kubernetes.io/instance":{},"f:endpointslice.kubernetes.io/managed-by":{},"f:kubernetes.io/service-name":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"00000000-0000-0000-0000-000000000000\"}":{}}},"f:ports":{}}`
)
