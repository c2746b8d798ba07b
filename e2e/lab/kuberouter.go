package lab

import (
	"os"
	"path/filepath"
	"slices"
)

// kubeRouter runs kube-router on each node, for the pods' network and NetworkPolicies. It
// leaves Services alone.
type kubeRouter struct{}

func (kubeRouter) programs() []program {
	const module = "github.com/cloudnativelabs/kube-router/v2"
	return []program{{name: "kube-router", module: module, commands: []string{module + "/cmd/kube-router"}, ldflags: stripped}}
}

func (kubeRouter) packages() []debianPackage { return []debianPackage{{"ipset", "ipset"}} }
func (kubeRouter) policies() int             { return 1 }

// start starts kube-router twice, once for routes and once for NetworkPolicies. Both end
// until the kubelet has given the Node an address.
//
// Version 2.1.0 names a set of IPv6 addresses inet6:KUBE-..., and KUBE-... in the rule that
// asks for it. ip6tables-restore refuses that rule, and kube-router then leaves the rest, which
// may be IPv4 too, until the next change. So the one for NetworkPolicies has IPv4 alone.
func (kubeRouter) start(l *Lab, n node) error {
	file := filepath.Join(l.state.node(n.name), "kube-router.conflist")
	if err := os.WriteFile(file, []byte(kubeRouterConfig()), 0o644); err != nil {
		return err
	}
	const config = "/etc/cni/net.d/10-kuberouter.conflist"
	command := []string{
		l.programs["kube-router"], "--kubeconfig=" + l.pki("admin.kubeconfig"), "--hostname-override=" + n.name,
		"--run-service-proxy=false", "--run-loadbalancer=false", "--enable-ipv4=true",
	}
	router := append(slices.Clone(command), "--run-router=true", "--run-firewall=false", "--enable-ipv6=true",
		"--bgp-graceful-restart=true", // without it there is no IPv6 between nodes
		"--service-cluster-ip-range="+l.opt.Services+","+serviceIPv6)
	firewall := append(slices.Clone(command), "--run-router=false", "--run-firewall=true", "--enable-ipv6=false",
		"--health-port=0", "--service-cluster-ip-range="+l.opt.Services)
	// kube-router writes into this file, which has to be the node's own.
	script := `cp "$0" ` + config + ` && until "$@"; do sleep 1; done`
	err := l.startIn(n, "kube-router", append([]string{"/bin/sh", "-c", script, file, "env", "KUBE_ROUTER_CNI_CONF_FILE=" + config}, router...)...)
	if err != nil {
		return err
	}
	return l.startIn(n, "kube-router-firewall", restarted(firewall...)...)
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
