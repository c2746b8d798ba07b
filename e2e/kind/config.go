// Package kind makes a cluster for the stories out of containers, with kind and Docker
// or Podman: kubeadm's cluster on the same LAN, with the client, router and addresses of
// the lab. What is done is decided here and done by the programs docker, podman and kind.
package kind

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Engines that run the containers.
const (
	Docker = "docker"
	Podman = "podman"
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
	Engine    string // Docker or Podman; Docker if empty
	Family    string // IPv4, IPv6 or Dual; Dual if empty
	KubeProxy bool   // leave kube-proxy in: fairlead announces alone
	Services  string // IPv4 range of the Services; 198.19.0.0/16 if empty
	Image     string // of the nodes; if empty, that of kind's newest Kubernetes, or with Podman NodeImage
	State     string // directory, at the same path in every container
}

// podman reports whether the containers are Podman's. Then no registry has been asked
// for anything: the nodes' image, the control plane's images and the CNI are the lab's.
func (o Options) podman() bool { return o.Engine == Podman }

// program is the command of the engine.
func (o Options) program() string {
	if o.podman() {
		return filepath.Join(o.State, "bin", "podman")
	}
	return Docker
}

func (o Options) family() string {
	if o.Family == "" {
		return Dual
	}
	return o.Family
}

func (o Options) services() string {
	if o.Services == "" {
		return "198.19.0.0/16"
	}
	return o.Services
}

func (o Options) image() string {
	switch {
	case o.Image != "":
		return o.Image
	case o.podman():
		return NodeImage
	}
	return newestNode
}

// Check returns what is wrong with the options.
func (o Options) Check() error {
	switch o.family() {
	case IPv4, IPv6, Dual:
		return nil
	}
	return fmt.Errorf("family %q is none of %s, %s and %s", o.Family, IPv4, IPv6, Dual)
}

// Duration says how long it takes until the cluster is up.
func (o Options) Duration() string {
	if o.podman() {
		return "kind on Podman: the cluster is up after 3 minutes. The first time programs and images are made before, 15 minutes of CPU time"
	}
	return "kind on Docker: the cluster is up after 2 minutes"
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
`, Cluster, o.family(), proxy, o.both("198.18.128.0/17", "fd98:18:80::/48"), o.both(o.services(), "fd98:19::/112"))
	if o.podman() {
		out.WriteString(ownCNI)
	}
	fmt.Fprintf(&out, `nodes:
- role: control-plane
  image: %s
%s`, o.image(), o.mounts())
	for i := range Workers {
		fmt.Fprintf(&out, `- role: worker
  image: %s
  kubeadmConfigPatches:
  - |
    kind: JoinConfiguration
    nodeRegistration:
      name: %s
%s`, o.image(), nodeName(i), o.mounts())
	}
	return out.String()
}

// ownCNI leaves kind's CNI out, whose image is in a registry. The kubelet asks for the
// other line where the machine has cgroups v1.
const ownCNI = `  disableDefaultCNI: true
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  failCgroupV1: false
`

// mounts are the directories that every node shares with the machine.
func (o Options) mounts() string {
	return fmt.Sprintf("  extraMounts:\n  - hostPath: %s\n    containerPath: %[1]s\n", o.State)
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

// nodeName is the name of the Node in that container.
func nodeName(i int) string { return fmt.Sprintf("node%d", i+1) }

const controlPlane = Cluster + "-control-plane"

// Containers are the names of the cluster's containers, as Describe wants them: the
// control plane, then the workers in their order.
func Containers() []string {
	names := []string{controlPlane}
	for i := range Workers {
		names = append(names, container(i))
	}
	return names
}
