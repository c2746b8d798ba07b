package survey

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/history"
	"github.com/fairlead/fairlead/internal/history/keep"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/proxy"
)

// State makes the value of what was read.
func (o *Objects) State() *cluster.State {
	s := &cluster.State{
		Now: o.Now, FromFiles: o.FromFiles, Gaps: o.Gaps, Namespace: o.namespace(), Workloads: o.Workloads,
		Allocation: allocator.Options{Class: v1alpha1.LoadBalancerClass, DefaultClass: true, Now: o.Now},
	}
	var states []*snapshot.NodeState
	b := kube.NewBuilder()
	for _, obj := range o.All {
		b.Set(obj)
		switch obj := obj.(type) {
		case *v1alpha1.NodeState:
			states = append(states, kube.ToNodeState(obj))
		case *v1alpha1.BGPPeer:
			s.Peers = append(s.Peers, peer(obj))
		case *v1alpha1.Address:
			if a, ok := snapshot.ParseAddr(obj.Spec.Address); ok {
				s.Records = append(s.Records, cluster.Record{Addr: a, Created: obj.CreationTimestamp.Time})
			}
		case *corev1.Pod:
			s.Pods = append(s.Pods, pod(obj))
			flags(s, obj)
		case *corev1.Namespace:
			if obj.Name == s.Namespace {
				s.PodSecurity = obj.Labels["pod-security.kubernetes.io/enforce"]
			}
		case *coordinationv1.Lease:
			s.Leader = leader(obj)
		case *appsv1.DaemonSet:
			if obj.Namespace == systemSpace && obj.Name == "kube-proxy" {
				s.KubeProxy.Runs = obj.Status.DesiredNumberScheduled > 0
			}
			other(s, "daemonset", obj.Namespace, obj.Name, obj.Labels)
		case *appsv1.Deployment:
			other(s, "deployment", obj.Namespace, obj.Name, obj.Labels)
		case *corev1.ConfigMap:
			if obj.Name == keep.ConfigMap {
				s.History = history.Read(obj.Data[keep.Key]).Entries
				continue
			}
			runs := s.KubeProxy.Runs
			s.KubeProxy = kubeProxy(obj)
			s.KubeProxy.Runs = runs
		}
	}
	s.Snapshot = b.Snapshot()
	s.NodeStates = states // whole, while a Builder keeps what decisions read
	s.Sort()
	slices.SortFunc(s.Workloads, func(a, b cluster.Workload) int { return cmp.Or(cmp.Compare(a.Node, b.Node), a.Ref.Compare(b.Ref)) })
	slices.SortFunc(s.Peers, func(a, b cluster.Peer) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Pods, func(a, b cluster.Pod) int {
		return cmp.Or(cmp.Compare(b.Component, a.Component), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(s.Others, func(a, b cluster.Other) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Object, b.Object))
	})
	return s
}

// namespace is where fairlead's pods are.
func (o *Objects) namespace() string {
	for _, obj := range o.All {
		if p, ok := obj.(*corev1.Pod); ok {
			return p.Namespace
		}
	}
	return DefaultNamespace
}

// mode is what assigns addresses: controller or ccm.
func (o *Objects) mode() string {
	for _, obj := range o.All {
		p, ok := obj.(*corev1.Pod)
		if !ok || p.Labels[componentLabel] != "controller" {
			continue
		}
		if c := ourContainer(p); c != nil && c.Name == "ccm" {
			return "ccm"
		}
	}
	return "controller"
}

// ourContainer returns the container of p that is fairlead's, by the names of the chart: others
// may have added containers before it. It returns the first if none has such a name, and
// nil if there is none.
func ourContainer(p *corev1.Pod) *corev1.Container {
	for i := range p.Spec.Containers {
		if c := &p.Spec.Containers[i]; slices.Contains([]string{"agent", "controller", "ccm"}, c.Name) {
			return c
		}
	}
	if len(p.Spec.Containers) == 0 {
		return nil
	}
	return &p.Spec.Containers[0]
}

func peer(p *v1alpha1.BGPPeer) cluster.Peer {
	out := cluster.Peer{Name: p.Name, Address: string(p.Spec.Address), ASN: p.Spec.PeerASN, Port: int(cmp.Or(p.Spec.Port, 179))}
	if p.Spec.Passive {
		out.Port = 0
	}
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		out.Ready = snapshot.Condition{Status: string(c.Status), Reason: c.Reason, Message: c.Message}
	}
	return out
}

