package cloud

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"
)

// instances is what the cloud node controller asks. It knows no machines: all
// that it tells of a Node is what the Node's kubelet has said.
type instances struct{}

var _ cloudprovider.InstancesV2 = instances{}

// InstanceExists says yes, always: "no" is what makes a lifecycle controller
// delete a Node.
func (instances) InstanceExists(context.Context, *corev1.Node) (bool, error) { return true, nil }

// InstanceShutdown says no, always.
func (instances) InstanceShutdown(context.Context, *corev1.Node) (bool, error) { return false, nil }

// InstanceMetadata returns the Node's provider ID and addresses. It names no zone,
// region or type: the controller would write the names that these labels had
// before Kubernetes 1.17, and from then on undo every edit of today's.
func (instances) InstanceMetadata(_ context.Context, node *corev1.Node) (*cloudprovider.InstanceMetadata, error) {
	addresses, err := addressesOf(node)
	if err != nil {
		return nil, err
	}
	id := node.Spec.ProviderID
	if id == "" {
		id = Name + "://" + node.Name
	}
	return &cloudprovider.InstanceMetadata{ProviderID: id, NodeAddresses: addresses}, nil
}

// addressesOf are the addresses that the kubelet was given (--node-ip), then those
// of other types that the Node has. Without the former the Node keeps what it has;
// that it has none is an error, as a Node without an address is of no use.
func addressesOf(node *corev1.Node) ([]corev1.NodeAddress, error) {
	var out []corev1.NodeAddress
	given := node.Annotations[api.AnnotationAlphaProvidedIPAddr]
	for text := range strings.SplitSeq(given, ",") {
		if given == "" {
			break
		}
		ip, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("annotation %s of node %s: %w", api.AnnotationAlphaProvidedIPAddr, node.Name, err)
		}
		out = append(out, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	for _, a := range node.Status.Addresses {
		if given == "" || a.Type != corev1.NodeInternalIP {
			out = append(out, a)
		}
	}
	if !slices.ContainsFunc(out, func(a corev1.NodeAddress) bool { return a.Type == corev1.NodeInternalIP }) {
		return nil, fmt.Errorf("node %s has no address: start its kubelet with --node-ip", node.Name)
	}
	return out, nil
}
