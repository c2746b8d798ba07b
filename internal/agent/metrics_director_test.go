package agent

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy/director/program"
)

// What was not counted is left out, as every agent would name all nodes.
func TestDirectorMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := newMetrics(reg)
	names := []string{"fairlead_director_able", "fairlead_director_asks_nftables", "fairlead_director_packets_total", "fairlead_director_hops_total", "fairlead_director_vip_packets_total",
		"fairlead_director_vip_connections_total", "fairlead_director_node_packets_total", "fairlead_director_node_connections_total",
		"fairlead_director_node_diverted_total", "fairlead_director_node_weight"}
	want := func(text string) {
		t.Helper()
		if err := testutil.GatherAndCompare(reg, strings.NewReader(withoutHelp(t, reg, text)), names...); err != nil {
			t.Error(err)
		}
	}
	want("fairlead_director_able 0\nfairlead_director_asks_nftables 0\n")
	c := &program.Counters{
		Served: 7, Directed: 20, Diverted: 3, Reset: 1,
		VIPs:       map[netip.Addr]program.Count{netip.MustParseAddr("192.0.2.10"): {Packets: 20, Opened: 4}, netip.MustParseAddr("192.0.2.11"): {}, netip.IPv4Unspecified(): {Packets: 2}},
		Nodes:      map[string]program.Count{"a": {Packets: 22, Opened: 4}, "b": {}},
		DivertedTo: map[string]uint64{"a": 0, "b": 3},
	}
	c.Hops[1], c.Hops[17] = 6, 1
	m.director.Follow(func() DirectorCounts {
		return DirectorCounts{State: &snapshot.DirectorState{Able: true}, Counters: c, AsksNftables: true, Weights: map[string]float64{"a": 0.75, "b": 0.25}}
	})
	want(`fairlead_director_able 1
fairlead_director_asks_nftables 1
fairlead_director_hops_total{hops="1"} 6
fairlead_director_hops_total{hops="more"} 1
fairlead_director_node_connections_total{node="a"} 4
fairlead_director_node_diverted_total{node="b"} 3
fairlead_director_node_packets_total{node="a"} 22
fairlead_director_node_weight{node="a"} 0.75
fairlead_director_node_weight{node="b"} 0.25
fairlead_director_packets_total{result="asked"} 0
fairlead_director_packets_total{result="directed"} 20
fairlead_director_packets_total{result="diverted"} 3
fairlead_director_packets_total{result="dropped"} 0
fairlead_director_packets_total{result="forged"} 0
fairlead_director_packets_total{result="left"} 0
fairlead_director_packets_total{result="limited"} 0
fairlead_director_packets_total{result="reset"} 1
fairlead_director_packets_total{result="served"} 7
fairlead_director_packets_total{result="too-big"} 0
fairlead_director_vip_connections_total{vip="192.0.2.10"} 4
fairlead_director_vip_packets_total{vip="192.0.2.10"} 20
fairlead_director_vip_packets_total{vip="other"} 2
`)
}

// withoutHelp puts before each line of text the help and type of its metric, as reg has
// them: what they say is not what is tested.
func withoutHelp(t *testing.T, reg prometheus.Gatherer, text string) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		name := line[:strings.IndexAny(line, "{ ")]
		for _, f := range families {
			if f.GetName() == name && !seen[name] {
				b.WriteString("# HELP " + name + " " + f.GetHelp() + "\n# TYPE " + name + " " + strings.ToLower(f.GetType().String()) + "\n")
				seen[name] = true
			}
		}
		b.WriteString(line)
	}
	return b.String()
}
