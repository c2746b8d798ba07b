package gobgp_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestOnlyImporter: no other package of the module knows gobgp.
func TestOnlyImporter(t *testing.T) {
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = "../../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for line := range strings.Lines(string(out)) {
		pkg, imports, _ := strings.Cut(line, " ")
		if !strings.Contains(imports, "github.com/osrg/gobgp/") {
			continue
		}
		found = true
		if !strings.HasSuffix(pkg, "/announcer/bgp/gobgp") {
			t.Errorf("%s imports gobgp", pkg)
		}
	}
	if !found {
		t.Error("nobody imports gobgp: where does this test run?")
	}
}
