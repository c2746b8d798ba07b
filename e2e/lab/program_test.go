package lab

import (
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
	for _, p := range []program{etcd, kubernetes, kubeProxy, coredns, helm} {
		t.Log(binaries(p.commands))
	}
	if got := binaries(append(etcd.commands, helm.commands...)); !slices.Equal(got, []string{"etcd", "helm"}) {
		t.Errorf("binaries = %v", got)
	}
}

func TestEveryProgramHasItsModule(t *testing.T) {
	b := builder{source: "..", cache: t.TempDir()}
	for _, p := range append([]program{kubernetes, kubeProxy, coredns}, controlPlane("1.29")...) {
		if _, version, err := b.entry(p); err != nil || version == "" {
			t.Errorf("%s: version %q, %v", p.name, version, err)
		}
	}
}
