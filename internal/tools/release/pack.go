package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fairlead/fairlead/internal/tools/release/image"
)

const (
	home       = "https://github.com/fairlead/fairlead"
	repository = "ghcr.io/fairlead/fairlead"
)

// archive is the name of the archive of a command for a target.
func (r *release) archive(t target, command string) string {
	suffix := ".tar.gz"
	if t.os == "windows" {
		suffix = ".zip"
	}
	return fmt.Sprintf("%s_%s_%s_%s%s", command, r.number(), t.os, t.arch, suffix)
}

// archives holds each program with its licences.
func (r *release) archives(programs []program) error {
	for _, p := range programs {
		files := append(r.texts(""), image.File{Name: p.file(p.command), Mode: 0o755, Content: p.content})
		content, err := pack(p.os == "windows", files, r.at)
		if err != nil {
			return err
		}
		if err := r.write(r.archive(p.target, p.command), content); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) texts(dir string) []image.File {
	return []image.File{
		{Name: dir + "LICENSE", Mode: 0o644, Content: r.licence},
		{Name: dir + "THIRD-PARTY-NOTICES.txt", Mode: 0o644, Content: r.notices},
	}
}

func pack(zipped bool, files []image.File, at time.Time) ([]byte, error) {
	if zipped {
		return zipFiles(files, at)
	}
	content, err := image.Tar(files, at)
	if err != nil {
		return nil, err
	}
	return image.Gzip(content)
}

func zipFiles(files []image.File, at time.Time) ([]byte, error) {
	var buffer bytes.Buffer
	w := zip.NewWriter(&buffer)
	for _, f := range files {
		header := &zip.FileHeader{Name: f.Name, Method: zip.Deflate, Modified: at.UTC()}
		header.SetMode(os.FileMode(f.Mode))
		entry, err := w.CreateHeader(header)
		if err != nil {
			return nil, err
		}
		if _, err := entry.Write(f.Content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buffer.Bytes(), err
}

// images writes an archive for each architecture of Linux, which Docker loads too,
// and one of all, as a registry has it. An image holds every program for Linux.
func (r *release) images(programs []program) error {
	var all []v1.Image
	for _, t := range r.targets {
		if t.os != "linux" {
			continue
		}
		files := append(r.texts("licenses/"), image.File{Name: "licenses/", Mode: 0o755}, image.File{Name: "tmp/", Mode: 0o1777})
		for _, p := range programs {
			if p.target == t {
				files = append(files, image.File{Name: p.command, Mode: 0o755, Content: p.content})
			}
		}
		img, err := image.Build(image.Spec{Arch: t.arch, Program: mainCommand, Created: r.at, Labels: r.labels(), Files: files})
		if err != nil {
			return err
		}
		if err := r.image("linux_"+t.arch, img); err != nil {
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

// chart packs the chart, as "helm package" does but for the times of its files.
func (r *release) chart() error {
	dir := filepath.Join(r.root, "charts")
	var files []image.File
	err := filepath.WalkDir(filepath.Join(dir, "fairlead"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if name == "fairlead/Chart.yaml" {
			content = stamp(content, r.number())
		}
		files = append(files, image.File{Name: name, Mode: 0o644, Content: content})
		return err
	})
	if err != nil {
		return err
	}
	content, err := pack(false, files, r.at)
	if err != nil {
		return err
	}
	return r.write("fairlead-"+r.number()+".tgz", content)
}

var chartVersion = regexp.MustCompile(`(?m)^(version|appVersion): .*$`)

// stamp writes a version into a Chart.yaml.
func stamp(chart []byte, number string) []byte {
	return chartVersion.ReplaceAll(chart, []byte(`${1}: "`+number+`"`))
}

// checksums is in the form of sha256sum.
func (r *release) checksums() error {
	slices.Sort(r.written)
	var lines strings.Builder
	for _, name := range r.written {
		sum, err := r.sum(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%s  %s\n", sum, name)
	}
	return r.write(fmt.Sprintf("fairlead_%s_checksums.txt", r.number()), []byte(lines.String()))
}

func (r *release) sum(name string) (string, error) {
	content, err := os.ReadFile(filepath.Join(r.out, name))
	return fmt.Sprintf("%x", sha256.Sum256(content)), err
}
