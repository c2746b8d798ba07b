package kind

import (
	"encoding/json"
	"fmt"

	"github.com/fairlead/fairlead/e2e/lab"
)

// Found is what Docker and Kubernetes say of a container and its Node.
type Found struct {
	IPv4, IPv6 string
	Pods       []string
}

// ReadAddresses reads the output of "docker inspect" of one container, its addresses
// on the LAN.
func ReadAddresses(inspected []byte) (Found, error) {
	var list []struct {
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress, GlobalIPv6Address string }
		}
	}
	if err := json.Unmarshal(inspected, &list); err != nil {
		return Found{}, fmt.Errorf("docker inspect: %w", err)
	}
	if len(list) != 1 {
		return Found{}, fmt.Errorf("docker inspect: %d containers", len(list))
	}
	n, ok := list[0].NetworkSettings.Networks[lan]
	if !ok {
		return Found{}, fmt.Errorf("docker inspect: the container is not on network %s", lan)
	}
	return Found{IPv4: n.IPAddress, IPv6: n.GlobalIPv6Address}, nil
}

// Describe is the cluster as the stories reach it: through "docker exec". Found has
// the control plane first, and then the workers.
func (o Options) Describe(f Files, found []Found) *lab.Description {
	exec := func(name string) []string { return []string{"docker", "exec", "--interactive", name} }
	d := &lab.Description{
		Kubeconfig: f.Kubeconfig, APIHost: found[0].IPv4, APIPort: 6443, State: o.State,
		Hosts: map[string]lab.Host{
			lab.ControlPlane: {Enter: exec(controlPlane)},
			lab.Client:       {Enter: exec(lan + "-client")},
			lab.Router:       {Enter: exec(lan + "-router")},
			lab.Ext:          {Enter: exec(lan + "-ext")},
		},
		Load:     []string{f.Kind, "load", "image-archive", "--name=" + Cluster, "{}"},
		StopAPI:  inControlPlane(holdAPI),
		StartAPI: inControlPlane(`mv /etc/kubernetes/held/*.yaml /etc/kubernetes/manifests/; ` + untilAPI("!")),
		APIRuns:  inControlPlane(`crictl ps --quiet --name kube-apiserver | grep -q .`),
	}
	if o.family() == IPv6 {
		d.APIHost = found[0].IPv6
	}
	for i, w := range found[1:] {
		name, c := fmt.Sprintf("node%d", i+1), container(i)
		d.Nodes = append(d.Nodes, name)
		d.Hosts[name] = lab.Host{
			Enter: exec(c), IPv4: w.IPv4, IPv6: w.IPv6, Pods: w.Pods,
			PowerOff: []string{"docker", "kill", c}, PowerOn: []string{"docker", "start", c},
			Freeze: []string{"docker", "pause", c}, Thaw: []string{"docker", "unpause", c},
			Runs: []string{"sh", "-c", `[ "$(docker inspect -f '{{.State.Running}}' "$0")" = true ]`, c},
		}
	}
	return d
}

func inControlPlane(script string) []string {
	return []string{"docker", "exec", controlPlane, "sh", "-c", script}
}

// holdAPI takes the static pods' manifests away from the kubelet, which then ends
// the API server and what would end by itself without it.
var holdAPI = `mkdir -p /etc/kubernetes/held; for p in kube-apiserver kube-controller-manager kube-scheduler; do mv /etc/kubernetes/manifests/$p.yaml /etc/kubernetes/held/; done; ` + untilAPI("")

// untilAPI waits two minutes for the API server's container to be gone, or with "!"
// to run.
func untilAPI(not string) string {
	return `for i in $(seq 120); do if ` + not + ` [ -z "$(crictl ps --quiet --name kube-apiserver)" ]; then exit 0; fi; sleep 1; done; exit 1`
}
