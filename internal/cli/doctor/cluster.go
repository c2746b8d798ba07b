package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Cluster finds what is wrong with s.
func Cluster(s *cluster.State) []Finding {
	var out []Finding
	for _, check := range []func(*cluster.State) []Finding{pools, services, annotations, processes, agents, undirected, ranges, strangers, versions, rights, gaps, announced, others, forwarders, peers} {
		out = append(out, check(s)...)
	}
	return sorted(out)
}

// Rejected is one reason why the API server would refuse a manifest.
type Rejected struct{ Kind, Namespace, Name, Message string }

// Files finds what is wrong with manifests: with those that the API server would take,
// and with those that it refuses.
func Files(s *cluster.State, refused []Rejected) []Finding {
	out := slices.Concat(pools(s), services(s), annotations(s))
	for _, p := range refused {
		about := Object{Resource: strings.ToLower(p.Kind), Namespace: p.Namespace, Name: p.Name}
		out = append(out, find(Refused, about, "", "the API server refuses %s %s: %s", p.Kind, strings.TrimPrefix(p.Namespace+"/"+p.Name, "/"), p.Message))
	}
	for i := range out {
		out[i].Next = "correct it before it is applied; docs/troubleshooting.md explains " + string(out[i].Code)
	}
	return sorted(out)
}

func node(name string) Object { return Object{Resource: "node", Name: name} }

func pod(s *cluster.State, name string) Object {
	return Object{Resource: "pod", Namespace: s.Namespace, Name: name}
}

// processes are the controllers' Lease and the pods.
func processes(s *cluster.State) (out []Finding) {
	look := "kubectl -n " + s.Namespace + " get pods -l app.kubernetes.io/component=controller"
	lease := Object{Resource: "lease", Namespace: s.Namespace, Name: s.Leader.Holder}
	switch l := s.Leader; {
	case unread(s, "leases"):
	case l.Holder == "":
		out = append(out, find(NoLeader, Object{}, look, "no controller holds the Lease in namespace %s: no Service gets an address", s.Namespace))
	case s.Now.Sub(l.Renewed) > l.Lasts:
		out = append(out, find(NoLeader, lease, look, "controller %s led and has not renewed its Lease for %s: no Service gets an address", l.Holder, cluster.Ago(s.Now, l.Renewed)))
	}
	for _, p := range s.Pods {
		if p.Ready || p.Waiting == "" {
			continue
		}
		why := p.Waiting
		if p.Exited != "" {
			why += ", it ended last with " + p.Exited
		}
		out = append(out, find(PodBroken, pod(s, p.Name), "kubectl -n "+s.Namespace+" describe pod "+p.Name+"; kubectl -n "+s.Namespace+" logs "+p.Name+" --previous",
			"%s on node %s does not run: %s", p.Component, cmp.Or(p.Node, "(none)"), why))
	}
	if s.PodSecurity != "" && s.PodSecurity != "privileged" {
		out = append(out, find(PodSecurity, Object{Resource: "namespace", Name: s.Namespace},
			"kubectl label --overwrite namespace "+s.Namespace+" pod-security.kubernetes.io/enforce=privileged",
			"namespace %s enforces Pod Security %q: agents, which use the nodes' network, are not admitted", s.Namespace, s.PodSecurity))
	}
	return out
}

func unread(s *cluster.State, what string) bool {
	return slices.ContainsFunc(s.Gaps, func(g cluster.Gap) bool { return g.What == what })
}

