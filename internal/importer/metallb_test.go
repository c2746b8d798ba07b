package importer_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/importer"
)

var update = flag.Bool("update", false, "write what came out into the stories")

const (
	given  = "-- metallb --\n"
	wanted = "-- fairlead --\n"
)

// TestMetalLB tells every story: text before and after.
func TestMetalLB(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			about, rest, ok := strings.Cut(string(data), given)
			in, want, ok2 := strings.Cut(rest, wanted)
			if !ok || !ok2 {
				t.Fatalf("wants %q and %q", given, wanted)
			}
			var out bytes.Buffer
			if _, err := importer.MetalLB(&out, strings.NewReader(in)); err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(about+given+in+wanted+out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if out.String() != want {
				t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
			}
		})
	}
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
