// Package proxies decides who forwards Services on a node. It goes by what proxies leave
// there: kernel objects, ports and processes.
package proxies

import (
	"cmp"
	"slices"
	"strings"
)

// Name is the name of a Service proxy.
type Name string

// The proxies that are known.
const (
	Fairlead      Name = "fairlead"
	KubeProxy     Name = "kube-proxy" // also as a part of k3s, RKE2 and MicroK8s
	Cilium        Name = "cilium"
	Calico        Name = "calico" // its eBPF data plane
	Antrea        Name = "antrea" // with proxyAll
	OVNKubernetes Name = "ovn-kubernetes"
	KubeRouter    Name = "kube-router"
	Another       Name = "another" // one that leaves nothing known
)

// Kind is a kind of kernel object.
type Kind string

// The kinds of Object.
const (
	Table  Kind = "nftables table"
	Chain  Kind = "iptables chain"        // in nftables, as iptables-nft writes it
	Legacy Kind = "legacy iptables chain" // in the kernel's older tables
	Link   Kind = "link"
	Route  Kind = "route"
)

// Object is a kernel object that one proxy alone makes. Name is
//
//	ip kube-proxy           for a Table, with its family
//	ip nat KUBE-SERVICES    for a Chain or Legacy, with its family and table
//	kube-ipvs0              for a Link
//	antrea-gw0 192.0.2.1    for a Route, with its link
type Object struct {
	Kind Kind
	Name string
}

func (o Object) String() string { return string(o.Kind) + " " + o.Name }

// Facts are what can be seen of the proxies on a node at one moment.
type Facts struct {
	// Objects are those that exist, with a text each that differs after their owner wrote
	// them again.
	Objects map[Object]string
	// Listening are TCP ports on which processes other than the agent listen.
	Listening map[uint16]bool
	// Processes are those that function Processes names, as far as they are in the node's
	// network and can be seen.
	Processes map[string]bool
	// Declared says of proxies why the cluster's objects have them forward.
	Declared map[Name]string
	// Denied are proxies that the cluster's objects have not forward Services.
	Denied map[Name]bool
	// Unread says what could not be read.
	Unread []string
}

// healthPort is where kube-proxy, and proxies that replace it, answer health checks.
const healthPort = 10256

// program is what is known of a proxy.
type program struct {
	name      Name
	objects   []Object
	processes []string // each shows that it runs
	hosts     []string // processes that may have it as a part
	ports     []uint16 // one that is listened on shows that it runs, beside its objects
	// network reports whether pods have their network by it. Then it is never removed from
	// a node that works, and its objects alone show enough.
	network bool
}

// programs are the known proxies, in the order in which they are named.
var programs = []program{
	{
		name: Cilium, network: true,
		objects:   []Object{{Link, "cilium_host"}},
		processes: []string{"cilium-agent"},
	},
	{
		name: Calico, network: true,
		objects: []Object{{Link, "bpfin.cali"}, {Link, "bpfout.cali"}},
		hosts:   []string{"calico-node"}, ports: []uint16{healthPort},
	},
	{
		name: Antrea, network: true,
		objects: []Object{{Route, "antrea-gw0 169.254.0.253"}, {Route, "antrea-gw0 fc01::aabb:ccdd:eeff"}},
		hosts:   []string{"antrea-agent"}, ports: []uint16{10350},
	},
	{
		name: OVNKubernetes, network: true,
		objects:   []Object{{Link, "ovn-k8s-mp0"}, {Table, "inet ovn-kubernetes"}},
		processes: []string{"ovnkube", "ovnkube-node"}, ports: []uint16{healthPort},
	},
	{
		name:    KubeRouter,
		objects: []Object{{Link, "kube-dummy-if"}},
		hosts:   []string{"kube-router"}, ports: []uint16{20244},
	},
	{
		name: KubeProxy,
		objects: []Object{
			{Table, "ip kube-proxy"}, {Table, "ip6 kube-proxy"},
			{Chain, "ip nat KUBE-SERVICES"}, {Chain, "ip6 nat KUBE-SERVICES"},
			{Legacy, "ip nat KUBE-SERVICES"}, {Legacy, "ip6 nat KUBE-SERVICES"},
			{Link, "kube-ipvs0"},
		},
		processes: []string{"kube-proxy"},
		hosts:     []string{"kubelite", "k3s-server", "k3s-agent"},
		ports:     []uint16{healthPort, 10249},
	},
}

// Objects returns all objects to look for.
func Objects() (out []Object) {
	for _, p := range programs {
		out = append(out, p.objects...)
	}
	return out
}

// Processes returns the names of all processes to look for.
func Processes() map[string]bool {
	out := map[string]bool{}
	for _, p := range programs {
		for _, name := range slices.Concat(p.processes, p.hosts) {
			out[name] = true
		}
	}
	return out
}

// Certainty is how sure it is that a proxy forwards.
type Certainty string

// The certainties.
const (
	Runs    Certainty = "runs"
	Unknown Certainty = "unknown" // it may forward
	Left    Certainty = "left"    // its objects are there, and nothing shows that it runs
)

var certainties = []Certainty{Runs, Unknown, Left}

// Found is a proxy that left something on the node.
type Found struct {
	Proxy     Name
	Certainty Certainty
	Here      bool     // the node shows it, and not the cluster's objects alone
	Evidence  []string // what was seen, in a fixed order
}

// String names the proxy with the evidence.
func (f Found) String() string {
	return string(f.Proxy) + " (" + strings.Join(f.Evidence, ", ") + ")"
}

// Strongest returns the one of found that is the surest; false if there is none.
func Strongest(found []Found) (Found, bool) {
	if len(found) == 0 {
		return Found{}, false
	}
	return slices.MinFunc(found, func(a, b Found) int {
		return cmp.Compare(slices.Index(certainties, a.Certainty), slices.Index(certainties, b.Certainty))
	}), true
}
