package image

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Archive writes images that differ in their architecture as one tar, under one
// reference such as "example.com/name:tag". It is an OCI layout (image-spec 1.1,
// image-layout.md), which containerd imports. A manifest.json beside the layout lets
// Docker load the first image.
func Archive(w io.Writer, ref string, images ...v1.Image) error {
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := writeLayout(dir, ref, images); err != nil {
		return fmt.Errorf("archive %s: %w", ref, err)
	}
	files, err := read(os.DirFS(dir))
	if err != nil {
		return fmt.Errorf("archive %s: %w", ref, err)
	}
	docker, err := dockerManifest(ref, images[0])
	if err != nil {
		return fmt.Errorf("archive %s: %w", ref, err)
	}
	files = append(files, File{Name: "manifest.json", Mode: 0o644, Content: docker})
	content, err := Tar(files, time.Unix(0, 0))
	if err != nil {
		return fmt.Errorf("archive %s: %w", ref, err)
	}
	_, err = w.Write(content)
	return err
}

// writeLayout writes an OCI layout that names the only image, or the index of all.
func writeLayout(dir, ref string, images []v1.Image) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	// The full reference is for containerd, the tag alone for the specification.
	annotations := layout.WithAnnotations(map[string]string{"io.containerd.image.name": ref, "org.opencontainers.image.ref.name": tag.TagStr()})
	top, err := layout.Write(dir, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	if len(images) > 1 {
		index, err := indexOf(images)
		if err != nil {
			return err
		}
		return top.AppendIndex(index, annotations)
	}
	config, err := images[0].ConfigFile()
	if err != nil {
		return err
	}
	return top.AppendImage(images[0], annotations, layout.WithPlatform(*config.Platform()))
}

// read reads all files of a directory.
func read(dir fs.FS) (files []File, err error) {
	err = fs.WalkDir(dir, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(dir, path)
		files = append(files, File{Name: path, Mode: 0o644, Content: content})
		return err
	})
	return files, err
}

// indexOf lists the images by their platforms.
func indexOf(images []v1.Image) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: config.Platform()}})
	}
	return index, nil
}

// Digest is that of the image as a registry would name it: of the only image, or
// of the index of all.
func Digest(images ...v1.Image) (string, error) {
	if len(images) == 1 {
		d, err := images[0].Digest()
		return d.String(), err
	}
	index, err := indexOf(images)
	if err != nil {
		return "", err
	}
	d, err := index.Digest()
	return d.String(), err
}

// dockerManifest is the manifest.json of "docker save", whose files are the blobs of
// the layout.
func dockerManifest(ref string, img v1.Image) ([]byte, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	blob := func(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	e := entry{Config: blob(manifest.Config.Digest), RepoTags: []string{ref}}
	for _, l := range manifest.Layers {
		e.Layers = append(e.Layers, blob(l.Digest))
	}
	return json.Marshal([]entry{e})
}
