package stories

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// scrapeConfig is what examples/monitoring uses of Prometheus' configuration.
type scrapeConfig struct {
	Global        map[string]string `json:"global"`
	ScrapeConfigs []struct {
		Job   string `json:"job_name"`
		Finds []struct {
			Role string `json:"role"`
		} `json:"kubernetes_sd_configs"`
		Rules []rule `json:"relabel_configs"`
	} `json:"scrape_configs"`
}

// rule is one of Prometheus' relabel rules.
type rule struct {
	Sources     []string `json:"source_labels"`
	Regex       string   `json:"regex"`
	Action      string   `json:"action"`
	Target      string   `json:"target_label"`
	Replacement string   `json:"replacement"`
}

// apply changes labels, or returns false if they are dropped.
func (r rule) apply(labels map[string]string) bool {
	var values []string
	for _, s := range r.Sources {
		values = append(values, labels[s])
	}
	if r.Regex == "" {
		r.Regex = "(.*)"
	}
	pattern, value := regexp.MustCompile("^(?:"+r.Regex+")$"), strings.Join(values, ";")
	match := pattern.FindStringSubmatchIndex(value)
	if r.Action == "keep" {
		return match != nil
	}
	if match != nil {
		if r.Replacement == "" {
			r.Replacement = "$1"
		}
		labels[r.Target] = string(pattern.ExpandString(nil, r.Replacement, value, match))
	}
	return true
}

// prometheusConfig reads the configuration in examples/monitoring.
func prometheusConfig(t *testing.T, manifests string) (text string, config scrapeConfig) {
	t.Helper()
	for _, manifest := range strings.Split(manifests, "\n---\n") {
		var m struct{ Data map[string]string }
		if err := yaml.Unmarshal([]byte(manifest), &m); err != nil {
			t.Fatal(err)
		}
		if text = m.Data["prometheus.yml"]; text != "" {
			if err := yaml.UnmarshalStrict([]byte(text), &config); err != nil {
				t.Fatal(err)
			}
			return text, config
		}
	}
	t.Fatal("no prometheus.yml")
	return "", config
}

// targets are the URLs that Prometheus would scrape of the pods of a namespace.
func (c scrapeConfig) targets(t *testing.T, namespace string) []string {
	t.Helper()
	var list corev1.PodList
	if err := json.Unmarshal([]byte(kubectl(t, "-n", namespace, "get", "pods", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, job := range c.ScrapeConfigs {
		for _, pod := range list.Items {
			for _, labels := range discovered(pod) {
				if job.Finds[0].Role == "pod" && !slices.ContainsFunc(job.Rules, func(r rule) bool { return !r.apply(labels) }) {
					found[labels["__scheme__"]+"://"+labels["__address__"]+labels["__metrics_path__"]] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// discovered is what Prometheus finds of a pod: one target for each of its ports.
func discovered(pod corev1.Pod) []map[string]string {
	var out []map[string]string
	for _, c := range pod.Spec.Containers {
		for _, port := range c.Ports {
			labels := map[string]string{
				"__scheme__": "http", "__metrics_path__": "/metrics", "__address__": fmt.Sprintf("%s:%d", pod.Status.PodIP, port.ContainerPort),
				"__meta_kubernetes_namespace": pod.Namespace, "__meta_kubernetes_pod_name": pod.Name,
				"__meta_kubernetes_pod_ip": pod.Status.PodIP, "__meta_kubernetes_pod_node_name": pod.Spec.NodeName,
			}
			for key, value := range pod.Annotations {
				labels["__meta_kubernetes_pod_annotation_"+regexp.MustCompile(`[^a-zA-Z0-9_]`).ReplaceAllString(key, "_")] = value
			}
			out = append(out, labels)
		}
	}
	return out
}