func pod(p *corev1.Pod) cluster.Pod {
	out := cluster.Pod{Component: p.Labels[componentLabel], Name: p.Name, Node: p.Spec.NodeName}
	if c := ourContainer(p); c != nil {
		out.Image = c.Image
		for _, port := range c.Ports {
			if port.Name == "health" {
				out.Health = int(port.ContainerPort)
			}
		}
	}
	for _, c := range p.Status.Conditions {
		out.Ready = out.Ready || c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			out.Waiting = c.Reason + ": " + c.Message
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		out.Restarts += int(c.RestartCount)
		if w := c.State.Waiting; w != nil {
			out.Waiting = strings.TrimSuffix(w.Reason+": "+w.Message, ": ")
		}
		if t := c.LastTerminationState.Terminated; t != nil {
			out.Exited = strings.TrimSuffix(t.Reason+": "+t.Message, ": ")
		}
	}
	return out
}

// workload is p, if it runs with an address of its own.
func workload(p *corev1.Pod) (out cluster.Workload, ok bool) {
	if p.Status.Phase != corev1.PodRunning || p.Spec.HostNetwork || p.DeletionTimestamp != nil {
		return out, false
	}
	out = cluster.Workload{Ref: snapshot.Ref{Namespace: p.Namespace, Name: p.Name}, Node: p.Spec.NodeName}
	if p.Status.StartTime != nil {
		out.Started = p.Status.StartTime.Time
	}
	for _, ip := range p.Status.PodIPs {
		if a, ok := snapshot.ParseAddr(ip.IP); ok {
			out.IPs = append(out.IPs, a)
		}
	}
	return out, len(out.IPs) > 0
}

// flags reads the choices of the cluster from the arguments of fairlead's own
// processes. Those of all pods of a component are the same.
func flags(s *cluster.State, p *corev1.Pod) {
	c := ourContainer(p)
	if c == nil {
		return
	}
	for _, arg := range c.Args {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "--class":
			s.Allocation.Class = value
		case "--default-class":
			s.Allocation.DefaultClass = value != "false"
		case "--external-ips":
			s.Forwarding.ExternalIPs = value != "false"
		case "--detect-local":
			if l, err := proxy.ParseLocal(value); err == nil {
				s.Forwarding.Local = l
			}
		case "--service-cidrs":
			s.Forwarding.ServiceCIDRs = nil
			for _, text := range strings.Split(value, ",") {
				if c, err := netip.ParsePrefix(text); err == nil {
					s.Forwarding.ServiceCIDRs = append(s.Forwarding.ServiceCIDRs, c.Masked())
				}
			}
		case "--nodeport-addresses":
			if cidrs, localhost, err := nodeport.ParseAddresses(strings.Split(value, ",")); err == nil {
				s.NodePortAddresses, s.Localhost = cidrs, localhost
			}
		}
	}
}

func leader(l *coordinationv1.Lease) cluster.Leader {
	var out cluster.Leader
	if l.Spec.HolderIdentity != nil {
		out.Holder = *l.Spec.HolderIdentity
	}
	if l.Spec.RenewTime != nil {
		out.Renewed = l.Spec.RenewTime.Time
	}
	if l.Spec.LeaseDurationSeconds != nil {
		out.Lasts = time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
	}
	return out
}

// known are controllers that give addresses to Services without a class, by what
// their objects are called.
var known = []struct{ name, namespace, prefix string }{
	{"MetalLB", "metallb-system", ""},
	{"MetalLB", "", "metallb"},
	{"kube-vip", "", "kube-vip"},
	{"PureLB", "purelb", ""},
	{"OpenELB", "", "openelb"},
	{"K3s ServiceLB", systemSpace, "svclb-"},
	{"a cloud controller manager", "", "cloud-controller-manager"},
}

func other(s *cluster.State, kind, namespace, name string, labels map[string]string) {
	if labels[partLabel] == "fairlead" {
		return
	}
	for _, k := range known {
		if (k.namespace == "" || k.namespace == namespace) && strings.HasPrefix(name, k.prefix) {
			s.Others = append(s.Others, cluster.Other{Name: k.name, Object: kind + " " + namespace + "/" + name})
			return
		}
	}
}
