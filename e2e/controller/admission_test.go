package controller_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
)

// TestAdmission: by the chart's policies, an agent's token writes the NodeState of its own
// node alone, and a Service with an annotation that nobody reads is told or refused.
func TestAdmission(t *testing.T) {
	c := newCluster(t)
	root, err := lab.Checkout()
	c.must(err)
	c.releaseNamespace()
	out, err := server.Helm(t.Context(), "template", "fairlead", filepath.Join(root, "charts", "fairlead"), "--namespace", release,
		"--show-only", "templates/admission.yaml", "--show-only", "templates/rbac-agent.yaml", "--set", "admission.annotations=Deny")
	c.must(err)
	rendered := filepath.Join(t.TempDir(), "rendered.yaml")
	c.must(os.WriteFile(rendered, []byte(out), 0o600))
	c.apply(out)
	t.Cleanup(func() { // other tests have the chart's objects too, and Services that these policies refuse
		if _, err := server.Kubectl(context.Background(), "delete", "--ignore-not-found", "-f", rendered); err != nil {
			t.Error(err)
		}
	})
	state := func(node string, as ...string) error {
		file := filepath.Join(t.TempDir(), "state.yaml")
		c.must(os.WriteFile(file, []byte("apiVersion: fairlead.io/v1alpha1\nkind: NodeState\nmetadata: {name: "+node+"}\n"), 0o600))
		_, err := server.Kubectl(t.Context(), append([]string{"create", "--dry-run=server", "-f", file}, as...)...)
		return err
	}
	agent := "--as=system:serviceaccount:" + release + ":fairlead-agent"
	claim := "--as-user-extra=authentication.kubernetes.io/node-name=node-1"
	refused := func() bool { return state("node-2", agent, claim) != nil }
	for deadline := time.Now().Add(time.Minute); !refused() && time.Now().Before(deadline); { // a policy takes effect within seconds
		time.Sleep(200 * time.Millisecond)
	}
	if err := state("node-2", agent, claim); err == nil || !strings.Contains(err.Error(), "its own node node-1") {
		t.Errorf("the agent of node-1 writes for node-2: %v", err)
	}
	for name, as := range map[string][]string{"its own": {agent, claim}, "a token without the claim": {agent}, "an administrator": nil} {
		if err := state("node-1", as...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for annotation, want := range map[string]string{
		"fairlead.io/adresses=192.0.2.1":           "does not read fairlead.io/adresses",
		"fairlead.io/addresses=anything":           "write one to eight addresses",
		"fairlead.io/pool=a, b,":                   "write the names of one to four AddressPools",
		"fairlead.io/ports=10000-20000/icmp":       "write ranges of ports",
		"fairlead.io/addresses=192.0.2.1, fd00::1": "",
		"fairlead.io/forwarding=Direct":            "",
		"metallb.io/adresses=1":                    "",
	} {
		key, value, _ := strings.Cut(annotation, "=")
		err := c.dryService(key, value)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", annotation, err, want)
		}
	}
}

// dryService asks the API server for a Service with one annotation.
func (c *cluster) dryService(key, value string) error {
	c.Helper()
	file := filepath.Join(c.TempDir(), "service.yaml")
	c.must(os.WriteFile(file, []byte("apiVersion: v1\nkind: Service\nmetadata:\n  name: x\n  annotations: {"+key+`: "`+value+`"}`+"\nspec: {type: LoadBalancer, ports: [{port: 80}]}\n"), 0o600))
	_, err := server.Kubectl(c.Context(), "create", "--dry-run=server", "-f", file)
	return err
}
