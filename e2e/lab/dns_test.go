package lab

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// A cluster that kubeadm made takes the ConfigMap in the place of its own: by its name, and
// with nobody to forward to.
func TestDNSConfig(t *testing.T) {
	var config corev1.ConfigMap
	if err := yaml.UnmarshalStrict([]byte(DNSConfig()), &config); err != nil {
		t.Fatal(err)
	}
	file := config.Data["Corefile"]
	if config.Kind != "ConfigMap" || config.Namespace != "kube-system" || config.Name != "coredns" || !strings.Contains(file, "kubernetes cluster.local") {
		t.Errorf("%+v", config)
	}
	if strings.Contains(file, "forward") {
		t.Errorf("it forwards:\n%s", file)
	}
}
