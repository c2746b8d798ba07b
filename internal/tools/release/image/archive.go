package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Archive writes images that differ in their architecture as one tar, under one
// reference such as "example.com/name:tag". It is an OCI layout (image-spec 1.1,
// image-layout.md), which containerd imports, and has beside it the manifest.json
// by which Docker loads an image; that names the first image alone.
func Archive(w io.Writer, ref string, images ...v1.Image) error {
	index, err := indexOf(images)
	if err != nil {
		return fmt.Errorf("archive %s: %w", ref, err)
	}
	files, err := layoutFiles(ref, index, images)
	if err != nil {
		return fmt.Errorf("archive %s: %w", ref, err)
	}
	content, err := Tar(files, time.Unix(0, 0))
	if err != nil {
		return fmt.Errorf("archive %s: %w", ref, err)
	}
	_, err = w.Write(content)
	return err
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

// layoutFiles are the files of an OCI layout that holds the images and, if they are
// more than one, their index.
func layoutFiles(ref string, index v1.ImageIndex, images []v1.Image) ([]File, error) {
	blobs := blobs{}
	for _, img := range images {
		if err := blobs.image(img); err != nil {
			return nil, err
		}
	}
	top, err := descriptor(index, images)
	if err != nil {
		return nil, err
	}
	if len(images) > 1 {
		raw, err := index.RawManifest()
		if err != nil {
			return nil, err
		}
		blobs[top.Digest] = raw
	}
	// The full reference is for containerd, the tag alone for the specification.
	top.Annotations = map[string]string{"io.containerd.image.name": ref, "org.opencontainers.image.ref.name": tag(ref)}
	entry, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{top}})
	if err != nil {
		return nil, err
	}
	docker, err := dockerManifest(ref, images[0])
	if err != nil {
		return nil, err
	}
	files := []File{
		{Name: "oci-layout", Mode: 0o644, Content: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{Name: "index.json", Mode: 0o644, Content: entry},
		{Name: "manifest.json", Mode: 0o644, Content: docker},
	}
	for digest, content := range blobs {
		files = append(files, File{Name: blobName(digest), Mode: 0o644, Content: content})
	}
	return files, nil
}

func blobName(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

func descriptor(index v1.ImageIndex, images []v1.Image) (v1.Descriptor, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	if len(images) == 1 {
		return manifest.Manifests[0], nil
	}
	digest, err := index.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := index.Size()
	return v1.Descriptor{MediaType: types.OCIImageIndex, Digest: digest, Size: size}, err
}

// tag is what follows the colon of a reference.
func tag(ref string) string {
	for i := len(ref) - 1; i >= 0 && ref[i] != '/'; i-- {
		if ref[i] == ':' {
			return ref[i+1:]
		}
	}
	return "latest"
}

// dockerManifest is the manifest.json of "docker save".
func dockerManifest(ref string, img v1.Image) ([]byte, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	e := entry{Config: blobName(manifest.Config.Digest), RepoTags: []string{ref}}
	for _, l := range manifest.Layers {
		e.Layers = append(e.Layers, blobName(l.Digest))
	}
	return json.Marshal([]entry{e})
}

// blobs are contents by digest.
type blobs map[v1.Hash][]byte

func (b blobs) image(img v1.Image) error {
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	if b[digest], err = img.RawManifest(); err != nil {
		return err
	}
	if b[manifest.Config.Digest], err = img.RawConfigFile(); err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for i, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			return err
		}
		var content bytes.Buffer
		if _, err := content.ReadFrom(r); err != nil {
			return err
		}
		b[manifest.Layers[i].Digest] = content.Bytes()
	}
	return nil
}
