package lab

import (
	"os"
	"path/filepath"
)

// kubeRouter runs kube-router on each node, for the pods' network and NetworkPolicies. It
// leaves Services alone.
type kubeRouter struct{}

func (kubeRouter) programs() []program {
	const module = "github.com/cloudnativelabs/kube-router/v2"
	return []program{{name: "kube-router", module: module, commands: []string{module + "/cmd/kube-router"}, ldflags: stripped}}
}

func (kubeRouter) packages() []debianPackage { return []debianPackage{{"ipset", "ipset"}} }
func (kubeRouter) policies() bool            { return true }

// start starts kube-router. It ends until the kubelet has given the Node an address.
func (kubeRouter) start(l *Lab, n node) error {
	file := filepath.Join(l.state.node(n.name), "kube-router.conflist")
	if err := os.WriteFile(file, []byte(kubeRouterConfig()), 0o644); err != nil {
		return err
	}
	const config = "/etc/cni/net.d/10-kuberouter.conflist"
	// kube-router writes into this file, which has to be the node's own.
	script := `cp "$0" ` + config + ` && until "$@"; do sleep 1; done`
	return l.startIn(n, "kube-router", "/bin/sh", "-c", script, file,
		"env", "KUBE_ROUTER_CNI_CONF_FILE="+config, l.programs["kube-router"],
		"--kubeconfig="+l.pki("admin.kubeconfig"), "--hostname-override="+n.name,
		"--run-router=true", "--run-firewall=true", "--run-service-proxy=false", "--run-loadbalancer=false",
		"--bgp-graceful-restart=true", // without it there is no IPv6 between nodes
		"--enable-ipv4=true", "--enable-ipv6=true", "--service-cluster-ip-range="+l.opt.Services+","+serviceIPv6)
}

// kubeRouterConfig has no ranges of addresses where kube-router writes those of the Node.
func kubeRouterConfig() string {
	return marshal(object{
		"cniVersion": "0.3.0", "name": "mynet",
		"plugins": []object{{
			"name": "kubernetes", "type": "bridge", "bridge": "kube-bridge", "isDefaultGateway": true, "hairpinMode": true,
			"ipam": object{"type": "host-local"},
		}, portmap},
	})
}
