package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descEntries = prometheus.NewDesc("fairlead_conntrack_entries", "Connections that the node's kernel tracks.", nil, nil)
	descLimit   = prometheus.NewDesc("fairlead_conntrack_limit", "How many connections the node's kernel can track. It drops packets of further connections.", nil, nil)
)

// conntrack tells how full the kernel's table of connections is when it is asked,
// and nothing while the kernel has none.
type conntrack struct{ dir string } // /proc/sys

// Describe implements prometheus.Collector.
func (c conntrack) Describe(out chan<- *prometheus.Desc) {
	out <- descEntries
	out <- descLimit
}

// Collect implements prometheus.Collector.
func (c conntrack) Collect(out chan<- prometheus.Metric) {
	for desc, name := range map[*prometheus.Desc]string{descEntries: "nf_conntrack_count", descLimit: "nf_conntrack_max"} {
		text, err := os.ReadFile(filepath.Join(c.dir, "net/netfilter", name))
		if err != nil {
			continue // the module is not loaded
		}
		if n, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64); err == nil {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, n)
		}
	}
}
