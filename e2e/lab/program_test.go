package lab

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/modfile"
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

func TestBefore(t *testing.T) {
	for version, want := range map[string]bool{"": false, "1.29": true, "1.31": false, "1.36": false} {
		if got := before(version, 31); got != want {
			t.Errorf("before(%q, 31) = %t", version, got)
		}
	}
}

// An older Kubernetes has its own servers, and nothing else of its own.
func TestServedBy(t *testing.T) {
	list := wholeCluster("1.29", true)
	if len(list) != 2 || list[1].name != "kubernetes-1.29" {
		t.Fatalf("%+v", list)
	}
	if got := binaries(list[1].commands); !slices.Equal(got, []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"}) {
		t.Errorf("of 1.29 are %v", got)
	}
	if got := binaries(list[0].commands); !slices.Equal(got, []string{"etcd", "kubectl", "coredns", "helm"}) {
		t.Errorf("of the lab's own are %v", got)
	}
	if own := controlPlane(""); len(own) != 1 || len(own[0].commands) != 5 {
		t.Errorf("%+v", own)
	}
}

func TestBinary(t *testing.T) {
	if got := binaries([]string{etcd, coredns, helm, kubernetes("kubelet")}); !slices.Equal(got, []string{"etcd", "coredns", "helm", "kubelet"}) {
		t.Errorf("binaries = %v", got)
	}
}

// CoreDNS is a command of the module itself, in a directory below it.
func TestCacheEntryChangesWithAFileBelow(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "go.mod", "module x\n")
	write(t, dir, "coredns/main.go", "package main\n")
	before, err := hashFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "coredns/main.go", "package main // changed\n")
	if after, err := hashFiles(dir); err != nil || after == before {
		t.Errorf("the same hash after a change: %s, %v", after, err)
	}
}

func TestOneBuildsAtATime(t *testing.T) {
	dir := t.TempDir() + "/programs/kubernetes"
	var inside, built sync.WaitGroup
	var builders atomic.Int32
	const all = 4
	inside.Add(all)
	for range all {
		built.Go(func() {
			inside.Done()
			inside.Wait() // so that all try at once
			done, err := alone(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer done()
			if n := builders.Add(1); n != 1 {
				t.Errorf("%d build at a time", n)
			}
			runtime.Gosched()
			builders.Add(-1)
		})
	}
	built.Wait()
}

func TestEveryProgramHasItsModule(t *testing.T) {
	b := builder{source: "..", cache: t.TempDir()}
	older, err := filepath.Glob("../programs/kubernetes-*")
	if err != nil || len(older) < 2 {
		t.Fatal(older, err)
	}
	all := append(wholeCluster("", true), kind, upstream(suite))
	for _, name := range CNIs() {
		all = append(all, cnis[name].programs()...)
	}
	for _, dir := range older {
		all = append(all, wholeCluster(strings.TrimPrefix(filepath.Base(dir), "kubernetes-"), false)...)
	}
	for _, p := range all {
		if _, version, err := b.entry(p); err != nil || version == "" {
			t.Errorf("%s: version %q, %v", p.name, version, err)
		}
	}
}

// A library that the product and the lab's programs have in different versions is
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
			t.Errorf("e2e/programs/cluster/go.mod has %s %s: require %s as go.mod does, and exclude later ones that are asked for", module, got, want)
		}
	}
}

// versions is what a go.mod requires, by module. A replacement does not count: the
// go command compiles it for the version that is required.
func versions(t *testing.T, path string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse(path, content, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, r := range mod.Require {
		found[r.Mod.Path] = r.Mod.Version
	}
	return found
}
