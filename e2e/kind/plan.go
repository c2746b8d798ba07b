package kind

import (
	"path/filepath"
	"strings"
)

// Command is one program to run, with what it adds to the environment.
type Command struct {
	Env  []string
	Args []string
	In   string // standard input
}

// Files are where a cluster's files lie.
type Files struct{ Kind, Config, Kubeconfig, FRR string }

// Files of a cluster; Kind is the program.
func (o Options) Files(kind string) Files {
	at := func(name string) string { return filepath.Join(o.State, name) }
	return Files{Kind: kind, Config: at("kind.yaml"), Kubeconfig: at("kubeconfig"), FRR: at("run/frr")}
}

// engine is a command of Docker or Podman.
func (o Options) engine(args ...string) Command {
	return Command{Args: append([]string{o.program()}, args...)}
}

// kind is a command of kind, which finds the engine's program by PATH.
func (o Options) kind(f Files, path string, args ...string) Command {
	c := Command{Args: append([]string{f.Kind}, args...), Env: []string{"KIND_EXPERIMENTAL_DOCKER_NETWORK=" + lan}}
	if o.podman() {
		c.Env = []string{"KIND_EXPERIMENTAL_PROVIDER=podman", "KIND_EXPERIMENTAL_PODMAN_NETWORK=" + lan,
			"PATH=" + filepath.Dir(o.program()) + ":" + path}
	}
	return c
}

// Up are the commands that make the networks, the cluster, the client on the LAN, the
// router and the client behind it, in their order. The addresses are those of the lab;
// with Docker, kind's nodes get theirs from a range that nobody else has. Path is PATH.
func (o Options) Up(f Files, path string) []Command {
	var list []Command
	if o.podman() {
		list = o.space()
	}
	list = append(list,
		o.lan(),
		o.engine("network", "create", "--driver=bridge", "--internal", "--ipv6",
			"--subnet=198.18.1.0/24", "--gateway=198.18.1.254", "--subnet=fd98:18:1::/64", "--gateway=fd98:18:1::fe", ext),
		o.kind(f, path, "create", "cluster", "--config="+f.Config, "--kubeconfig="+f.Kubeconfig),
		o.host("client", lan, "198.18.0.100", "fd98:18::64"),
		o.host("ext", ext, "198.18.1.100", "fd98:18:1::64"),
		o.router(f),
		o.engine("network", "connect", "--ip=198.18.1.1", "--ip6=fd98:18:1::1", ext, lan+"-router"),
	)
	// As in the lab, the client knows the way to pods, and to addresses that BGP announces,
	// by its router alone.
	return append(list,
		o.routes(lan+"-client", []string{"default via 198.18.0.254", "default via fd98:18::fe"}),
		o.routes(lan+"-ext", []string{"default via 198.18.1.1", "default via fd98:18:1::1"}))
}

// lan makes the network of the nodes.
func (o Options) lan() Command {
	return o.engine("network", "create", "--driver=bridge", "--ipv6",
		"--subnet=198.18.0.0/24", "--gateway=198.18.0.1", "--ip-range=198.18.0.8/29",
		"--subnet=fd98:18::/64", "--gateway=fd98:18::1", lan)
}

// host is a container that only waits: the nodes' image has every tool that the
// stories use.
func (o Options) host(name, network, v4, v6 string) Command {
	return o.engine("run", "--detach", "--privileged", "--name="+lan+"-"+name, "--network="+network, "--ip="+v4, "--ip6="+v6,
		"--volume="+o.State+":"+o.State, "--entrypoint=sleep", o.image(), "infinity")
}

// router forwards between the two networks and has FRR, which the nodes' image of Podman
// has too.
func (o Options) router(f Files) Command {
	args := []string{"run", "--detach", "--privileged", "--name=" + lan + "-router", "--network=" + lan, "--ip=198.18.0.254", "--ip6=fd98:18::fe",
		"--sysctl=net.ipv4.ip_forward=1", "--sysctl=net.ipv6.conf.all.forwarding=1",
		"--sysctl=net.ipv4.fib_multipath_hash_policy=1", "--sysctl=net.ipv6.fib_multipath_hash_policy=1", "--volume=" + f.FRR + ":/etc/frr"}
	if o.podman() {
		return o.engine(append(args, "--entrypoint=sleep", o.image(), "infinity")...)
	}
	return o.engine(append(args, routerFRR)...)
}

// behind are the routes to what is behind the router.
func (o Options) behind() []string {
	return []string{"198.18.1.0/24 via 198.18.0.254", "fd98:18:1::/64 via fd98:18::fe"}
}

// routeFile is where a container keeps its routes, which it loses with its power.
const routeFile = "/etc/fairlead-routes"

// routes gives a container routes, each as "TO via GATEWAY", now and for SetRoutes.
func (o Options) routes(name string, list []string) Command {
	var in strings.Builder
	for _, r := range list {
		in.WriteString("route replace " + r + "\n")
	}
	c := o.engine("exec", "--interactive", name, "sh", "-c", "cat >"+routeFile+"; exec ip -batch "+routeFile)
	c.In = in.String()
	return c
}

// Settle are the commands that give the router and the nodes, the control plane first,
// what depends on the ranges of the pods: routes, and with Podman the CNI. Cni is the
// configuration of the CNI for the ranges of one node. With Podman, dns is CoreDNS's
// ConfigMap. CoreDNS starts after it, since no node is Ready without a CNI.
func (o Options) Settle(found []Found, cni func(pods []string) string, dns string) []Command {
	var pods []string
	for _, node := range found {
		pods = append(pods, node.podRoutes()...)
	}
	list := []Command{o.routes(lan+"-router", pods)}
	if o.podman() {
		c := o.engine("exec", "--interactive", controlPlane, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "replace", "-f", "-")
		c.In = dns
		list = append(list, c)
	}
	for i, node := range found {
		routes := o.behind()
		for j, other := range found {
			if o.podman() && i != j {
				routes = append(routes, other.podRoutes()...)
			}
		}
		list = append(list, o.routes(node.Name, routes))
		if o.podman() {
			c := o.engine("exec", "--interactive", node.Name, "sh", "-c", "cat >/etc/cni/net.d/10-lab.conflist")
			c.In = cni(node.Pods)
			list = append(list, c)
		}
	}
	return append(list, o.engine("exec", controlPlane, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf",
		"wait", "--for=condition=Ready", "nodes", "--all", "--timeout=5m"))
}

// Down are the commands that remove all of it. Each may fail: it may never have been
// made.
func (o Options) Down(f Files, path string) []Command {
	if o.podman() {
		return o.leave()
	}
	return []Command{
		o.kind(f, path, "delete", "cluster", "--name="+Cluster, "--kubeconfig="+f.Kubeconfig),
		o.engine("rm", "--force", lan+"-client", lan+"-ext", lan+"-router"),
		o.engine("network", "rm", lan, ext),
	}
}

// Story is the command that runs stories in the cluster of a description.
func (o Options) Story(description, run string) Command {
	args := []string{"go", "test", "-count=1", "-v", "-timeout=60m", "./stories/...", "-run=" + run}
	return Command{Env: []string{"FAIRLEAD_E2E=1", "FAIRLEAD_CLUSTER=" + description}, Args: append(o.Enter(), args...)}
}
