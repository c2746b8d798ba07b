package importer_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/cli/manifest"
	"github.com/fairlead/fairlead/internal/job/importer"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// sources are the conversions, by the section of a story that has what they read.
var sources = map[string]importer.From{
	"metallb": importer.MetalLB, "kube-vip": importer.KubeVIP, "cilium": importer.Cilium, "purelb": importer.PureLB,
	"k3s": importer.K3s,
}

// converted converts text.
func converted(from importer.From, text string) (string, int, error) {
	var objects []importer.Object
	if err := manifest.Read(strings.NewReader(text), "text", func(o map[string]any, _ string) { objects = append(objects, o) }); err != nil {
		return "", 0, err
	}
	var out bytes.Buffer
	n, err := from(&out, objects)
	return out.String(), n, err
}

// TestStories: what another load balancer was given, and what fairlead is.
func TestStories(t *testing.T) {
	storytest.Each(t, func(t *testing.T, s *storytest.Story) {
		if len(s.Sections) != 2 || s.Sections[1].Name != "fairlead" {
			t.Fatal("wants the sections of the source and fairlead")
		}
		in, want := s.Sections[0], s.Sections[1]
		from := sources[in.Name]
		if from == nil {
			t.Fatalf("no source %q", in.Name)
		}
		out, _, err := converted(from, in.Text)
		if err != nil {
			t.Fatal(err)
		}
		want.Want(t, out)
		var refused []string
		m := loaded(t, out)
		for _, p := range m.Problems {
			refused = append(refused, p.Kind+" "+p.Name+": "+p.Message)
		}
		if len(refused) > 0 && !strings.Contains(s.Comment, "refuses") {
			t.Errorf("the API server refuses: %s", strings.Join(refused, "; "))
		}
	})
}

// loaded reads what was made as doctor -f does.
func loaded(t *testing.T, text string) *manifest.Manifests {
	t.Helper()
	m, err := manifest.Load([]string{manifest.Stdin}, strings.NewReader(text), "default")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestComments: they are counted, and a field of another type is an error.
func TestComments(t *testing.T) {
	_, n, err := converted(importer.MetalLB, `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}}`)
	if n != 1 || err != nil {
		t.Errorf("%d comments, %v", n, err)
	}
	for _, bad := range []string{"a: [", "just text", "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nspec: {addresses: 7}\n"} {
		if _, _, err := converted(importer.MetalLB, bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzImport(f *testing.F) {
	f.Add("apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a}\nspec: {addresses: [192.0.2.0/24]}\n")
	f.Add("apiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: {name: a}\nspec: {blocks: [{cidr: 192.0.2.0/24}]}\n")
	f.Add("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kubevip}\ndata: {cidr-global: 192.0.2.0/24}\n")
	f.Fuzz(func(_ *testing.T, text string) {
		for _, from := range sources {
			_, _, _ = converted(from, text)
		}
	})
}
