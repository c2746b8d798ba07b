package lab

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// Collect writes what helps to understand a failure beside the logs, where it
// stays after a tear-down: fairlead's pods, their logs, events, and what the
// kernels hold. What cannot be had is skipped, and said in its file.
func (l *Lab) Collect(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	dir := filepath.Join(l.state.logs(), "collected")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.progress.Say("collect: %v", err)
		return dir
	}
	for name, args := range collectedObjects() {
		out, err := l.Kubectl(ctx, args...)
		writeCollected(dir, name, out, err)
	}
	for _, host := range append([]string{Client, Router}, l.Nodes()...) {
		out, err := l.Exec(ctx, host, "/bin/sh", "-c", "ip addr; ip route; ip neigh; nft list ruleset; conntrack -L 2>&1 | tail -n 200")
		writeCollected(dir, host+"-kernel", out, err)
	}
	return dir
}

func collectedObjects() map[string][]string {
	in := []string{"-n", FairleadNamespace}
	return map[string][]string{
		"overview":         {"get", "nodes,pods,services,endpointslices,leases", "-A", "-o", "wide"},
		"events":           {"get", "events", "-A", "--sort-by=.lastTimestamp"},
		"services":         {"get", "services", "-A", "-o", "yaml"},
		"describe":         append(in[:2:2], "describe", "pods,daemonsets,deployments"),
		"agent-logs":       append(in[:2:2], "logs", "daemonset/fairlead-agent", "--all-pods", "--prefix", "--tail=-1"),
		"controller-logs":  append(in[:2:2], "logs", "deployment/fairlead-controller", "--all-pods", "--prefix", "--tail=-1"),
		"fairlead-objects": {"get", "addresspools,addresses,announcements,bgppeers,nodestates", "-o", "yaml"},
		"kube-system-logs": {"-n", "kube-system", "logs", "-l", "k8s-app=kube-dns", "--prefix", "--tail=200"},
		"default-pods":     {"describe", "pods"},
	}
}

func writeCollected(dir, name string, out []byte, err error) {
	if err != nil {
		out = append(out, "\n"+err.Error()+"\n"...)
	}
	_ = os.WriteFile(filepath.Join(dir, name+".txt"), out, 0o644) // best effort: there is a first failure to report
}
