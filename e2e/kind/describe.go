package kind

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/fairlead/fairlead/e2e/lab"
)

// Found is what the engine and Kubernetes say of a container and its Node.
type Found struct {
	Name       string // of the container
	IPv4, IPv6 string
	Pods       []string // ranges, IPv4 first
}

// podRoutes lead to the pods of the node.
func (f Found) podRoutes() []string {
	var routes []string
	for _, pods := range f.Pods {
		via := f.IPv4
		if strings.Contains(pods, ":") {
			via = f.IPv6
		}
		routes = append(routes, pods+" via "+via)
	}
	return routes
}

// ReadAddresses reads the output of "inspect" of one container, its addresses on the LAN.
func ReadAddresses(inspected []byte) (Found, error) {
	var list []struct {
		Name            string
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress, GlobalIPv6Address string }
		}
	}
	if err := json.Unmarshal(inspected, &list); err != nil {
		return Found{}, fmt.Errorf("inspect: %w", err)
	}
	if len(list) != 1 {
		return Found{}, fmt.Errorf("inspect: %d containers", len(list))
	}
	n, ok := list[0].NetworkSettings.Networks[lan]
	if !ok {
		return Found{}, fmt.Errorf("inspect: the container is not on network %s", lan)
	}
	return Found{Name: strings.TrimPrefix(list[0].Name, "/"), IPv4: n.IPAddress, IPv6: n.GlobalIPv6Address}, nil
}

// Inspect is the command whose output ReadAddresses reads.
func (o Options) Inspect(name string) Command { return o.engine("inspect", name) }

// PodRanges is the command whose output ReadPodRanges reads.
func (o Options) PodRanges() Command {
	return o.engine("exec", controlPlane, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "get", "nodes", "-o", "json")
}

// ReadPodRanges reads the ranges of each Node's pods, by the name of its container.
func ReadPodRanges(nodes []byte) (map[string][]string, error) {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ PodCIDRs []string }
		}
	}
	if err := json.Unmarshal(nodes, &list); err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	ranges := map[string][]string{}
	for _, n := range list.Items {
		name := n.Metadata.Name
		for i := range Workers {
			if name == nodeName(i) {
				name = container(i)
			}
		}
		ranges[name] = n.Spec.PodCIDRs
	}
	return ranges, nil
}

// Internal is the command that prints a kubeconfig for hosts on the LAN. Such a host may
// not know the name in it, so it is replaced by the address of the control plane.
func (o Options) Internal(f Files, path string) Command {
	return o.kind(f, path, "get", "kubeconfig", "--internal", "--name="+Cluster)
}

// ByAddress is a kubeconfig that Internal has printed, with an address in it.
func ByAddress(kubeconfig []byte, ip string) []byte {
	from, to := "https://"+controlPlane+":6443", "https://"+net.JoinHostPort(ip, "6443")
	return []byte(strings.ReplaceAll(string(kubeconfig), from, to))
}

// Describe is the cluster as the stories reach it: through the engine's exec. Found has
// the control plane first, and then the workers.
func (o Options) Describe(f Files, found []Found) *lab.Description {
	engine := o.program()
	exec := func(name string) []string { return []string{engine, "exec", "--interactive", name} }
	d := &lab.Description{
		Kubeconfig: f.Kubeconfig, APIHost: o.APIHost(found), APIPort: 6443, State: o.State,
		Agents: len(found), LeftOut: o.LeftOut(),
		Hosts: map[string]lab.Host{
			lab.ControlPlane: {Enter: exec(controlPlane)},
			lab.Client:       {Enter: exec(lan + "-client")},
			lab.Router:       {Enter: exec(lan + "-router")},
			lab.Ext:          {Enter: exec(lan + "-ext")},
		},
		Load:     o.load(f),
		StopAPI:  o.inControlPlane(holdAPI),
		StartAPI: o.inControlPlane(releaseAPI),
		APIRuns:  o.inControlPlane(`pgrep -x kube-apiserver`),
	}
	for i, w := range found[1:] {
		name, c := nodeName(i), container(i)
		d.Nodes = append(d.Nodes, name)
		d.Hosts[name] = lab.Host{
			Enter: exec(c), IPv4: w.IPv4, IPv6: w.IPv6, Pods: w.Pods,
			PowerOff: o.PowerOff(c).Args, PowerOn: o.PowerOn(c).Args,
			Freeze: []string{engine, "pause", c}, Thaw: []string{engine, "unpause", c},
			Runs: []string{"sh", "-c", `[ "$("$0" inspect -f '{{.State.Running}}' "$1")" = true ]`, engine, c},
		}
	}
	return d
}

// APIHost is where the agents reach the API server.
func (o Options) APIHost(found []Found) string {
	if o.family() == IPv6 {
		return found[0].IPv6
	}
	return found[0].IPv4
}

// load is the command that brings an archive of an image to every node. kind finds the
// engine's program by PATH.
func (o Options) load(f Files) []string {
	load := []string{f.Kind, "load", "image-archive", "--name=" + Cluster, "{}"}
	if !o.podman() {
		return load
	}
	return append([]string{"sh", "-c", `PATH="$0:$PATH" KIND_EXPERIMENTAL_PROVIDER=podman exec "$@"`, filepath.Dir(o.program())}, load...)
}

func (o Options) inControlPlane(script string) []string {
	return o.engine("exec", controlPlane, "sh", "-c", script).Args
}

// holdAPI takes the static pods' manifests away from the kubelet, which then ends
// the API server and what would end by itself without it. It waits two minutes.
const holdAPI = `mkdir -p /etc/kubernetes/held
for p in kube-apiserver kube-controller-manager kube-scheduler; do mv /etc/kubernetes/manifests/$p.yaml /etc/kubernetes/held/; done
for i in $(seq 120); do pgrep -x kube-apiserver >/dev/null || exit 0; sleep 1; done
exit 1`

// releaseAPI gives them back, and waits two minutes until the API server is ready.
const releaseAPI = `mv /etc/kubernetes/held/*.yaml /etc/kubernetes/manifests/
for i in $(seq 120); do kubectl --kubeconfig=/etc/kubernetes/admin.conf get --raw=/readyz >/dev/null 2>&1 && exit 0; sleep 1; done
exit 1`

// PowerOff cuts the power of a node. Podman's kill leaves a container's network, and its
// kernel answers in it until the next start. So the link goes first, and stop removes the
// network.
func (o Options) PowerOff(name string) Command {
	return Command{Args: []string{"sh", "-c", `"$0" exec "$1" ip link set eth0 down; exec "$0" stop --time=0 "$1"`, o.program(), name}}
}

// PowerOn starts it again, with its routes. Nothing can be run in a container while its first
// programs move it to other cgroups.
func (o Options) PowerOn(name string) Command {
	const script = `"$0" start "$1" && for i in $(seq 60); do "$0" exec "$1" ip -batch "$2" && exit 0; sleep 1; done; exit 1`
	return Command{Args: []string{"sh", "-c", script, o.program(), name, routeFile}}
}
