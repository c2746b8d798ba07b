package kind

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Here is a cluster of three control planes that kubeadm makes in containers of the nodes'
// image, on Podman and without kind, as docs/control-plane.md says. They share the address
// of the API server by "fairlead control-plane".

// APIAddress is the API server's address of that cluster. No container has it.
const APIAddress = "198.18.0.99"

const planes = 3

// plane is the name of the i-th control plane's container, and of its Node. A node whose name
// ends so imports the images of a control plane.
func plane(i int) string { return fmt.Sprintf("%s%d-control-plane", Cluster, i+1) }

func planeIPv4(i int) string { return fmt.Sprintf("198.18.0.%d", 11+i) }
func planeIPv6(i int) string { return fmt.Sprintf("fd98:18::%x", 11+i) }
func planeMAC(i int) string  { return fmt.Sprintf("02:fa:1e:ad:00:%02x", 11+i) }

// Planes are the control planes in their order.
func Planes() (list []Found) {
	for i := range planes {
		list = append(list, Found{Name: plane(i), IPv4: planeIPv4(i), IPv6: planeIPv6(i)})
	}
	return list
}

// PlaneAt returns the name of the control plane whose MAC address is in the output of "ip
// neigh".
func PlaneAt(neighbours string) (string, error) {
	for i := range planes {
		if strings.Contains(neighbours, planeMAC(i)) {
			return plane(i), nil
		}
	}
	return "", fmt.Errorf("no control plane is at %q", strings.TrimSpace(neighbours))
}

// PlanesUp are the commands that make the LAN and the containers.
func (o Options) PlanesUp() []Command {
	list := append(o.space(), o.lan())
	for i := range planes {
		list = append(list, o.planeContainer(i))
	}
	return list
}

// planeContainer is a container as kind makes them, with an address that it keeps.
func (o Options) planeContainer(i int) Command {
	return o.engine("run", "--detach", "--tty", "--privileged", "--cgroupns=private",
		"--name="+plane(i), "--hostname="+plane(i), "--network="+lan, "--ip="+planeIPv4(i), "--ip6="+planeIPv6(i), "--mac-address="+planeMAC(i),
		"--sysctl=net.ipv6.conf.all.disable_ipv6=0", "--sysctl=net.ipv6.conf.all.forwarding=1", "--tmpfs=/tmp", "--tmpfs=/run",
		"--volume="+plane(i)+":/var:suid,exec,dev", "--volume", "/lib/modules:/lib/modules:ro", "--volume", o.State+":"+o.State,
		"--env=KUBECONFIG=/etc/kubernetes/admin.conf", o.image())
}

// kubeletPatch is what a kubelet in a container needs: kind gives it the same. It is of
// kubeadm's --patches.
const kubeletPatch = `cgroupRoot: /kubelet
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
`

const patches = "/etc/kubernetes/patches"

// Members are the addresses of the control planes, as "fairlead control-plane" wants them.
func Members() string {
	var all []string
	for i := range planes {
		all = append(all, planeIPv4(i))
	}
	return strings.Join(all, ",")
}

// Admit are the commands that prepare a control plane for kubeadm: the key of the members, the
// static pod's manifest, and the nodes' images.
func (o Options) Admit(name, key, manifest string) []Command {
	return []Command{
		o.file(name, "/etc/fairlead/control-plane/members.key", key),
		o.file(name, "/etc/kubernetes/manifests/fairlead-control-plane.yaml", manifest),
		o.file(name, patches+"/kubeletconfiguration+merge.yaml", kubeletPatch),
		o.engine("exec", name, "sh", "-c", `for i in $(seq 300); do [ ! -e /var/lib/images ] || exit 0; sleep 1; done; systemctl status images; exit 1`),
	}
}

// file writes a file that only its owner reads.
func (o Options) file(name, path, text string) Command {
	c := o.engine("exec", "--interactive", name, "sh", "-c", `umask 077 && mkdir -p "$(dirname "$0")" && cat >"$0"`, path)
	c.In = text
	return c
}

// inContainer are the flags of kubeadm that a container needs.
func inContainer() []string { return []string{"--patches=" + patches, "--ignore-preflight-errors=all"} }

// Init is kubeadm on the first control plane.
func (o Options) Init(version string) Command {
	args := []string{"exec", plane(0), "kubeadm", "init", "--control-plane-endpoint=" + APIAddress + ":6443", "--upload-certs",
		"--kubernetes-version=" + version, "--pod-network-cidr=198.18.128.0/17", "--service-cidr=198.19.0.0/16", "--skip-phases=addon/kube-proxy"}
	return o.engine(append(args, inContainer()...)...)
}

// joins matches a command that kubeadm printed over several lines.
var joins = regexp.MustCompile(`kubeadm join(?:[^\n]*\\\n)*[^\n]*`)

// ReadJoin returns the command for further control planes in what Init printed.
func ReadJoin(printed string) ([]string, error) {
	for _, found := range joins.FindAllString(printed, -1) {
		if strings.Contains(found, "--control-plane") {
			return strings.Fields(strings.ReplaceAll(found, "\\\n", " ")), nil
		}
	}
	return nil, errors.New("kubeadm init printed no kubeadm join --control-plane")
}

// Join runs such a command on another control plane.
func (o Options) Join(name string, join []string) Command {
	args := append([]string{"exec", name}, join...)
	return o.engine(append(args, inContainer()...)...)
}

// AdminConfig is the command that prints the administrator's kubeconfig.
func (o Options) AdminConfig() Command {
	return o.engine("exec", plane(0), "cat", "/etc/kubernetes/admin.conf")
}

// ClusterConfig is where the program finds its credentials, once the cluster runs.
const ClusterConfig = "/etc/fairlead/control-plane/kubeconfig"

// Credentials are the commands that give the program of each control plane its credentials.
func (o Options) Credentials() (list []Command) {
	for _, n := range Planes() {
		list = append(list, o.engine("exec", n.Name, "sh", "-c", "umask 077; kubeadm kubeconfig user --client-name fairlead-control-plane >"+ClusterConfig))
	}
	return list
}

// KeptMembers is the command that prints the members that the program of a control plane has
// from the cluster, a line each.
func (o Options) KeptMembers(name string) Command {
	return o.engine("exec", name, "sh", "-c", "cat /var/lib/fairlead-control-plane/members 2>/dev/null")
}

// Network are the commands that give each control plane the CNI for the ranges of its pods, and
// routes to those of the others. Ranges are ReadPodRanges'.
func (o Options) Network(ranges map[string][]string, cni func(pods []string) string) (list []Command) {
	for _, node := range Planes() {
		var routes []string
		for _, other := range Planes() {
			if other.Pods = ranges[other.Name]; other.Name != node.Name {
				routes = append(routes, other.podRoutes()...)
			}
		}
		list = append(list, o.routes(node.Name, routes), o.file(node.Name, "/etc/cni/net.d/10-lab.conflist", cni(ranges[node.Name])))
	}
	return list
}
