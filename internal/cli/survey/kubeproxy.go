package survey

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/internal/cli/cluster"
)

// kubeProxyConfig is what matters of kube-proxy's configuration.
type kubeProxyConfig struct {
	Mode              string   `json:"mode"`
	NodePortAddresses []string `json:"nodePortAddresses"`
	IPTables          struct {
		LocalhostNodePorts *bool `json:"localhostNodePorts"`
	} `json:"iptables"`
	IPVS struct {
		StrictARP bool   `json:"strictARP"`
		Scheduler string `json:"scheduler"`
	} `json:"ipvs"`
	Conntrack struct {
		MaxPerCore            *int   `json:"maxPerCore"`
		Min                   *int   `json:"min"`
		TCPEstablishedTimeout string `json:"tcpEstablishedTimeout"`
		TCPCloseWaitTimeout   string `json:"tcpCloseWaitTimeout"`
		TCPBeLiberal          bool   `json:"tcpBeLiberal"`
		UDPTimeout            string `json:"udpTimeout"`
		UDPStreamTimeout      string `json:"udpStreamTimeout"`
	} `json:"conntrack"`
}

// kubeProxy reads what matters of kube-proxy's configuration. Without a mode it could not be
// read.
func kubeProxy(cm *corev1.ConfigMap) cluster.KubeProxy {
	var c kubeProxyConfig
	if err := yaml.Unmarshal([]byte(cm.Data["config.conf"]), &c); err != nil {
		return cluster.KubeProxy{}
	}
	out := cluster.KubeProxy{
		Mode: cmp.Or(c.Mode, "iptables"), StrictARP: c.IPVS.StrictARP, NodePortAddresses: c.NodePortAddresses, Settings: c.settings(),
	}
	switch out.Mode {
	case "ipvs":
		out.Scheduler = c.IPVS.Scheduler
		out.Localhost = true
	case "iptables":
		out.Localhost = c.IPTables.LocalhostNodePorts == nil || *c.IPTables.LocalhostNodePorts
	}
	return out
}

// settings names the settings of connection tracking that differ from kube-proxy's defaults,
// which agents see to.
func (c kubeProxyConfig) settings() (out []string) {
	t := c.Conntrack
	differs := func(name, has string, defaults ...string) {
		for _, d := range append(defaults, "", "0s") {
			if has == d {
				return
			}
		}
		out = append(out, name+": "+has)
	}
	number := func(n *int) string {
		if n == nil {
			return ""
		}
		return fmt.Sprint(*n)
	}
	differs("conntrack.maxPerCore", number(t.MaxPerCore), "32768", "0")
	differs("conntrack.min", number(t.Min), "131072", "0")
	differs("conntrack.tcpEstablishedTimeout", t.TCPEstablishedTimeout, "24h0m0s", "24h")
	differs("conntrack.tcpCloseWaitTimeout", t.TCPCloseWaitTimeout, "1h0m0s", "1h")
	differs("conntrack.udpTimeout", t.UDPTimeout)
	differs("conntrack.udpStreamTimeout", t.UDPStreamTimeout)
	if t.TCPBeLiberal {
		differs("conntrack.tcpBeLiberal", "true")
	}
	return out
}
