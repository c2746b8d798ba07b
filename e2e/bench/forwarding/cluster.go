package forwarding

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/internal/kube"
)

const (
	namespace = "default"
	moving    = "moving" // the Service whose endpoint changes
	replicas  = 2        // endpoints of every other Service
)

// cluster is what the API server holds: one Node, and Services with endpoints
// written by hand. The first Service has a VIP and a node port; one in ten of
// the others has a node port, as far as there are any.
type cluster struct {
	client   kubernetes.Interface
	own      *kube.Clients     // for fairlead's kinds
	services []*corev1.Service // without the moving one
	moving   *corev1.Service
	moves    int // of its endpoint
	east     [places]eastService
	outside  []netip.AddrPort // a node port and VIPs, if there are any
}

func (c *cluster) prepare(ctx context.Context) error {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName, Labels: map[string]string{corev1.LabelHostname: nodeName}},
		Spec:       corev1.NodeSpec{PodCIDR: podCIDR, PodCIDRs: []string{podCIDR}},
	}
	made, err := c.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeLAN}, {Type: corev1.NodeHostName, Address: nodeName}}
	if _, err := c.client.CoreV1().Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	svc := service(moving, corev1.ServiceTypeClusterIP)
	if c.moving, err = c.client.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err = c.slices().Create(ctx, slice(moving, namePort, true, c.place()), metav1.CreateOptions{})
	return err
}

// grow adds Services until there are n.
func (c *cluster) grow(ctx context.Context, n int) error {
	const writers = 32
	had := len(c.services)
	c.services = append(c.services, make([]*corev1.Service, max(0, n-had))...)
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := had + w; i < n && errs[w] == nil; i += writers {
				c.services[i], errs[w] = c.create(ctx, i)
			}
		})
	}
	wg.Wait()
	if err := cmp.Or(errs...); err != nil {
		return err
	}
	c.outside = []netip.AddrPort{c.nodePort(), vipPort()}
	return nil
}

// create makes the i-th Service and its slice.
func (c *cluster) create(ctx context.Context, i int) (*corev1.Service, error) {
	kind := corev1.ServiceTypeClusterIP
	switch {
	case i == 0:
		kind = corev1.ServiceTypeLoadBalancer
	case i%10 == 0:
		kind = corev1.ServiceTypeNodePort
	}
	services, name := c.client.CoreV1().Services(namespace), fmt.Sprintf("s%05d", i)
	svc, err := services.Create(ctx, service(name, kind), metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	if i == 0 {
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: vip}}
		if svc, err = services.UpdateStatus(ctx, svc, metav1.UpdateOptions{}); err != nil {
			return nil, err
		}
	}
	here := i%100 == 0 // a node has about a hundred pods, however many the cluster has
	_, err = c.slices().Create(ctx, slice(name, acceptPort, here, podAddress(replicas*i), podAddress(replicas*i+1)), metav1.CreateOptions{})
	return svc, err
}

// move replaces the moving Service's endpoint, and returns the new one.
func (c *cluster) move(ctx context.Context) (netip.Addr, error) {
	c.moves++
	_, err := c.slices().Update(ctx, slice(moving, namePort, true, c.place()), metav1.UpdateOptions{})
	return c.place(), err
}

// replace gives the i-th Service other endpoints, by n.
func (c *cluster) replace(ctx context.Context, i, n int) error {
	first := podAddress(20_000 + replicas*(n%4000))
	_, err := c.slices().Update(ctx, slice(c.services[i].Name, acceptPort, n%100 == 0, first, first.Next()), metav1.UpdateOptions{})
	return err
}

// place is where the moving endpoint is: among a thousand addresses that no other
// Service has.
func (c *cluster) place() netip.Addr { return podAddress(30_000 + c.moves%1000) }

func (c *cluster) slices() interface {
	Create(context.Context, *discoveryv1.EndpointSlice, metav1.CreateOptions) (*discoveryv1.EndpointSlice, error)
	Update(context.Context, *discoveryv1.EndpointSlice, metav1.UpdateOptions) (*discoveryv1.EndpointSlice, error)
} {
	return c.client.DiscoveryV1().EndpointSlices(namespace)
}

func service(name string, kind corev1.ServiceType) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Type: kind, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
}

func slice(service string, port int32, here bool, at ...netip.Addr) *discoveryv1.EndpointSlice {
	where := "another"
	if here {
		where = nodeName
	}
	yes, name := true, "http"
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for _, a := range at {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a.String()}, NodeName: &where, Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes},
		})
	}
	return s
}

// clusterIP is where a Service answers inside.
func clusterIP(s *corev1.Service) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(s.Spec.ClusterIP), 80)
}

// The first Service's other addresses, and one of its pods.
func (c *cluster) nodePort() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(nodeLAN), uint16(c.services[0].Spec.Ports[0].NodePort)) //nolint:gosec // a port
}
func vipPort() netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(vip), 80) }
func podPort() netip.AddrPort { return netip.AddrPortFrom(podAddress(0), acceptPort) }

// sample is about a hundred of the Services, the first and the last among them.
func (c *cluster) sample() []netip.AddrPort {
	out := []netip.AddrPort{clusterIP(c.services[0]), clusterIP(c.services[len(c.services)-1])}
	for i := 0; i < len(c.services); i += max(1, len(c.services)/100) {
		out = append(out, clusterIP(c.services[i]))
	}
	return out
}
