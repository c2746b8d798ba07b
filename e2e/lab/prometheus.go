package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// PrometheusURL is where a Prometheus of StartPrometheus answers.
const PrometheusURL = "http://" + APIHost + ":9090"

// prometheusConf scrapes pods as most configurations do that know no operator: by
// their annotations. Debian's Prometheus cannot ask Kubernetes for them, so they
// come in a file, with the labels that Kubernetes' discovery gives them.
const prometheusConf = `global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}
rule_files: [%q]
scrape_configs:
  - job_name: pods
    file_sd_configs: [{files: [%q]}]
    relabel_configs:
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], action: keep, regex: "true"}
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scheme], action: replace, regex: "(https?)", target_label: __scheme__}
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], action: replace, regex: "(.+)", target_label: __metrics_path__}
      - {source_labels: [__address__, __meta_kubernetes_pod_annotation_prometheus_io_port], action: replace, regex: '(.+?)(?::\d+)?;(\d+)', replacement: "$1:$2", target_label: __address__}
      - {source_labels: [__meta_kubernetes_pod_node_name], target_label: node}
      - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
`

// StartPrometheus runs the prometheus of this machine on the control plane's host,
// with rules from a file. It reads the pods that UpdateTargets has found.
func (l *Lab) StartPrometheus(ctx context.Context, rules string) error {
	step := l.progress.Begin("Prometheus")
	return step.Done(l.startPrometheus(ctx, rules))
}

func (l *Lab) prometheus(name string) string {
	return filepath.Join(l.state.file("prometheus"), name)
}

func (l *Lab) startPrometheus(ctx context.Context, rules string) error {
	if err := os.MkdirAll(l.state.file("prometheus"), 0o755); err != nil {
		return err
	}
	conf := l.prometheus("prometheus.yml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, prometheusConf, rules, l.prometheus("targets.json")), 0o600); err != nil {
		return err
	}
	enter, err := l.enter(ControlPlane)
	if err != nil {
		return err
	}
	listen := strings.TrimPrefix(PrometheusURL, "http://")
	args := []string{"prometheus", "--config.file=" + conf, "--storage.tsdb.path=" + l.prometheus("data"), "--web.listen-address=" + listen}
	if err := l.start(process{name: "prometheus", enter: enter, args: args}); err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{}, Timeout: time.Second} // no proxy
	err = Until(ctx, time.Minute, "Prometheus", func(ctx context.Context) error {
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
	if err != nil {
		said, _ := os.ReadFile(l.state.log("prometheus"))
		return fmt.Errorf("%w: %s", err, lastLines(string(said), 5))
	}
	return nil
}

// StopPrometheus ends it, and removes all that it has read.
func (l *Lab) StopPrometheus(ctx context.Context) error {
	if err := l.stop(ctx, "prometheus"); err != nil {
		return err
	}
	return os.RemoveAll(l.state.file("prometheus"))
}

// target is a pod in the file that Prometheus reads.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// UpdateTargets tells Prometheus of the pods that there are now.
func (l *Lab) UpdateTargets(ctx context.Context) error {
	out, err := l.Kubectl(ctx, "get", "pods", "--all-namespaces", "--output=json")
	if err != nil {
		return err
	}
	targets, err := targetsOf(out)
	if err != nil {
		return err
	}
	file := l.prometheus("targets.json")
	if was, err := os.ReadFile(file); err == nil && bytes.Equal(was, targets) {
		return nil
	}
	if err := os.WriteFile(file+".new", targets, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

var noLabel = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// targetsOf names the pods of a list as Kubernetes' discovery does.
func targetsOf(list []byte) ([]byte, error) {
	var pods struct {
		Items []struct {
			Metadata struct {
				Name        string
				Annotations map[string]string
			}
			Spec   struct{ NodeName string }
			Status struct{ PodIP string }
		}
	}
	if err := json.Unmarshal(list, &pods); err != nil {
		return nil, fmt.Errorf("list of pods: %w", err)
	}
	found := []target{}
	for _, p := range pods.Items {
		if p.Status.PodIP == "" {
			continue
		}
		labels := map[string]string{"__meta_kubernetes_pod_name": p.Metadata.Name, "__meta_kubernetes_pod_node_name": p.Spec.NodeName}
		for key, value := range p.Metadata.Annotations {
			labels["__meta_kubernetes_pod_annotation_"+noLabel.ReplaceAllString(key, "_")] = value
		}
		found = append(found, target{[]string{p.Status.PodIP}, labels})
	}
	return json.Marshal(found)
}
