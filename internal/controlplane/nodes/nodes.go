// Package nodes follows the control-plane nodes of a cluster.
package nodes

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Label is of control-plane nodes, with any value.
const Label = "node-role.kubernetes.io/control-plane"

// Follow calls known with the sorted addresses of the control-plane nodes, those of own's
// family, once they were listed and whenever they may have changed, until ctx ends. While
// the API server does not answer, known is not called.
func Follow(ctx context.Context, client kubernetes.Interface, own netip.Addr, known func([]netip.Addr)) error {
	byLabel := informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = Label })
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, byLabel)
	informer := factory.Core().V1().Nodes().Informer()
	tell := func() {
		if informer.HasSynced() {
			known(addresses(informer.GetStore().List(), own))
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { tell() }, UpdateFunc: func(_, _ any) { tell() }, DeleteFunc: func(any) { tell() },
	}); err != nil {
		return fmt.Errorf("informer: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		tell()
	}
	<-ctx.Done()
	return nil
}

// addresses returns the first internal address of each Node that has own's family.
func addresses(objects []any, own netip.Addr) (out []netip.Addr) {
	for _, o := range objects {
		n, ok := o.(*corev1.Node)
		if !ok {
			continue
		}
		for _, a := range n.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && ip.Is4() == own.Is4() {
				out = append(out, ip)
				break
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
