package main

import (
	"bytes"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fairlead/fairlead/internal/tools/release/image"
)

const (
	home       = "https://github.com/fairlead/fairlead"
	repository = "ghcr.io/fairlead/fairlead"
	entrypoint = "fairlead" // the program that an image starts
)

// images writes an archive for each architecture of Linux, which Docker loads too,
// one of all architectures, as a registry has it, and the digest of that.
func (r *release) images(programs []program) error {
	var all []v1.Image
	for _, arch := range []string{"amd64", "arm64"} {
		files := r.files(programs, arch)
		if !slices.ContainsFunc(files, func(f image.File) bool { return f.Name == entrypoint }) {
			return fmt.Errorf("linux/%s: no program %s was built", arch, entrypoint)
		}
		img, err := image.Build(image.Spec{Arch: arch, Program: entrypoint, Created: r.at, Labels: r.labels(), Files: files})
		if err != nil {
			return err
		}
		if err := r.image("linux_"+arch, img); err != nil {
			return err
		}
		all = append(all, img)
	}
	if err := r.image("linux", all...); err != nil {
		return err
	}
	digest, err := image.Digest(all...)
	if err != nil {
		return err
	}
	return r.write("image-digest.txt", []byte(fmt.Sprintf("%s:%s@%s\n", repository, r.number(), digest)))
}

// files are those of an image: all programs for Linux, with the licences.
func (r *release) files(programs []program, arch string) []image.File {
	files := []image.File{
		{Name: "licenses/", Mode: 0o755},
		{Name: "licenses/LICENSE", Mode: 0o644, Content: r.licence},
		{Name: "licenses/THIRD-PARTY-NOTICES.txt", Mode: 0o644, Content: r.notices},
		{Name: "tmp/", Mode: 0o1777},
	}
	for _, p := range programs {
		if p.os == "linux" && p.arch == arch {
			files = append(files, image.File{Name: p.name, Mode: 0o755, Content: p.content})
		}
	}
	return files
}

func (r *release) image(suffix string, images ...v1.Image) error {
	var buffer bytes.Buffer
	if err := image.Archive(&buffer, repository+":"+r.number(), images...); err != nil {
		return err
	}
	return r.write(fmt.Sprintf("fairlead_%s_image_%s.tar", r.number(), suffix), buffer.Bytes())
}

// labels are those of the image specification's annotations.md.
func (r *release) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":    "fairlead",
		"org.opencontainers.image.source":   home,
		"org.opencontainers.image.version":  r.version,
		"org.opencontainers.image.revision": r.commit,
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
}