// agents are the nodes' own words, or their absence.
func agents(s *cluster.State) (out []Finding) {
	for _, n := range s.Nodes {
		pods := "kubectl -n " + s.Namespace + " get pods -o wide -l app.kubernetes.io/component=agent --field-selector spec.nodeName=" + n.Name
		a := s.NodeState(n.Name)
		if a == nil && n.Labels["kubernetes.io/os"] == "windows" {
			continue // agents run on Linux alone
		}
		switch {
		case a == nil:
			out = append(out, find(NoAgent, node(n.Name), pods, "node %s has no NodeState: no agent ever ran there, so nothing forwards Services there", n.Name))
		case s.Silent(a):
			out = append(out, find(SilentAgent, node(n.Name), pods, "the agent of node %s is silent%s: it wrote its NodeState last %s ago", n.Name, to(s.SilentTo(n.Name)), cluster.Ago(s.Now, a.Renewed)))
		case !a.InSync:
			out = append(out, find(OutOfSync, node(n.Name), s.Logs("agent", n.Name)+"; "+s.LookAt(n.Name), "the engine of node %s does not hold everything it should: %s", n.Name, cmp.Or(a.Engine.Message, "it did not say why")))
		}
		if a == nil {
			continue
		}
		if by := s.SilentTo(n.Name); !s.Silent(a) && s.CutOff(a) && (s.Unheard(a) || slices.ContainsFunc(by, inTouch(s))) {
			out = append(out, find(SilentToOthers, node(n.Name), "open port 7947, TCP and UDP, between the nodes; "+s.LookAt(n.Name),
				"node %s writes to the API server, but the agents on %s do not hear it, nor it them: it announces nothing, and others may keep connections from its pods", n.Name, few(by)))
		}
		if c := a.Conditions["Routers"]; c.Status == "False" {
			out = append(out, find(NoRouter, node(n.Name), "ip route add default via ROUTER dev LINK metric 5000, on the node", "node %s: %s", n.Name, c.Message))
		}
		if c := a.Conditions["Sysctls"]; c.Status == "False" {
			out = append(out, find(KernelSetting, node(n.Name), "set it in /etc/sysctl.d on the node, or let the agent do it (chart value agent.setSysctls: true)", "node %s: %s", n.Name, c.Message))
		}
	}
	return out
}

// undirected are the nodes that are not able to do what asks for Direct. That a node has
// no agent is a finding of its own.
func undirected(s *cluster.State) (out []Finding) {
	asks := s.Directed()
	if len(asks) == 0 {
		return nil
	}
	for _, a := range s.NodeStates {
		why := s.Undirected(a.Node)
		if why == "" {
			continue
		}
		next := "docs/director.md has what a node needs; set forwarding: Masquerade if it stays as it is"
		if a.Director == nil {
			next = "wait for the upgrade to end (kubectl -n " + s.Namespace + " rollout status daemonset)"
		}
		out = append(out, find(NotDirect, node(a.Node), next, "%s for Direct, and node %s is not able: %s. Its part of the connections, and what it announces, is served as with Masquerade", asking(asks), a.Node, why))
	}
	return out
}

func asking(services []*snapshot.Service) string {
	if len(services) == 1 {
		return services[0].Ref.String() + " asks"
	}
	return fmt.Sprintf("%d Services, such as %s, ask", len(services), services[0].Ref)
}

// inTouch returns a function that reports whether the agent of a node is heard by the
// others. One that is not says of all others that it does not hear them.
func inTouch(s *cluster.State) func(node string) bool {
	return func(node string) bool {
		a := s.NodeState(node)
		return a != nil && !s.Unheard(a)
	}
}

// to says to which agents one is silent.
func to(by []string) string {
	if len(by) == 0 {
		return ""
	}
	return " to those on " + few(by)
}

// ranges is whether agents that forward can tell an unused ClusterIP from any other
// address: an API server before Kubernetes 1.33 does not say.
func ranges(s *cluster.State) []Finding {
	forwards := slices.ContainsFunc(s.NodeStates, func(a *snapshot.NodeState) bool { return a.Engine.Mode == "nftables" })
	unread := slices.ContainsFunc(s.Gaps, func(g cluster.Gap) bool { return g.What == "servicecidrs" })
	if !forwards || unread || len(s.Snapshot.ServiceCIDRs)+len(s.Forwarding.ServiceCIDRs) > 0 {
		return nil
	}
	return []Finding{find(NoServiceCIDR, Object{}, "set the chart's agent.serviceCIDRs to the API server's --service-cluster-ip-range",
		"this API server has no ServiceCIDR objects, and the agents were not told the range: packets to ClusterIPs that no Service has follow the default route, and a pool in that range is not refused")}
}

// versions are those of agents, and the images of all pods.
func versions(s *cluster.State) []Finding {
	by := map[string][]string{}
	for _, a := range s.Heard() {
		by[a.Version] = append(by[a.Version], "node "+a.Node)
	}
	next := "wait for the upgrade to end (kubectl -n " + s.Namespace + " rollout status daemonset); if it does not, look at the pods that are left behind"
	if len(by) > 1 {
		return []Finding{find(VersionSkew, Object{}, next, "agents run different versions: %s", spread(by))}
	}
	by = map[string][]string{}
	for _, p := range s.Pods {
		by[p.Image] = append(by[p.Image], p.Name)
	}
	if len(by) > 1 {
		return []Finding{find(VersionSkew, Object{}, next, "pods run different images: %s", spread(by))}
	}
	return nil
}

