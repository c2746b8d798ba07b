package kind

import (
	"path/filepath"
	"strings"
)

// Command is one program to run, with what it adds to the environment.
type Command struct {
	Env  []string
	Args []string
}

// Files are where a cluster's files lie.
type Files struct{ Kind, Config, Kubeconfig, FRR string }

// Files of a cluster; Kind is the program.
func (o Options) Files(kind string) Files {
	at := func(name string) string { return filepath.Join(o.State, name) }
	return Files{Kind: kind, Config: at("kind.yaml"), Kubeconfig: at("kubeconfig"), FRR: at("run/frr")}
}

func docker(args ...string) Command { return Command{Args: append([]string{"docker"}, args...)} }

// Up are the commands that make the networks, the cluster, the client on the LAN, the
// router and the client behind it, in their order. The addresses are those of the
// lab; kind's nodes get theirs from a range that nobody else has.
func (o Options) Up(f Files) []Command {
	list := []Command{
		docker("network", "create", "--driver=bridge", "--ipv6",
			"--subnet=198.18.0.0/24", "--gateway=198.18.0.1", "--ip-range=198.18.0.8/29",
			"--subnet=fd98:18::/64", "--gateway=fd98:18::1", lan),
		docker("network", "create", "--driver=bridge", "--internal", "--ipv6",
			"--subnet=198.18.1.0/24", "--gateway=198.18.1.254", "--subnet=fd98:18:1::/64", "--gateway=fd98:18:1::fe", ext),
		{
			Env:  []string{"KIND_EXPERIMENTAL_DOCKER_NETWORK=" + lan},
			Args: []string{f.Kind, "create", "cluster", "--config=" + f.Config, "--kubeconfig=" + f.Kubeconfig},
		},
		o.host("client", lan, "198.18.0.100", "fd98:18::64"),
		o.host("ext", ext, "198.18.1.100", "fd98:18:1::64"),
		docker("run", "--detach", "--privileged", "--name="+lan+"-router", "--network="+lan, "--ip=198.18.0.254", "--ip6=fd98:18::fe",
			"--sysctl=net.ipv4.ip_forward=1", "--sysctl=net.ipv6.conf.all.forwarding=1",
			"--sysctl=net.ipv4.fib_multipath_hash_policy=1", "--sysctl=net.ipv6.fib_multipath_hash_policy=1", "--volume="+f.FRR+":/etc/frr", routerFRR),
		docker("network", "connect", "--ip=198.18.1.1", "--ip6=fd98:18:1::1", ext, lan+"-router"),
	}
	behind := []string{controlPlane, lan + "-client"}
	for i := range Workers {
		behind = append(behind, container(i))
	}
	for _, name := range behind {
		list = append(list, route(name, "198.18.1.0/24", "198.18.0.254"), route(name, "fd98:18:1::/64", "fd98:18::fe"))
	}
	// Addresses that BGP announces are on no node's network.
	list = append(list, route(lan+"-client", "198.18.2.0/24", "198.18.0.254"), route(lan+"-client", "fd98:18:2::/64", "fd98:18::fe"))
	return append(list, route(lan+"-ext", "default", "198.18.1.1"), route(lan+"-ext", "default", "fd98:18:1::1"))
}

// host is a container that only waits: the nodes' image has every tool that the
// stories use.
func (o Options) host(name, network, v4, v6 string) Command {
	return docker("run", "--detach", "--privileged", "--name="+lan+"-"+name, "--network="+network, "--ip="+v4, "--ip6="+v6,
		"--volume="+o.State+":"+o.State, "--entrypoint=sleep", o.image(), "infinity")
}

func route(name, to, via string) Command {
	return docker("exec", name, "ip", "route", "replace", to, "via", via)
}

// Down are the commands that remove all of it. Each may fail: it may never have been
// made.
func (o Options) Down(f Files) []Command {
	return []Command{
		{Args: []string{f.Kind, "delete", "cluster", "--name=" + Cluster, "--kubeconfig=" + f.Kubeconfig}},
		docker("rm", "--force", lan+"-client", lan+"-ext", lan+"-router"),
		docker("network", "rm", lan, ext),
	}
}

// Story is the command that runs the stories in the cluster of a description. Those
// that it cannot run are left out: see Differences.
func Story(description, run string) Command {
	var skip []string
	for _, d := range Differences {
		skip = append(skip, "^"+d.Story+"$")
	}
	return Command{
		Env:  []string{"FAIRLEAD_E2E=1", "FAIRLEAD_CLUSTER=" + description},
		Args: []string{"go", "test", "-count=1", "-v", "-timeout=60m", "./stories/...", "-run=" + run, "-skip=" + strings.Join(skip, "|")},
	}
}
