package lab

import "testing"

func TestTargets(t *testing.T) {
	got, err := targetsOf([]byte(`{"items":[
		{"metadata":{"name":"a","annotations":{"prometheus.io/scrape":"true"}},"spec":{"nodeName":"node1"},"status":{"podIP":"198.18.0.11"}},
		{"metadata":{"name":"pending"}}]}`))
	const want = `[{"targets":["198.18.0.11"],"labels":{"__meta_kubernetes_pod_annotation_prometheus_io_scrape":"true","__meta_kubernetes_pod_name":"a","__meta_kubernetes_pod_node_name":"node1"}}]`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}
