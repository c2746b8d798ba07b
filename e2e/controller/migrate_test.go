package controller_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/cli/manifest"
	"github.com/fairlead/fairlead/internal/job/importer"
)

// TestTakenOver: Services that another controller served keep their addresses:
// nothing happens to them while there is no pool, and the imported pool lets
// each keep what it has.
func TestTakenOver(t *testing.T) {
	c := newCluster(t)
	want := map[string]string{"a": "192.0.2.7", "b": "192.0.2.3", "d": "192.0.2.5"}
	for name, addr := range want {
		c.service(name)
		c.editStatus(name, func(st *corev1.ServiceStatus) { st.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: addr}} })
	}
	c.service("chooses", note("metallb.universe.tf/loadBalancerIPs", "192.0.2.1"))
	r := c.start(options)
	r.settled()
	for name, addr := range want {
		if got := ips(c.get(name)); got != addr {
			t.Errorf("%s has %q while there is no pool, want %s", name, got, addr)
		}
	}
	c.apply(imported(t, `{"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "lan"}, "spec": {"addresses": ["192.0.2.0/28"]}}`))
	want["chooses"] = "192.0.2.1"
	for name, addr := range want {
		c.holds(name, addr)
		if e := c.events(name); strings.Contains(fmt.Sprint(e), "StatusIgnored") {
			t.Errorf("%s was told %q", name, e)
		}
	}
}

func imported(t *testing.T, text string) string {
	t.Helper()
	var objects []importer.Object
	if err := manifest.Read(strings.NewReader(text), "text", func(o map[string]any, _ string) { objects = append(objects, o) }); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := importer.MetalLB(&out, objects); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func (c *cluster) apply(manifests string, args ...string) {
	c.Helper()
	file := filepath.Join(c.TempDir(), "manifests.yaml")
	c.must(os.WriteFile(file, []byte(manifests), 0o600))
	_, err := server.Kubectl(c.Context(), append([]string{"apply", "-f", file}, args...)...)
	c.must(err)
}

// TestImportIsTaken: the API server takes what the importer makes of its
// stories.
func TestImportIsTaken(t *testing.T) {
	c := newCluster(t)
	root, err := lab.Checkout()
	c.must(err)
	for _, name := range []string{"layer2", "bgp", "selectors", "kube-vip", "cilium", "purelb", "k3s", "k3s-plain"} {
		data, err := os.ReadFile(filepath.Join(root, "internal", "job", "importer", "testdata", name+".txtar"))
		c.must(err)
		_, made, _ := strings.Cut(string(data), "-- fairlead --\n")
		c.apply(made, "--dry-run=server", "--validate=strict")
	}
}
