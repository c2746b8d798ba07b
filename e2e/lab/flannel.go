package lab

import (
	"os"
	"path/filepath"
)

// flannel runs flanneld on each node, with the API as its store.
type flannel struct{ backend string }

func (flannel) programs() []program {
	const flanneld = "github.com/fairlead/fairlead/e2e/programs/flannel/flanneld"
	return []program{{name: "flannel", module: "github.com/flannel-io/flannel", commands: []string{flanneld}, ldflags: stripped}}
}

func (flannel) packages() []debianPackage { return nil }
func (flannel) policies() int             { return 0 }

// start starts flanneld, and a script that waits for flanneld's choice of an MTU.
func (f flannel) start(l *Lab, n node) error {
	dir := l.state.node(n.name)
	for name, text := range map[string]string{"net-conf.json": f.network(), "flannel.conflist": flannelConfig(n)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	err := l.startIn(n, "flanneld", restarted("env", "NODE_NAME="+n.name, l.programs["flanneld"],
		"--kubeconfig="+l.pki("admin.kubeconfig"), "--config="+filepath.Join(dir, "net-conf.json"))...)
	if err != nil {
		return err
	}
	return l.startIn(n, "flannel-cni", "/bin/sh", "-c", flannelScript, filepath.Join(dir, "flannel.conflist"))
}

func (f flannel) network() string {
	return marshal(object{
		"Network": podsIPv4, "EnableIPv6": true, "IPv6Network": podsIPv6,
		"Backend": object{"Type": f.backend},
	})
}

// flannelMTU stands for the MTU in flannelConfig: flanneld chooses it.
const flannelMTU = 65000

// flannelConfig is what flannel's own plugin has the plugin bridge do. The module of that
// plugin is not on the module proxy.
func flannelConfig(n node) string {
	return marshal(object{
		"cniVersion": "0.4.0", "name": "cbr0",
		"plugins": []object{{
			"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "hairpinMode": true,
			"ipMasq": false, "mtu": flannelMTU,
			"ipam": hostLocal([]string{n.pods().v4, n.pods().v6}, podsIPv4, podsIPv6),
		}, portmap},
	})
}

// flannelScript gives containerd the configuration $0 when flanneld is ready.
const flannelScript = `set -e
until [ -s /run/flannel/subnet.env ]; do sleep 0.1; done
. /run/flannel/subnet.env
sed "s/65000/$FLANNEL_MTU/" "$0" >/etc/cni/net.d/.flannel
mv /etc/cni/net.d/.flannel /etc/cni/net.d/10-flannel.conflist`
