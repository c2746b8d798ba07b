package lab

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

func TestRequired(t *testing.T) {
	tests := []struct{ mod, module, want string }{
		{"module m\n\nrequire (\n\ta.test/x v1.2.3 // indirect\n\ta.test/x/y v2.0.0\n)\n", "a.test/x", "v1.2.3"},
		{"module m\n\nrequire a.test/x v1.2.3\n", "a.test/x", "v1.2.3"},
		{"module m\n\nreplace a.test/x => a.test/x v1.0.0\n", "a.test/x", ""},
	}
	for _, test := range tests {
		got, err := required([]byte(test.mod), test.module)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("required(%q) = %q, %v", test.mod, got, err)
		}
	}
}

func TestBinary(t *testing.T) {
	if got := binaries([]string{etcd, coredns, helm, kubernetes("kubelet")}); !slices.Equal(got, []string{"etcd", "coredns", "helm", "kubelet"}) {
		t.Errorf("binaries = %v", got)
	}
}

func TestEveryProgramHasItsModule(t *testing.T) {
	b := builder{source: "..", cache: t.TempDir()}
	for _, p := range append(controlPlane("1.29"), wholeCluster(), kind) {
		if _, version, err := b.entry(p); err != nil || version == "" {
			t.Errorf("%s: version %q, %v", p.name, version, err)
		}
	}
}

// A library of which the product and the lab's programs have different versions is
// compiled twice, and so is everything that imports it: minutes of a first run.
func TestProgramsHaveTheProductsVersions(t *testing.T) {
	apart := map[string]string{
		"sigs.k8s.io/knftables": "kube-proxy is measured with its own; the product has it in tests alone",
	}
	product, programs := versions(t, "../../go.mod"), versions(t, "../programs/cluster/go.mod")
	if product["k8s.io/client-go"] == "" {
		t.Fatal("no version of k8s.io/client-go in go.mod")
	}
	for module, want := range product {
		got, shared := programs[module]
		if shared && got != want && apart[module] == "" {
			t.Errorf("e2e/programs/cluster/go.mod has %s %s: require it, or replace it, at %s as go.mod does", module, got, want)
		}
	}
}

var (
	requireLine = regexp.MustCompile(`(?m)^(?:require)?\s+(\S+) (v\S+)`)
	replaceLine = regexp.MustCompile(`(?m)^(?:replace)?\s+(\S+)(?: v\S+)? => \S+ (v\S+)`)
)

// versions is what a go.mod requires, by module, after its replacements.
func versions(t *testing.T, path string) map[string]string {
	t.Helper()
	mod, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range requireLine.FindAllStringSubmatch(string(mod), -1) {
		found[m[1]] = m[2]
	}
	for _, m := range replaceLine.FindAllStringSubmatch(string(mod), -1) {
		if found[m[1]] != "" {
			found[m[1]] = m[2]
		}
	}
	return found
}
