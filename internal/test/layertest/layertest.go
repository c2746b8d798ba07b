// Package layertest guards the borders between the packages: a package that
// decides must not be able to act.
package layertest

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// outside is what a pure package may not depend on, not even through others: a
// path, or with a slash at its end all paths below it.
var outside = []string{
	"net/http",
	"os/exec",
	"golang.org/x/sys/unix",
	"k8s.io/",
	"sigs.k8s.io/knftables",
	"sigs.k8s.io/knftables/",
	"github.com/cilium/ebpf",
	"github.com/cilium/ebpf/",
	"github.com/mdlayher/",
	"github.com/osrg/gobgp/",
}

// Pure fails t if the package in whose directory the test runs depends on
// anything that acts. Call it in a test of that package itself: a test of
// another one would be answered from the cache after the package changed.
func Pure(t *testing.T) {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr(err))
	}
	deps := strings.Fields(string(out))
	if len(deps) < 2 {
		t.Fatalf("go list named %d packages; where does this test run?", len(deps))
	}
	for _, dep := range impure(deps) {
		t.Errorf("a pure package depends on %s", dep)
	}
}

// impure returns those of deps that act.
func impure(deps []string) []string {
	return slices.DeleteFunc(slices.Clone(deps), func(dep string) bool {
		return !slices.ContainsFunc(outside, func(o string) bool {
			return dep == o || strings.HasSuffix(o, "/") && strings.HasPrefix(dep, o)
		})
	})
}

func stderr(err error) string {
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		return string(e.Stderr)
	}
	return ""
}