// spread says who has what, the rarest first, four names of each.
func spread(by map[string][]string) string {
	keys := slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(by[a]), len(by[b])), cmp.Compare(a, b))
	})
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = cmp.Or(k, "(none)") + " on " + few(by[k])
	}
	return strings.Join(parts, "; ")
}

const fewNames = 4

// few lists the first names and counts the rest.
func few(names []string) string {
	if len(names) <= fewNames {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:fewNames], ", ") + " and " + cluster.Count(len(names)-fewNames, "other")
}

func rights(s *cluster.State) (out []Finding) {
	for _, p := range s.Permissions {
		out = append(out, find(MissingRights, Object{Resource: "serviceaccount", Namespace: s.Namespace, Name: p.Account},
			"install the chart's roles again: helm upgrade fairlead charts/fairlead -n "+s.Namespace+" --reset-then-reuse-values",
			"ServiceAccount %s/%s may not %s %s", s.Namespace, p.Account, p.Verb, p.Resource))
	}
	return out
}

func gaps(s *cluster.State) (out []Finding) {
	for _, g := range s.Gaps {
		out = append(out, find(NotRead, Object{}, "ask for the ClusterRole fairlead-support, or go on without", "%s could not be read: %s", g.What, g.Why))
	}
	return out
}

// others is software that does what fairlead does.
func others(s *cluster.State) (out []Finding) {
	if s.KubeProxy.Runs {
		out = append(out, beside(s)...)
	}
	by := map[string][]string{}
	for _, o := range s.Others {
		by[o.Name] = append(by[o.Name], o.Object)
	}
	if !s.Allocation.DefaultClass {
		return out // the Services without a class are left to it
	}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		out = append(out, find(OtherBalancer, Object{}, "remove it, or install fairlead with defaultClass: false and give its Services the loadBalancerClass "+s.Allocation.Class,
			"%s runs (%s), and fairlead serves Services without a loadBalancerClass too: both write the addresses of the same Services", name, few(by[name])))
	}
	return out
}

// beside is what can go wrong next to kube-proxy.
func beside(s *cluster.State) (out []Finding) {
	ds := Object{Resource: "daemonset", Namespace: "kube-system", Name: "kube-proxy"}
	var both []string
	for _, a := range s.NodeStates {
		if a.Engine.Mode == "nftables" && !saysForwarder(a) {
			both = append(both, a.Node)
		}
	}
	if len(both) > 0 {
		out = append(out, find(TwoProxies, ds, "remove one of them: docs/migrate-kube-proxy.md shows how, or install fairlead with agent.proxy: auto",
			"kube-proxy is deployed in this cluster, and fairlead forwards Services too, on %s", few(both)))
	}
	if s.KubeProxy.Mode == "ipvs" && !s.KubeProxy.StrictARP {
		out = append(out, find(StrictARP, Object{Resource: "configmap", Namespace: "kube-system", Name: "kube-proxy"},
			"set ipvs.strictARP: true in the ConfigMap kube-system/kube-proxy and restart kube-proxy: kubectl -n kube-system rollout restart daemonset kube-proxy",
			"kube-proxy runs in IPVS mode without strictARP: every node answers ARP for every address of a Service, no matter which node announces it"))
	}
	return out
}

func peers(s *cluster.State) (out []Finding) {
	for _, a := range s.Heard() { // that the others are silent was said
		for _, v := range a.Peers {
			if !v.Established() {
				out = append(out, find(PeerDown, Object{Resource: "bgppeer.fairlead.io", Name: v.Name}, "kubectl describe bgppeer "+v.Name+"; see that the router accepts the session from the node's address",
					"node %s has no session with BGP peer %s (%s): %s: %s", a.Node, v.Name, v.Address, v.State, cmp.Or(v.LastError, "it did not say why")))
			}
		}
	}
	for _, p := range s.Peers {
		if all, up := s.SessionsWith(p.Name); p.Ready.Status == "False" && len(all) == up {
			out = append(out, find(PeerDown, Object{Resource: "bgppeer.fairlead.io", Name: p.Name}, "kubectl describe bgppeer "+p.Name+"; see that the router accepts the session from the nodes' addresses",
				"BGP peer %s (%s, AS %d): %s: %s", p.Name, p.Address, p.ASN, p.Ready.Reason, p.Ready.Message))
		}
	}
	return out
}
