package forwarding

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// contender is a Service proxy that is measured.
type contender struct {
	name  string
	table string // its nftables tables, ip and ip6
	sync  string // its histogram of how long it takes to program, once it knows the Services
	// Its counter of failed Syncs, its gauges of when one last succeeded, and whether it
	// is in sync; "" if it has none.
	failures, last, inSync string
	args, env              []string
	state                  string // folder that is emptied before it starts
}

func kubeProxy(program, kubeconfig, dir string) (contender, error) {
	config, err := json.Marshal(map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode":             "nftables",
		"clientConnection": map[string]any{"kubeconfig": kubeconfig},
		"hostnameOverride": nodeName,
		"clusterCIDR":      podCIDR,
		"detectLocalMode":  "ClusterCIDR",
		"conntrack":        map[string]any{"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
	})
	if err != nil {
		return contender{}, err
	}
	path := filepath.Join(dir, "kube-proxy.json")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return contender{}, err
	}
	return contender{
		name: "kube-proxy", table: "kube-proxy", sync: "kubeproxy_sync_full_proxy_rules_duration_seconds",
		failures: "kubeproxy_sync_proxy_rules_nftables_sync_failures_total", last: "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
		args: []string{program, "--config=" + path},
	}, nil
}

func fairlead(program, kubeconfig, dir string) contender {
	state := filepath.Join(dir, "state")
	return contender{
		name: "fairlead", table: "fairlead", sync: "fairlead_engine_sync_duration_seconds", state: state,
		failures: "fairlead_engine_sync_failures_total", last: "fairlead_engine_sync_last_timestamp_seconds", inSync: "fairlead_engine_in_sync",
		args: []string{program, "agent", "--kubeconfig=" + kubeconfig, "--node-name=" + nodeName, "--proxy=full", "--state-dir=" + state},
	}
}

// start starts the contender on a node that has nothing of it.
func (c contender) start(ctx context.Context, w *world, logs string) (*process, error) {
	if err := c.clean(ctx, w); err != nil {
		return nil, err
	}
	if c.state != "" {
		if err := os.RemoveAll(c.state); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(c.state, 0o755); err != nil {
			return nil, err
		}
	}
	return c.run(w, logs)
}

// run starts the contender on what is there of it.
func (c contender) run(w *world, logs string) (*process, error) {
	return startProcess(w.node, c.env, filepath.Join(logs, c.name+".log"), c.args...)
}

// clean takes out what the contender left in the kernel.
func (c contender) clean(ctx context.Context, w *world) error {
	for _, family := range []string{"ip", "ip6"} {
		// To add what is there is nothing, to delete what is not there an error.
		if err := w.node.run(ctx, fmt.Sprintf("add table %s %s\ndelete table %[1]s %[2]s\n", family, c.table), "nft", "-f", "-"); err != nil {
			return err
		}
	}
	return nil
}

// active makes the contender's tables count, or not.
func (c contender) active(ctx context.Context, w *world, yes bool) error {
	return w.node.run(ctx, c.flags(yes), "nft", "-f", "-")
}

// flags is what nft does for that.
func (c contender) flags(active bool) string {
	flags := "{ }"
	if !active {
		flags = "{ flags dormant; }"
	}
	return fmt.Sprintf("add table ip %s %s\nadd table ip6 %[1]s %[2]s\n", c.table, flags)
}

// programmed reads from the contender's metrics how long it has programmed IPv4
// so far; false if it has not yet.
func (c contender) programmed(ctx context.Context, w *world) (time.Duration, bool, error) {
	families, err := c.metrics(ctx, w)
	if err != nil {
		return 0, false, err
	}
	var sum float64
	var count uint64
	for _, m := range families[c.sync].GetMetric() {
		other := false
		for _, l := range m.GetLabel() {
			other = other || l.GetName() == "ip_family" && l.GetValue() != "IPv4"
		}
		if !other {
			sum, count = sum+m.GetHistogram().GetSampleSum(), count+m.GetHistogram().GetSampleCount()
		}
	}
	return time.Duration(sum * float64(time.Second)), count > 0, nil
}

// metrics reads the contender's metrics, by name.
func (c contender) metrics(ctx context.Context, w *world) (map[string]*dto.MetricFamily, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		return w.node.dial(ctx, network, address)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10249/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(resp.Body)
}
