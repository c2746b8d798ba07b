// Package kind makes a cluster for the stories out of containers, with kind and
// Docker: the same LAN, client, router and addresses as the lab's, in which another
// kernel configuration and another CNI are seen. What is done is decided here and
// done by the programs docker and kind.
package kind

import (
	"fmt"
	"strings"
)

// Families of addresses that a cluster can have.
const (
	IPv4 = "ipv4"
	IPv6 = "ipv6"
	Dual = "dual"
)

// Names of what is made.
const (
	Cluster    = "fairlead"
	lan        = "fairlead"
	ext        = "fairlead-ext"
	routerFRR  = "quay.io/frrouting/frr:10.4.1"
	newestNode = "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"
)

// Options of a cluster.
type Options struct {
	Family    string // IPv4, IPv6 or Dual; Dual if empty
	KubeProxy bool   // leave kube-proxy in: fairlead announces alone
	Image     string // of the nodes; that of kind's newest Kubernetes if empty
	State     string // directory, at the same path in every container
}

func (o Options) family() string {
	if o.Family == "" {
		return Dual
	}
	return o.Family
}

func (o Options) image() string {
	if o.Image == "" {
		return newestNode
	}
	return o.Image
}

// Check tells what is wrong with the options.
func (o Options) Check() error {
	switch o.family() {
	case IPv4, IPv6, Dual:
		return nil
	}
	return fmt.Errorf("family %q is none of %s, %s and %s", o.Family, IPv4, IPv6, Dual)
}

// both joins the ranges of the cluster's families, IPv4 first.
func (o Options) both(v4, v6 string) string {
	switch o.family() {
	case IPv4:
		return v4
	case IPv6:
		return v6
	}
	return v4 + "," + v6
}

// Config is what kind is told: three workers, named as the lab's nodes are, with the
// lab's ranges of pods and Services.
func (o Options) Config() string {
	proxy := "none"
	if o.KubeProxy {
		proxy = "nftables"
	}
	var out strings.Builder
	fmt.Fprintf(&out, `kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
name: %s
networking:
  ipFamily: %s
  kubeProxyMode: %s
  podSubnet: %s
  serviceSubnet: %s
nodes:
- role: control-plane
  image: %s
`, Cluster, o.family(), proxy, o.both("198.18.128.0/17", "fd98:18:80::/48"), o.both("198.19.0.0/16", "fd98:19::/112"), o.image())
	for i := range Workers {
		fmt.Fprintf(&out, `- role: worker
  image: %s
  kubeadmConfigPatches:
  - |
    kind: JoinConfiguration
    nodeRegistration:
      name: node%d
  extraMounts:
  - hostPath: %s
    containerPath: %[3]s
`, o.image(), i+1, o.State)
	}
	return out.String()
}

// Workers is how many nodes run pods.
const Workers = 3

// container is the name that kind gives the container of the i-th worker, counted
// from 0.
func container(i int) string {
	if i == 0 {
		return Cluster + "-worker"
	}
	return fmt.Sprintf("%s-worker%d", Cluster, i+1)
}

// Place is where Describe wants a container: 0 for the control plane, then the
// workers in their order.
func Place(name string) (int, bool) {
	if name == controlPlane {
		return 0, true
	}
	for i := range Workers {
		if name == container(i) {
			return i + 1, true
		}
	}
	return 0, false
}

const controlPlane = Cluster + "-control-plane"
