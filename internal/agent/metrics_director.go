package agent

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// directorMetrics are what the director of this node has done. The program's counters are
// read when somebody asks for the metrics.
type directorMetrics struct {
	read atomic.Pointer[func() DirectorCounts]
}

// Follow has the metrics read what read returns. It is called at any time from any
// goroutine, and must not wait for a Sync.
func (m *directorMetrics) Follow(read func() DirectorCounts) { m.read.Store(&read) }

func directorDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fairlead_director_"+name, help, labels, nil)
}

var (
	directorAble    = directorDesc("able", "1 while this node passes packets of directed addresses on, and takes those that others pass on.")
	directorAsks    = directorDesc("asks_nftables", "1 while nftables looks for the connections of directed addresses, because the kernel does not let the program do so.")
	directorPackets = directorDesc("packets_total", "Packets to directed addresses, by what this node did: "+
		"served them, directed them to the node of their slot, diverted them because the connection is not here, reset (nobody has the connection), "+
		"asked (nftables looks for the connection, and serves, diverts, resets or drops), limited (the source had too many diverted), dropped (nobody has it, and a node may come back), left (to the stack as if they were not directed), forged (a header of other subnets that no node sends: it is not believed), too-big (for the way to another subnet: the sender was told).", "result")
	directorHops            = directorDesc("hops_total", "Packets to directed addresses that this node served, by how often other nodes had passed them on; more: above 16.", "hops")
	directorVIPPackets      = directorDesc("vip_packets_total", "Packets from outside to a directed address that reached this node, by the address; other: addresses beyond the 4,095th.", "vip")
	directorVIPConnections  = directorDesc("vip_connections_total", "Packets from outside to a directed address that open a TCP connection, by the address.", "vip")
	directorNodePackets     = directorDesc("node_packets_total", "Packets from outside to directed addresses that reached this node, by the node that their slot names.", "node")
	directorNodeConnections = directorDesc("node_connections_total", "Packets from outside to directed addresses that open a TCP connection, by the node that their slot names.", "node")
	directorNodeDiverted    = directorDesc("node_diverted_total", "Packets that this node passed on because it does not have their connection, by the node that got them.", "node")
	directorNodeWeight      = directorDesc("node_weight", "The share of all slots of directed addresses that name a node. The share of connections follows it.", "node")
)

// Describe implements prometheus.Collector.
func (m *directorMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		directorAble, directorAsks, directorPackets, directorHops, directorVIPPackets, directorVIPConnections, directorNodePackets, directorNodeConnections, directorNodeDiverted, directorNodeWeight,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector. Nodes and addresses without a count
// are left out: every agent would name all nodes otherwise.
func (m *directorMetrics) Collect(to chan<- prometheus.Metric) {
	var now DirectorCounts
	if read := m.read.Load(); read != nil {
		now = (*read)()
	}
	to <- prometheus.MustNewConstMetric(directorAble, prometheus.GaugeValue, gaugeValue(now.State != nil && now.State.Able))
	to <- prometheus.MustNewConstMetric(directorAsks, prometheus.GaugeValue, gaugeValue(now.AsksNftables))
	count := func(d *prometheus.Desc, n uint64, label string) {
		if n > 0 {
			to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label)
		}
	}
	for node, weight := range now.Weights {
		to <- prometheus.MustNewConstMetric(directorNodeWeight, prometheus.GaugeValue, weight, node)
	}
	c := now.Counters
	if c == nil {
		return
	}
	for result, n := range map[string]uint64{
		"served": c.Served, "directed": c.Directed, "diverted": c.Diverted, "reset": c.Reset,
		"asked": c.Asked, "limited": c.Limited, "dropped": c.Dropped, "left": c.Left, "forged": c.Forged, "too-big": c.TooBig,
	} {
		to <- prometheus.MustNewConstMetric(directorPackets, prometheus.CounterValue, float64(n), result)
	}
	for hops, n := range c.Hops {
		label := strconv.Itoa(hops)
		if hops == len(c.Hops)-1 {
			label = "more"
		}
		count(directorHops, n, label)
	}
	for vip, n := range c.VIPs {
		label := vip.String()
		if vip.IsUnspecified() {
			label = "other"
		}
		count(directorVIPPackets, n.Packets, label)
		count(directorVIPConnections, n.Opened, label)
	}
	for node, n := range c.Nodes {
		count(directorNodePackets, n.Packets, node)
		count(directorNodeConnections, n.Opened, node)
	}
	for node, n := range c.DivertedTo {
		count(directorNodeDiverted, n, node)
	}
}
