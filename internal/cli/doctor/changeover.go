package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// ChangeOver finds what will be different when fairlead forwards in place of kube-proxy, and
// how to keep it. Without kube-proxy's configuration it finds nothing.
func ChangeOver(s *cluster.State) (out []Finding) {
	k := s.KubeProxy
	if k.Mode == "" {
		return nil
	}
	differs := func(next, format string, args ...any) {
		about := Object{Resource: "configmap", Namespace: "kube-system", Name: "kube-proxy"}
		out = append(out, find(Differs, about, next, format, args...))
	}
	if slices.ContainsFunc(s.Services, hasNodePorts) {
		nodePorts(s, differs)
	}
	if n := count(s.Services, func(svc *snapshot.Service) bool { return len(svc.ExternalIPs) > 0 }); n > 0 && !s.Forwarding.ExternalIPs {
		differs("set agent.externalIPs: true, after a look at docs/security.md", "%s has externalIPs, which kube-proxy serves and fairlead does not", cluster.Count(n, "Service"))
	}
	if k.Scheduler != "" && k.Scheduler != "rr" {
		differs("nothing can be set", "kube-proxy chooses endpoints by the IPVS scheduler %s, and fairlead at random, each as often as the others", k.Scheduler)
	}
	for _, setting := range k.Settings {
		differs("set it in /etc/sysctl.d on the nodes", "kube-proxy sets %s on the nodes. fairlead leaves it until a node restarts, and does not set it then", setting)
	}
	return out
}

func hasNodePorts(svc *snapshot.Service) bool {
	return slices.ContainsFunc(svc.Ports, func(p snapshot.Port) bool { return p.NodePort != 0 })
}

func count[T any](all []T, is func(T) bool) (n int) {
	for _, one := range all {
		if is(one) {
			n++
		}
	}
	return n
}

// nodePorts says at which addresses node ports answer by kube-proxy and not by fairlead.
func nodePorts(s *cluster.State, differs func(next, format string, args ...any)) {
	k := s.KubeProxy
	flag := "set agent.extraArgs: [--nodeport-addresses=%s]"
	switch {
	case len(k.NodePortAddresses) == 0 && k.Mode != "nftables" && len(s.NodePortAddresses) == 0:
		differs(fmt.Sprintf(flag, "0.0.0.0/0,::/0"), "kube-proxy's mode %s serves node ports at every address of a node, and fairlead at its primary addresses", k.Mode)
	case len(k.NodePortAddresses) > 0 && !slices.Equal(k.NodePortAddresses, prefixes(s.NodePortAddresses)):
		differs(fmt.Sprintf(flag, strings.Join(k.NodePortAddresses, ",")), "kube-proxy serves node ports at %s, and fairlead %s", strings.Join(k.NodePortAddresses, ","), where(s.NodePortAddresses))
	}
	if k.Localhost && !s.Localhost {
		differs(fmt.Sprintf(flag, "localhost")+", which serves TCP", "kube-proxy's mode %s serves node ports at 127.0.0.1, and fairlead does not", k.Mode)
	}
}

func where(cidrs []netip.Prefix) string {
	if len(cidrs) == 0 {
		return "at a node's primary addresses"
	}
	return "at " + strings.Join(prefixes(cidrs), ",")
}

func prefixes(cidrs []netip.Prefix) (out []string) {
	for _, c := range cidrs {
		out = append(out, c.String())
	}
	return out
}
