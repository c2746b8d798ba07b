package lab

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestImageArchive(t *testing.T) {
	archive, err := imageArchive("example.test/tool:dev", "tool", []byte("program"))
	if err != nil {
		t.Fatal(err)
	}
	files := untar(t, archive)

	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	decode(t, files["manifest.json"], &manifest)
	if len(manifest) != 1 || len(manifest[0].Layers) != 1 || manifest[0].RepoTags[0] != "example.test/tool:dev" {
		t.Fatalf("manifest = %+v", manifest)
	}
	layer := files[manifest[0].Layers[0]]

	var config struct {
		Config struct{ Entrypoint []string }
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	decode(t, files[manifest[0].Config], &config)
	if got, want := config.RootFS.DiffIDs[0], fmt.Sprintf("sha256:%x", sha256.Sum256(layer)); got != want {
		t.Errorf("diff id = %s, want %s", got, want)
	}
	if got := config.Config.Entrypoint[0]; got != "/tool" {
		t.Errorf("entry point = %s", got)
	}
	if got := string(untar(t, layer)["tool"]); got != "program" {
		t.Errorf("/tool = %q", got)
	}
}

// Equal programs make equal images: a node that has one need not unpack it
// again.
func TestImageArchiveIsReproducible(t *testing.T) {
	a, err := imageArchive("r", "n", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := imageArchive("r", "n", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("two archives of one program differ")
	}
}

func untar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func decode(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
}
