// Package image makes container images of static programs and writes them as
// archives, without a container engine. The same input gives the same bytes.
package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// File is a file of an image, or a directory if its name ends with a slash.
// Names have no leading slash.
type File struct {
	Name    string
	Mode    int64
	Content []byte
}

// Spec is what an image is made of.
type Spec struct {
	Arch    string            // as Go names it
	Program string            // name of the file that is the entry point
	Files   []File            // one layer
	Labels  map[string]string // none if nil
	Created time.Time         // of the image and its files; 1970 if zero
	Quick   bool              // compress little, for an image that stays on this machine
	Base    string            // path of a tar archive, the layer below the files; none if empty
	Args    []string          // of the program, unless a pod has its own
}

// Build makes an image for Linux with one layer, or two if it has a Base.
func Build(s Spec) (v1.Image, error) {
	if s.Created.IsZero() {
		s.Created = time.Unix(0, 0)
	}
	layers, err := s.layers()
	if err != nil {
		return nil, err
	}
	history := v1.History{Created: v1.Time{Time: s.Created.UTC()}, CreatedBy: "fairlead"}
	config := &v1.ConfigFile{
		Architecture: s.Arch,
		OS:           "linux",
		Created:      v1.Time{Time: s.Created.UTC()},
		RootFS:       v1.RootFS{Type: "layers"},
		Config:       v1.Config{Entrypoint: []string{"/" + s.Program}, Cmd: s.Args, Env: []string{s.path()}, WorkingDir: "/", Labels: s.Labels},
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, layer := range layers {
		diff, err := layer.DiffID()
		if err != nil {
			return nil, err
		}
		if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: history}); err != nil {
			return nil, err
		}
		config.RootFS.DiffIDs, config.History = append(config.RootFS.DiffIDs, diff), append(config.History, history)
	}
	return mutate.ConfigFile(img, config)
}

// path is where programs are looked for: in the root, and in a Base where Debian has
// them.
func (s Spec) path() string {
	if s.Base == "" {
		return "PATH=/"
	}
	return "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"
}

func (s Spec) layers() ([]v1.Layer, error) {
	files, err := s.layer()
	if err != nil || s.Base == "" {
		return []v1.Layer{files}, err
	}
	base, err := tarball.LayerFromFile(s.Base, tarball.WithCompressionLevel(s.level()), tarball.WithCompressedCaching, tarball.WithMediaType(types.OCILayer))
	return []v1.Layer{struct{ v1.Layer }{base}, files}, err
}

func (s Spec) level() int {
	if s.Quick {
		return gzip.BestSpeed
	}
	return gzip.DefaultCompression
}

func (s Spec) layer() (v1.Layer, error) {
	content, err := Tar(s.Files, s.Created)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithCompressionLevel(s.level()), tarball.WithCompressedCaching, tarball.WithMediaType(types.OCILayer))
	// This hides the layer's own descriptor: its annotations are empty and not absent,
	// so the manifest in memory would differ from the one that is written.
	return struct{ v1.Layer }{layer}, err
}

// Tar writes files by name, owned by root, as of one time.
func Tar(files []File, at time.Time) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, f := range files {
		header := &tar.Header{Name: f.Name, Mode: f.Mode, Size: int64(len(f.Content)), Typeflag: tar.TypeReg, ModTime: at.UTC(), Format: tar.FormatPAX}
		if strings.HasSuffix(f.Name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("tar %s: %w", f.Name, err)
		}
		if _, err := w.Write(f.Content); err != nil {
			return nil, fmt.Errorf("tar %s: %w", f.Name, err)
		}
	}
	err := w.Close()
	return buffer.Bytes(), err
}
