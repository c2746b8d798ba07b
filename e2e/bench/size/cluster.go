package size

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/e2e/apiserver"
	"github.com/fairlead/fairlead/internal/kube"
)

// served is the label of the Services that are to have an address, and of their
// endpoints.
const served = "size.test/served"

// What there is on every node or of every Service.
const (
	namespace   = "fairlead-system"
	imagesEach  = 50 // the kubelet's default, --node-status-max-images
	endpoints   = 3
	writersOnce = 64
)

// fill makes the objects of a cluster. There is one Service with an address for each
// node; the others are headless.
func fill(ctx context.Context, server *apiserver.Server, c *kube.Clients, nodes, services int) error {
	if _, err := c.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	pool := &v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: "size"}, Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"198.18.128.0/17"}}}
	if _, err := c.Pools.Create(ctx, pool, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := all(ctx, nodes, func(ctx context.Context, i int) error { return makeNode(ctx, c, i) }); err != nil {
		return err
	}
	err := all(ctx, nodes, func(ctx context.Context, i int) error {
		if _, err := c.Kube.DiscoveryV1().EndpointSlices("default").Create(ctx, slice(i, nodes), metav1.CreateOptions{}); err != nil {
			return err
		}
		_, err := c.Kube.CoreV1().Services("default").Create(ctx, service(i, true), metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	return multiply(ctx, server, c, nodes, services)
}

// all calls do for 0 to n-1, several at a time.
func all(ctx context.Context, n int, do func(context.Context, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writersOnce)
	for i := range n {
		g.Go(func() error { return do(ctx, i) })
	}
	return g.Wait()
}

func makeNode(ctx context.Context, c *kube.Clients, i int) error {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName(i), Labels: map[string]string{
			"kubernetes.io/hostname": nodeName(i), "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
			"topology.kubernetes.io/zone": fmt.Sprintf("zone-%d", i%3), "topology.kubernetes.io/region": "here", "node.kubernetes.io/instance-type": "metal",
		}, Annotations: map[string]string{"node.alpha.kubernetes.io/ttl": "30", "volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
		Spec: corev1.NodeSpec{PodCIDR: podCIDR(i), PodCIDRs: []string{podCIDR(i)}, ProviderID: "metal://" + nodeName(i)},
	}
	made, err := c.Kube.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Status = corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: links(i)[0].Prefixes[0].Addr().String()}, {Type: corev1.NodeHostName, Address: nodeName(i)}},
		Capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("110"), corev1.ResourceEphemeralStorage: resource.MustParse("900Gi"),
		},
		NodeInfo: corev1.NodeSystemInfo{
			MachineID: "0123456789abcdef0123456789abcdef", SystemUUID: "01234567-89ab-cdef-0123-456789abcdef", BootID: "01234567-89ab-cdef-0123-456789abcdef", KernelVersion: "6.12.0-1-amd64",
			OSImage: "Debian GNU/Linux 13", ContainerRuntimeVersion: "containerd://2.1.0", KubeletVersion: "v1.36.0", OperatingSystem: "linux", Architecture: "amd64",
		},
		Conditions: conditions(corev1.ConditionTrue),
	}
	for k := range imagesEach {
		digest := fmt.Sprintf("registry.test/team-%02d/program@sha256:%064d", k, k)
		made.Status.Images = append(made.Status.Images, corev1.ContainerImage{Names: []string{digest, fmt.Sprintf("registry.test/team-%02d/program:v1.%d.0", k, k)}, SizeBytes: 123456789})
	}
	_, err = c.Kube.CoreV1().Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

func podCIDR(i int) string { return fmt.Sprintf("10.%d.%d.0/24", 128+i>>8, i&255) }

// conditions are a node's, as the kubelet says them now.
func conditions(ready corev1.ConditionStatus) (out []corev1.NodeCondition) {
	now := metav1.Now()
	for _, kind := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeReady} {
		c := corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available", LastHeartbeatTime: now}
		if kind == corev1.NodeReady {
			c.Status, c.Reason, c.Message = ready, "KubeletReady", "kubelet is posting ready status"
		}
		out = append(out, c)
	}
	return out
}

// heartbeatEvery is how often a kubelet writes the status of a Node in which nothing
// changed (nodeStatusReportFrequency).
const heartbeatEvery = 5 * time.Minute

// beat makes the kubelets' writes until ctx ends.
func beat(ctx context.Context, c *kube.Clients, nodes int) error {
	ticker := time.NewTicker(heartbeatEvery / time.Duration(nodes))
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if n := i % nodes; n != lost {
			if err := say(ctx, c, n, corev1.ConditionTrue); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// say writes the conditions of node i.
func say(ctx context.Context, c *kube.Clients, i int, ready corev1.ConditionStatus) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": conditions(ready)}})
	if err != nil {
		return err
	}
	_, err = c.Kube.CoreV1().Nodes().Patch(ctx, nodeName(i), types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

func serviceName(i int) string { return fmt.Sprintf("service-%05d", i) }

func service(i int, withAddress bool) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName(i), Labels: map[string]string{"app.kubernetes.io/name": serviceName(i), "app.kubernetes.io/part-of": "shop"}},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app.kubernetes.io/name": serviceName(i)}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	if !withAddress {
		s.Spec.ClusterIP = corev1.ClusterIPNone // 50,000 ClusterIPs take the API server many minutes
	} else {
		s.Labels[served] = "true"
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		no := false
		s.Spec.AllocateLoadBalancerNodePorts = &no
	}
	return s
}

// slice has the endpoints of the Service i, on three nodes.
func slice(i, nodes int) *discoveryv1.EndpointSlice {
	name, port := "http", int32(8080)
	sl := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: serviceName(i) + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: serviceName(i), served: "true"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for k := range endpoints {
		on, yes := nodeName((i+k)%nodes), true
		sl.Endpoints = append(sl.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 128+(i+k)%nodes>>8, (i+k)%nodes&255, 10+k)}, NodeName: &on,
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes},
		})
	}
	return sl
}

// lose does what the control plane does of a node that is gone: the Node is not ready,
// has two taints, and its endpoints are not ready.
func lose(ctx context.Context, c *kube.Clients, i, nodes int) error {
	if err := say(ctx, c, i, corev1.ConditionUnknown); err != nil {
		return err
	}
	for _, effect := range []string{"NoSchedule", "NoExecute"} {
		patch := fmt.Sprintf(`{"spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":%q}]}}`, effect)
		if _, err := c.Kube.CoreV1().Nodes().Patch(ctx, nodeName(i), types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	for k := range endpoints {
		name := serviceName((i+nodes-k)%nodes) + "-x"
		sl, err := c.Kube.DiscoveryV1().EndpointSlices("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		no := false
		sl.Endpoints[k].Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &no}
		if _, err := c.Kube.DiscoveryV1().EndpointSlices("default").Update(ctx, sl, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return nil
}
