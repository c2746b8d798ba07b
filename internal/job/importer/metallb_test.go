package importer_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/job/importer"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// TestMetalLB tells every story: what MetalLB was given, and what fairlead is.
func TestMetalLB(t *testing.T) {
	storytest.Each(t, func(t *testing.T, s *storytest.Story) {
		if len(s.Sections) != 2 || s.Sections[0].Name != "metallb" || s.Sections[1].Name != "fairlead" {
			t.Fatal("wants the sections metallb and fairlead")
		}
		in, want := s.Sections[0], s.Sections[1]
		var out bytes.Buffer
		if _, err := importer.MetalLB(&out, strings.NewReader(in.Text)); err != nil {
			t.Fatal(err)
		}
		want.Want(t, out.String())
	})
}

// TestComments: they are counted, and text that is no configuration is an error.
func TestComments(t *testing.T) {
	n, err := importer.MetalLB(&bytes.Buffer{}, strings.NewReader(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}}`))
	if n != 1 || err != nil {
		t.Errorf("%d comments, %v", n, err)
	}
	for _, bad := range []string{"a: [", "just text", "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nspec: {addresses: 7}\n"} {
		if _, err := importer.MetalLB(&bytes.Buffer{}, strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzMetalLB(f *testing.F) {
	f.Add("apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a}\nspec: {addresses: [192.0.2.0/24]}\n")
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = importer.MetalLB(&bytes.Buffer{}, strings.NewReader(text))
	})
}
