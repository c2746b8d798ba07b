package charts_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestManifests: the file that a release has for kubectl apply is what helm template
// makes of the chart, with the namespace.
func TestManifests(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("../internal/tools/manifests.sh", chart)
	cmd.Env = append(cmd.Environ(), "KUBECONFIG=/dev/null")
	got, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := mustHelm(t, "template", "fairlead", chart, "--namespace", "fairlead-system", "--no-hooks", "--set", "namespace.create=true")
	if string(got) != want {
		t.Error(firstDifference(string(got), want))
	}
	if n := strings.Count(want, "\nkind: Namespace\n"); n != 1 {
		t.Errorf("%d Namespaces", n)
	}
}
