package controller_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// What the kubelet writes with --cloud-provider=external, and k8s.io/cloud-provider
// calls TaintExternalCloudProvider and AnnotationAlphaProvidedIPAddr.
const (
	uninitialized  = "node.cloudprovider.kubernetes.io/uninitialized"
	providedNodeIP = "alpha.kubernetes.io/provided-node-ip"
)

// TestNodeInitialisation: Kubernetes' own cloud node controller over our provider
// makes Nodes of a cluster that waits for a cloud provider usable, says what it
// lacks, leaves alone what others decide, and deletes nobody.
func TestNodeInitialisation(t *testing.T) {
	c := newCluster(t)
	c.forgetLease()
	c.node("young", "192.0.2.11,2001:db8::b", corev1.Taint{Key: uninitialized, Value: "true", Effect: corev1.TaintEffectNoSchedule},
		corev1.Taint{Key: "example.org/own", Effect: corev1.TaintEffectNoSchedule})
	c.node("mute", "", corev1.Taint{Key: uninitialized, Value: "true", Effect: corev1.TaintEffectNoSchedule})
	elder := c.silent(c.node("elder", "192.0.2.12"))

	c.startCCM("--initialize-nodes", "--node-status-update-frequency=1s", "--node-monitor-period=1s")
	c.looks("young", "fairlead://young InternalIP=192.0.2.11,InternalIP=2001:db8::b,Hostname=young example.org/own")
	c.looks("elder", " InternalIP=192.0.2.12,Hostname=elder ")
	c.patchNode("young", `{"metadata":{"labels":{"topology.kubernetes.io/zone":"moved"}}}`)

	c.looks("mute", " Hostname=mute "+uninitialized)
	c.patchNode("mute", `{"metadata":{"annotations":{"`+providedNodeIP+`":"192.0.2.13"}}}`)
	c.looks("mute", "fairlead://mute InternalIP=192.0.2.13,Hostname=mute ")

	if n := c.getNode("young"); n.Labels[corev1.LabelTopologyZone] != "moved" || n.Labels[corev1.LabelFailureDomainBetaZone] != "" {
		t.Errorf("the zone that an operator gave was undone: %v", n.Labels)
	}
	// A kubelet whose Node was deleted registers again, as new.
	c.must(c.Kube.CoreV1().Nodes().Delete(t.Context(), "young", metav1.DeleteOptions{}))
	c.node("young", "192.0.2.21", corev1.Taint{Key: uninitialized, Value: "true", Effect: corev1.TaintEffectNoSchedule})
	c.looks("young", "fairlead://young InternalIP=192.0.2.21,Hostname=young ")
	if n := c.getNode("elder"); n.UID != elder.UID || n.ResourceVersion != elder.ResourceVersion {
		t.Errorf("a Node that nobody asked to initialise was written: %+v", n)
	}
}

// node makes a Node as a kubelet registers it: with --node-ip if it has one.
func (c *cluster) node(name, ip string, taints ...corev1.Taint) *corev1.Node {
	c.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: "first"}}, Spec: corev1.NodeSpec{Taints: taints}}
	if ip != "" {
		n.Annotations = map[string]string{providedNodeIP: ip}
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
	n, err := c.Kube.CoreV1().Nodes().Create(c.Context(), n, metav1.CreateOptions{})
	c.must(err)
	c.Cleanup(func() {
		c.mustUnless(apierrors.IsNotFound, c.Kube.CoreV1().Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}))
	})
	return n
}

// silent makes a Node that has its address and has not been heard of for long,
// which is what a lifecycle controller asks the cloud about.
func (c *cluster) silent(n *corev1.Node) *corev1.Node {
	c.Helper()
	n.Status.Addresses = append([]corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.Annotations[providedNodeIP]}}, n.Status.Addresses...)
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown"}}
	n, err := c.Kube.CoreV1().Nodes().UpdateStatus(c.Context(), n, metav1.UpdateOptions{})
	c.must(err)
	return n
}

func (c *cluster) getNode(name string) *corev1.Node {
	c.Helper()
	n, err := c.Kube.CoreV1().Nodes().Get(c.Context(), name, metav1.GetOptions{})
	c.must(err)
	return n
}

func (c *cluster) patchNode(name, patch string) {
	c.Helper()
	_, err := c.Kube.CoreV1().Nodes().Patch(c.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	c.must(err)
}

// looks waits until a Node is "providerID addresses taints".
func (c *cluster) looks(name, want string) {
	c.Helper()
	c.eventually("node "+name, func() error {
		n := c.getNode(name)
		var addresses, taints []string
		for _, a := range n.Status.Addresses {
			addresses = append(addresses, string(a.Type)+"="+a.Address)
		}
		for _, t := range n.Spec.Taints {
			if !strings.HasPrefix(t.Key, "node.kubernetes.io/") { // the API server's own
				taints = append(taints, t.Key)
			}
		}
		got := n.Spec.ProviderID + " " + strings.Join(addresses, ",") + " " + strings.Join(taints, ",")
		if got != want {
			return fmt.Errorf("is %q, want %q", got, want)
		}
		return nil
	})
}
