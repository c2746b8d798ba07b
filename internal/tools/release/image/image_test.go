package image

import (
	"bytes"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const ref = "example.com/some/program:1.2.3"

func spec(arch string) Spec {
	return Spec{Arch: arch, Program: "program", Created: time.Unix(1700000000, 0), Labels: map[string]string{"a": "b"},
		Files: []File{{Name: "tmp/", Mode: 0o1777}, {Name: "program", Mode: 0o755, Content: []byte("code for " + arch)}}}
}

func build(t *testing.T, s Spec) v1.Image {
	t.Helper()
	img, err := Build(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Errorf("image for %s: %v", s.Arch, err)
	}
	return img
}

func archive(t *testing.T, images ...v1.Image) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Archive(&out, ref, images...); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What another reader of each format finds in the archive is valid: of an image for
// one architecture and of one for two, compressed much and little.
func TestArchiveIsReadAsOCILayoutAndByDocker(t *testing.T) {
	quick := spec("amd64")
	quick.Quick = true
	for name, images := range map[string][]v1.Image{
		"one":   {build(t, spec("amd64"))},
		"two":   {build(t, spec("amd64")), build(t, spec("arm64"))},
		"quick": {build(t, quick)},
	} {
		t.Run(name, func(t *testing.T) {
			content := archive(t, images...)
			img, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(img); err != nil {
				t.Error(err)
			}
			config, err := img.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if got := config.Config.Entrypoint[0]; got != "/program" || config.Architecture != "amd64" {
				t.Errorf("entry point %q for %s", got, config.Architecture)
			}
			index, err := layout.ImageIndexFromPath(unpack(t, content))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(index); err != nil {
				t.Error(err)
			}
			manifest, err := index.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			want, err := Digest(images...)
			if err != nil {
				t.Fatal(err)
			}
			if got := manifest.Manifests[0]; got.Digest.String() != want || got.Annotations["io.containerd.image.name"] != ref || got.Annotations["org.opencontainers.image.ref.name"] != "1.2.3" {
				t.Errorf("the layout names %+v, want %s", got, want)
			}
		})
	}
}

func TestArchiveIsTheSameEachTime(t *testing.T) {
	one := archive(t, build(t, spec("amd64")), build(t, spec("arm64")))
	two := archive(t, build(t, spec("amd64")), build(t, spec("arm64")))
	if !bytes.Equal(one, two) {
		t.Error("the archives differ")
	}
}

// unpack writes a tar of plain files into a directory.
func unpack(t *testing.T, content []byte) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("tar", "-x", "-C", dir)
	cmd.Stdin = bytes.NewReader(content)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	return dir
}
