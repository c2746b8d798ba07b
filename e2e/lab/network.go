package lab

import (
	"fmt"
	"strings"
)

// The address plan. 198.18.0.0/15 is the benchmark range of RFC 2544 and
// fd98::/16 is unique local space: nothing real answers there, and nothing in
// the lab has a route out of it.
const (
	lanIPv4, lanIPv6         = "198.18.0.%d/24", "fd98:18::%x/64"
	extIPv4, extIPv6         = "198.18.1.%d/24", "fd98:18:1::%x/64"
	podIPv4, podIPv6         = "198.18.%d.0/24", "fd98:18:80:%x::/64"
	podsIPv4, podsIPv6       = "198.18.128.0/17", "fd98:18:80::/48"
	serviceIPv4, serviceIPv6 = "198.19.0.0/16", "fd98:19::/112"

	kubernetesIPv4, kubernetesIPv6 = "198.19.0.1", "fd98:19::1"
	dnsIPv4, dnsIPv6               = "198.19.0.10", "fd98:19::a"

	// APIHost and APIPort are where the API server answers, for every host of
	// the lab and for the machine itself.
	APIHost = "198.18.0.2"
	APIPort = 6443

	rootNumber, controlNumber, clientNumber, routerNumber = 1, 2, 100, 254
	extClientNumber, extRouterNumber                      = 100, 1
)

// Names of the hosts, as Exec takes them; nodes are node1, node2 and so on.
const (
	ControlPlane = "cp"
	Client       = "client"
	Router       = "router"
	Ext          = "ext"
)

// prefix begins the name of everything that the lab makes outside its state
// directory: network namespaces, cgroups, the machine's own link to the LAN.
const prefix = "fllab-"

const (
	lanNamespace = prefix + "lan"
	rootLink     = prefix + "host"
)

// address is an IPv4 and an IPv6 address with their prefix lengths.
type address struct{ v4, v6 string }

func lanAddress(number int) address {
	return address{fmt.Sprintf(lanIPv4, number), fmt.Sprintf(lanIPv6, number)}
}

func extAddress(number int) address {
	return address{fmt.Sprintf(extIPv4, number), fmt.Sprintf(extIPv6, number)}
}

// podRange is the pod CIDR of the i-th node, counted from 1.
func podRange(i int) address {
	return address{fmt.Sprintf(podIPv4, 128+i), fmt.Sprintf(podIPv6, i)}
}

// bare is the address without the prefix lengths.
func (a address) bare() address {
	v4, _, _ := strings.Cut(a.v4, "/")
	v6, _, _ := strings.Cut(a.v6, "/")
	return address{v4, v6}
}

// list joins both families, IPv4 first.
func (a address) list() string { return a.v4 + "," + a.v6 }

// node is one Kubernetes node of the lab.
type node struct {
	name  string
	index int // counted from 1
}

func (n node) lan() address   { return lanAddress(10 + n.index) }
func (n node) pods() address  { return podRange(n.index) }
func (n node) netns() string  { return prefix + n.name }
func (n node) cgroup() string { return prefix + n.name }

// mac is the fixed link address of a host on the LAN, so that a neighbour
// table can be read by eye.
func mac(number int) string { return fmt.Sprintf("02:fa:1e:ad:00:%02x", number) }

func nodes(count int) []node {
	list := make([]node, count)
	for i := range list {
		list[i] = node{name: fmt.Sprintf("node%d", i+1), index: i + 1}
	}
	return list
}
