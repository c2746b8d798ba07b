package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// calico runs calico-node's startup, its addresses of tunnels, and Felix on each node, with
// VXLAN, iptables, and the API as its store.
type calico struct{}

// calicoIPv4 and calicoIPv6 are the pools of Calico's IPAM: no Node's podCIDRs are in them.
const calicoIPv4, calicoIPv6 = "198.18.192.0/18", "fd98:18:80:c000::/64"

const calicoModule = "github.com/projectcalico/calico"

func (calico) programs() []program {
	commands := []string{calicoModule + "/cni-plugin/cmd/calico", calicoModule + "/node/cmd/calico-node"}
	return []program{{name: "calico", module: calicoModule, commands: commands, ldflags: stripped}}
}

func (calico) packages() []debianPackage { return []debianPackage{{"ipset", "ipset"}} }
func (calico) policies() int             { return 2 }

// admit applies the custom resources that are in Calico's module.
func (calico) admit(ctx context.Context, l *Lab) error {
	dir, err := moduleDir(ctx, l.opt.Source, calico{}.programs()[0])
	if err != nil {
		return err
	}
	_, err = l.Kubectl(ctx, "apply", "--server-side", "-f", filepath.Join(dir, "libcalico-go", "config", "crd"))
	return err
}

func (calico) start(l *Lab, n node) error {
	file := filepath.Join(l.state.node(n.name), "calico.conflist")
	if err := os.WriteFile(file, []byte(calicoConfig(n, l.pki("admin.kubeconfig"))), 0o644); err != nil {
		return err
	}
	args := []string{
		"env", "DATASTORE_TYPE=kubernetes", "KUBECONFIG=" + l.pki("admin.kubeconfig"), "WAIT_FOR_DATASTORE=true", "NODENAME=" + n.name,
		"CALICO_NETWORKING_BACKEND=vxlan", "CLUSTER_TYPE=k8s", "CALICO_DISABLE_FILE_LOGGING=true",
		"IP=autodetect", "IP6=autodetect", "CALICO_IPV4POOL_CIDR=" + calicoIPv4, "CALICO_IPV6POOL_CIDR=" + calicoIPv6,
		"CALICO_IPV4POOL_IPIP=Never", "CALICO_IPV4POOL_VXLAN=Always", "CALICO_IPV6POOL_VXLAN=Always", "CALICO_IPV6POOL_NAT_OUTGOING=true",
		"FELIX_DATASTORETYPE=kubernetes", "FELIX_FELIXHOSTNAME=" + n.name, "FELIX_IPV6SUPPORT=true",
		"FELIX_DEFAULTENDPOINTTOHOSTACTION=ACCEPT", "FELIX_LOGFILEPATH=none", "FELIX_LOGSEVERITYSYS=none", "FELIX_USAGEREPORTINGENABLED=false",
		// What is built without C ends when it is asked for eBPF, also to clean up.
		"FELIX_XDPENABLED=false", "FELIX_DebugSkipCTLBCleanup=true",
	}
	return l.startIn(n, "calico-node", append(args, "/bin/sh", "-c", calicoScript, l.programs["calico-node"], l.programs["calico"], file)...)
}

// calicoScript does what the entry points of Calico's images do, and in their order. $0 is
// calico-node, $1 the plugin, and $2 its configuration, which containerd gets when Felix has
// chosen an MTU.
const calicoScript = `set -e
mkdir -p /var/lib/calico
ln -sf "$1" /opt/cni/bin/calico
ln -sf "$1" /opt/cni/bin/calico-ipam
until "$0" -startup && "$0" -allocate-tunnel-addrs -allocate-tunnel-addrs-run-once; do sleep 1; done
until "$0" -allocate-tunnel-addrs; do sleep 1; done &
until "$0" -felix; do sleep 1; done &
until [ -s /var/lib/calico/mtu ]; do sleep 0.1; done
cp "$2" /etc/cni/net.d/.calico
mv /etc/cni/net.d/.calico /etc/cni/net.d/10-calico.conflist
wait`

func calicoConfig(n node, kubeconfig string) string {
	return marshal(object{
		"cniVersion": "0.3.1", "name": "k8s-pod-network",
		"plugins": []object{{
			"type": "calico", "datastore_type": "kubernetes", "nodename": n.name, "mtu": 0,
			"ipam":       object{"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"},
			"policy":     object{"type": "k8s"},
			"kubernetes": object{"kubeconfig": kubeconfig},
		}, portmap},
	})
}

// blocks are the ranges of a node's pods, by Felix's routes: none while it has no power.
func (calico) blocks(ctx context.Context, l *Lab, n node) []string {
	var blocks []string
	for _, family := range []string{"-4", "-6"} {
		out, err := l.Exec(ctx, n.name, "ip", family, "route", "show", "type", "blackhole")
		if err != nil {
			return nil
		}
		blocks = append(blocks, blackholes(string(out))...)
	}
	return blocks
}

func blackholes(routes string) (to []string) {
	for line := range strings.Lines(routes) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "blackhole" {
			to = append(to, f[1])
		}
	}
	return to
}
