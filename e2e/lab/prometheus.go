package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// PrometheusURL is where a Prometheus of StartPrometheus answers.
const PrometheusURL = "http://" + APIHost + ":9090"

// prometheusRights are what it needs to find pods by their annotations.
const prometheusRights = `apiVersion: v1
kind: ServiceAccount
metadata: {name: prometheus, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: prometheus}
rules:
  - {apiGroups: [""], resources: [pods], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: prometheus}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: prometheus}
subjects: [{kind: ServiceAccount, name: prometheus, namespace: default}]
`

// prometheusConf scrapes pods as most configurations do that know no operator: by
// their annotations.
const prometheusConf = `global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}
rule_files: [%q]
scrape_configs:
  - job_name: pods
    kubernetes_sd_configs: [{role: pod, kubeconfig_file: %q}]
    relabel_configs:
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], action: keep, regex: "true"}
      - {source_labels: [__meta_kubernetes_pod_container_port_name], action: keep, regex: metrics}
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scheme], action: replace, regex: "(https?)", target_label: __scheme__}
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], action: replace, regex: "(.+)", target_label: __metrics_path__}
      - {source_labels: [__address__, __meta_kubernetes_pod_annotation_prometheus_io_port], action: replace, regex: '(.+?)(?::\d+)?;(\d+)', replacement: "$1:$2", target_label: __address__}
      - {source_labels: [__meta_kubernetes_pod_node_name], target_label: node}
      - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
`

// StartPrometheus runs the prometheus of this machine on the control plane's host,
// with rules from a file: it finds pods by their annotations, with a ServiceAccount
// that may list them and no more.
func (l *Lab) StartPrometheus(ctx context.Context, rules string) error {
	step := l.progress.Begin("Prometheus")
	return step.Done(l.startPrometheus(ctx, rules))
}

func (l *Lab) startPrometheus(ctx context.Context, rules string) error {
	dir := l.state.file("prometheus")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := l.apply(ctx, prometheusRights); err != nil {
		return err
	}
	account, conf := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "prometheus.yml")
	if err := l.accountConfig(ctx, "prometheus", account); err != nil {
		return err
	}
	if err := os.WriteFile(conf, fmt.Appendf(nil, prometheusConf, rules, account), 0o600); err != nil {
		return err
	}
	enter, err := l.enter(ControlPlane)
	if err != nil {
		return err
	}
	listen := strings.TrimPrefix(PrometheusURL, "http://")
	args := []string{"prometheus", "--config.file=" + conf, "--storage.tsdb.path=" + dir + "/data", "--web.listen-address=" + listen}
	if err := l.start(process{name: "prometheus", enter: enter, args: args}); err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{}, Timeout: time.Second} // no proxy
	return Until(ctx, time.Minute, "Prometheus", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, PrometheusURL+"/-/ready", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", resp.Status)
		}
		return nil
	})
}

// StopPrometheus ends it, with all that it has read, and takes its rights away.
func (l *Lab) StopPrometheus(ctx context.Context) error {
	if err := l.stop(ctx, "prometheus"); err != nil {
		return err
	}
	if _, err := l.Kubectl(ctx, "delete", "--ignore-not-found", "serviceaccount/prometheus", "clusterrole/prometheus", "clusterrolebinding/prometheus"); err != nil {
		return err
	}
	return os.RemoveAll(l.state.file("prometheus"))
}

// accountConfig writes a kubeconfig for a ServiceAccount in namespace default.
func (l *Lab) accountConfig(ctx context.Context, account, path string) error {
	token, err := l.Kubectl(ctx, "create", "token", account, "--duration=2h")
	if err != nil {
		return err
	}
	data, err := os.ReadFile(l.Kubeconfig())
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("%s: %w", l.Kubeconfig(), err)
	}
	config["users"] = []any{map[string]any{"name": "lab", "user": map[string]any{"token": strings.TrimSpace(string(token))}}}
	if data, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
