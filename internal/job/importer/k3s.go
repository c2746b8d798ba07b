package importer

import (
	"fmt"
	"io"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// K3s converts what ServiceLB, the load balancer of k3s and RKE2, reads: labels of nodes
// and of Services. It gives Services the addresses of nodes.
func K3s(w io.Writer, objects []Object) (comments int, err error) {
	k := &serviceLB{page: newPage(), pools: map[string]bool{}}
	for _, o := range objects {
		if err := k.add(o); err != nil {
			return 0, err
		}
	}
	k.convert()
	return k.write(w)
}

type serviceLB struct {
	page
	enabled bool            // only nodes with the label serviceLBEnable=true are used
	pools   map[string]bool // values of serviceLBPool, at nodes and Services
}

// ServiceLB's labels, and the annotations of Services that shape its pods.
const (
	serviceLBEnable      = "svccontroller.k3s.cattle.io/enablelb"
	serviceLBPool        = "svccontroller.k3s.cattle.io/lbpool"
	serviceLBTolerations = "svccontroller.k3s.cattle.io/tolerations"
	serviceLBPriority    = "svccontroller.k3s.cattle.io/priorityclassname"
)

func (k *serviceLB) add(o Object) error {
	group, kind, id, meta, err := head(o)
	switch {
	case err != nil:
	case group == "" && kind == "Node":
		var node corev1.Node
		if node, err = read[corev1.Node](o); err == nil {
			k.node(node)
		}
	case group == "" && kind == "Service":
		k.labelled(meta)
	default:
		k.other = append(k.other, id+" is not ServiceLB's")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	return nil
}

// node reads the labels of a node, and notes taints that keep ServiceLB's pods away.
func (k *serviceLB) node(n corev1.Node) {
	if _, labelled := n.Labels[serviceLBEnable]; labelled {
		k.enabled = true
	}
	if pool := n.Labels[serviceLBPool]; pool != "" {
		k.pools[pool] = true
	}
	tolerated := []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master", "CriticalAddonsOnly"}
	for _, t := range n.Spec.Taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !slices.Contains(tolerated, t.Key) {
			k.other = append(k.other, fmt.Sprintf(
				"Node %s has the taint %s, which keeps ServiceLB away and not fairlead: kubectl label node %s node.kubernetes.io/exclude-from-external-load-balancers=true",
				n.Name, t.Key, n.Name))
		}
	}
}

// labelled reads the labels and annotations of a Service.
func (k *serviceLB) labelled(m metav1.ObjectMeta) {
	if pool := m.Labels[serviceLBPool]; pool != "" {
		k.pools[pool] = true
	}
	for _, a := range []string{serviceLBPriority, serviceLBTolerations} {
		if _, ok := m.Annotations[a]; ok {
			k.other = append(k.other, fmt.Sprintf("Service %s/%s has %s, which has no equal: fairlead runs no pods for a Service", m.Namespace, m.Name, a))
		}
	}
}

// convert puts the pool for all Services, and those for Services with the label of a pool.
func (k *serviceLB) convert() {
	all := poolCalled("servicelb")
	all.Spec.NodeAddresses = &v1alpha1.NodeAddresses{}
	notes := []string{"While ServiceLB runs, it takes the same ports: start every k3s server with --disable=servicelb before this is applied"}
	switch {
	case !k.enabled && len(k.pools) > 0:
		notes = append(notes, "No node has the label "+serviceLBEnable+", without which ServiceLB ignores the labels "+serviceLBPool)
	case k.enabled:
		all.Spec.NodeAddresses.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{serviceLBEnable: "true"}}
		if len(k.pools) > 0 {
			all.Spec.ServiceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: serviceLBPool, Operator: metav1.LabelSelectorOpDoesNotExist}}}
		}
	}
	k.put(all, "", notes...)
	if !k.enabled {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(k.pools)) {
		p := poolCalled("servicelb-" + name)
		p.Spec.NodeAddresses = &v1alpha1.NodeAddresses{NodeSelector: &metav1.LabelSelector{MatchLabels: map[string]string{serviceLBEnable: "true", serviceLBPool: name}}}
		p.Spec.ServiceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{serviceLBPool: name}}
		k.put(p, "")
	}
}
