package forwarding

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// More addresses, all in podCIDR but for the links.
const (
	eastClients    = "198.18.240.0/28" // the pod that reaches others has one for each route
	eastClientLink = "198.18.127.5"
	farPods        = "198.18.241.0/24"
	farNodeLink    = "198.18.127.9"
	farNode        = "198.18.127.10"
	farPodLink     = "198.18.127.13"
	farPodOwn      = "198.18.127.14"
)

// eastPods are the pods that are reached.
var eastPods = [places]netip.Addr{netip.MustParseAddr("198.18.242.1"), netip.MustParseAddr("198.18.241.1")}

// east is a pod of the node that reaches others, another node, and its pods.
type east struct {
	client, other, remote space
	servers               []*server
}

func newEast(ctx context.Context, w *world) (e *east, err error) {
	e = &east{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.remove(context.WithoutCancel(ctx)))
			e = nil
		}
	}()
	for s, name := range map[*space]string{&e.client: "pod", &e.other: "other", &e.remote: "remote"} {
		if *s, err = newSpace(ctx, name); err != nil {
			return e, err
		}
	}
	if err := e.wire(ctx, w); err != nil {
		return e, err
	}
	for _, s := range []space{w.pods, e.remote} {
		if err := e.serve(s, s == e.remote); err != nil {
			return e, err
		}
	}
	return e, nil
}

// from makes the pod's address that of a route. A connection to the pod itself
// would be dropped where connection tracking knows one of the same ports through
// a Service.
func (e *east) from(ctx context.Context, r route) error {
	return e.client.ip(ctx, "route replace default via "+eastClientLink+" src "+eastClient(r))
}

func eastClient(r route) string { return fmt.Sprintf("198.18.240.%d", 2+r) }

func (e *east) wire(ctx context.Context, w *world) error {
	var addresses []string
	for r := range routes {
		addresses = append(addresses, "addr add "+eastClient(r)+"/32 dev eth0")
	}
	return errors.Join(
		w.pods.ip(ctx, "route add "+eastClients+" via "+nodeLink+" table local"), // it has all of podCIDR else
		e.other.sysctl(ctx, "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"),
		w.node.ip(ctx,
			"link add east type veth peer name eth0 netns "+e.client.name,
			"link add far type veth peer name eth0 netns "+e.other.name,
			"addr add "+eastClientLink+"/32 dev east", "link set east up", "route add "+eastClients+" dev east",
			"addr add "+farNodeLink+"/30 dev far", "link set far up", "route add "+farPods+" via "+farNode),
		// All ports of all routes and loads together are more than the kernel tracks.
		e.client.sysctl(ctx, "net.ipv4.ip_local_port_range=32768 42767"),
		e.client.ip(ctx, "link set eth0 up", "route add "+eastClientLink+" dev eth0"),
		e.client.ip(ctx, addresses...),
		e.from(ctx, direct),
		e.other.ip(ctx, "link add pods type veth peer name eth0 netns "+e.remote.name,
			"addr add "+farNode+"/30 dev eth0", "link set eth0 up", "route add default via "+farNodeLink,
			"addr add "+farPodLink+"/30 dev pods", "link set pods up", "route add "+farPods+" via "+farPodOwn),
		e.remote.ip(ctx, "addr add "+farPodOwn+"/30 dev eth0", "link set eth0 up", "route add default via "+farPodLink,
			"route add local "+farPods+" dev lo"),
	)
}

// serve answers on all ports; where pods are already, not on those that they have.
func (e *east) serve(s space, all bool) error {
	makers := []func() (*server, error){
		func() (*server, error) { return serveEach(s, echoPort, echo) },
		func() (*server, error) { return serveEach(s, sinkPort, sink) },
		func() (*server, error) { return serveDatagrams(s, dnsPort) },
	}
	if all {
		makers = append(makers, func() (*server, error) { return startServer(s, acceptPort, false) })
	}
	for _, make := range makers {
		srv, err := make()
		if err != nil {
			return err
		}
		e.servers = append(e.servers, srv)
	}
	return nil
}

func (e *east) remove(ctx context.Context) error {
	for _, s := range e.servers {
		s.stop()
	}
	var errs []error
	for _, s := range []space{e.client, e.other, e.remote} {
		if s.name != "" {
			errs = append(errs, s.remove(ctx))
		}
	}
	return errors.Join(errs...)
}

// eastService is a Service with one of the pods that are reached behind it.
type eastService struct{ addr netip.Addr }

func (s eastService) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(s.addr, port) }

// eastWest makes the Services of the pods that are reached.
func (c *cluster) eastWest(ctx context.Context) error {
	for at := range places {
		name, node := [...]string{"near", "far"}[at], [...]string{nodeName, "another"}[at]
		svc := service(name, corev1.ServiceTypeClusterIP)
		svc.Spec.Ports = nil
		s := slice(name, 0, true, eastPods[at])
		s.Endpoints[0].NodeName, s.Ports = &node, nil
		for _, l := range eastLoads {
			protocol, target, portName := corev1.ProtocolTCP, int32(l.target), fmt.Sprintf("port-%d", l.port)
			if l.target == dnsPort {
				protocol = corev1.ProtocolUDP
			}
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: portName, Port: int32(l.port), Protocol: protocol})
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &portName, Port: &target, Protocol: &protocol})
		}
		made, err := c.client.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		c.east[at] = eastService{clusterIP(made).Addr()}
		if _, err := c.slices().Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}
